"""Sequence replay in host memory with a byte budget, spilling to files with a byte budget.

Every environment is one stream of rows, cut into chunks of equal length. A full chunk never changes
again: it is written to one file when a checkpoint needs it or when memory runs short, and its rows
are then read from there. Sequences cross chunk and episode boundaries (`is_first` marks those),
never a dropped episode.

    folder/stream-0003-chunk-000012.npy      full chunks, written once
    state() / restore()                      what a checkpoint keeps: lengths, drops, open chunks

Any chunk may have to be written, so all together are held to the disk budget, less a part of it
that is spare: the oldest chunks go when others come, but the last checkpoint still needs their
files, which stay on the spare part until the next one. Where that part runs short the replay is
`crowded`, and a checkpoint has to be written. So which rows can be drawn depends on the rows that
came and on nothing else. The checkpoint before the last finds its files, too, while they are not in
the way.
"""

import io
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stages import durable
from stages.priorities import Drawn, Priorities
from stages.settings import ReplaySettings

GIB = 2**30
SPARE = 8  # one part in so many of the disk budget is spare, or more where chunks are few


class ReplayError(ValueError):
    """Rows cannot be had: the budgets are too small, or a file is damaged; one line."""


@dataclass
class Stream:
    """Rows of one environment. `base` chunks at the front are gone; the last chunk is open."""

    chunks: list[np.ndarray | Path] = field(default_factory=list)  # in memory, or a file
    base: int = 0
    length: int = 0  # rows ever appended, those gone included
    episode_start: int = 0
    dropped: list[tuple[int, int]] = field(default_factory=list)  # [from, to) rows not to be drawn
    sums: dict[int, int] = field(default_factory=dict)  # CRC-32 of the rows of each file, by number
    saved: int = 0  # chunks, those gone included, that the last checkpoint knows the files of
    rewards: np.ndarray | None = None  # of all rows held, in the place of the recorded ones


class Replay:
    """Rows in, batches of sequences out.

    Args:
        row: one environment's row: key to array of any shape and dtype.
        streams: number of environments.
        folder: where full chunks are written.
        ahead: rows per stream that may come between two looks at `crowded`.
    """

    def __init__(
        self,
        row: Mapping[str, np.ndarray],
        streams: int,
        settings: ReplaySettings,
        folder: Path,
        ahead: int = 1,
    ):
        self.dtype = np.dtype([(key, value.dtype, value.shape) for key, value in row.items()])
        self.settings = settings
        self.folder = folder
        self.streams = [Stream() for _ in range(streams)]
        self.priorities = Priorities(streams, settings) if settings.priority else None
        self._chunk_bytes = self.dtype.itemsize * settings.chunk
        whole = io.BytesIO()
        np.save(whole, np.zeros(settings.chunk, self.dtype))
        self._header_bytes = len(whole.getvalue()) - self._chunk_bytes
        on_disk = int(settings.disk_gib * GIB) // self._chunk_bytes
        self._rush = streams * -(-ahead // settings.chunk)  # chunks that may go between two looks
        self._spare = max(on_disk // SPARE, self._rush)
        self._most = on_disk - self._spare  # chunks held
        self._gone: list[Path] = []  # files that the last checkpoint needs still
        self._gone_before: list[Path] = []  # and those that the one before needs
        # batches are drawn in a second thread while rows come in, and old chunks may go meanwhile
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Rows that can be drawn from."""
        return sum(s.length - s.base * self.settings.chunk for s in self.streams)

    def append(self, rows: Mapping[str, np.ndarray], fault: np.ndarray) -> None:
        """Add one row per stream; where `fault` is set, the stream's last episode is dropped."""
        with self._lock:
            self._append(rows, fault)

    def _append(self, rows: Mapping[str, np.ndarray], fault: np.ndarray) -> None:
        for index, stream in enumerate(self.streams):
            if fault[index] and stream.length > stream.episode_start:
                stream.dropped.append((stream.episode_start, stream.length))
            if rows["is_first"][index]:
                stream.episode_start = stream.length
            at = stream.length % self.settings.chunk
            if at == 0:
                self._make_room()
                stream.chunks.append(np.zeros(self.settings.chunk, self.dtype))
            chunk = stream.chunks[-1]
            assert not isinstance(chunk, Path), "the open chunk is in memory"
            row = chunk[at]
            for key in self.dtype.names or ():
                row[key] = rows[key][index]
            stream.length += 1

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], length: int
    ) -> dict[str, np.ndarray]:
        """Sequences [*shape, length, ...], starts uniform over all rows that allow them.

        Raises:
            ValueError: no stream is long enough yet.
        """
        with self._lock:
            out = self._sample(rng, int(np.prod(shape)), length)
        return self._shaped(out, shape)

    def sample_by_priority(
        self, rng: np.random.Generator, shape: tuple[int, ...], length: int
    ) -> tuple[dict[str, np.ndarray], Drawn]:
        """Sequences [*shape, length, ...] by their priorities, and which they are [*shape].

        Raises:
            ValueError: there is none yet.
        """
        assert self.priorities is not None, "replay.priority is above 0"
        number = int(np.prod(shape))
        out = np.empty((number, length), self.dtype)
        with self._lock:
            first = [self._first(s) for s in self.streams]
            allowed = [self._allowed(s, length) for s in self.streams]
            drawn = self.priorities.draw(rng, number, first, allowed)
            for target, stream, start in zip(out, drawn.stream, drawn.start, strict=True):
                self._copy(self.streams[stream], int(start), target)
        return self._shaped(out, shape), Drawn(*(part.reshape(shape) for part in drawn))

    def learnt(self, drawn: Drawn, errors: np.ndarray) -> None:
        """Keep the errors [...] of sequences that were drawn by their priorities."""
        assert self.priorities is not None, "replay.priority is above 0"
        with self._lock:
            self.priorities.learnt(drawn, errors)

    def _shaped(self, out: np.ndarray, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        """Sequences by key, their number as a shape."""
        length = out.shape[1]
        return {
            key: out[key].reshape(*shape, length, *out[key].shape[2:])
            for key in self.dtype.names or ()
        }

    def _allowed(self, stream: Stream, length: int) -> np.ndarray:
        """Whether a sequence may begin at each of a stream's rows that have enough after them."""
        first = self._first(stream)
        allowed = np.ones(max(stream.length - first - length + 1, 0), bool)
        for begin, end in stream.dropped:
            allowed[max(begin - length + 1 - first, 0) : max(end - first, 0)] = False
        return allowed

    def _sample(self, rng: np.random.Generator, number: int, length: int) -> np.ndarray:
        out = np.empty((number, length), self.dtype)
        room = np.array([self._first(s) for s in self.streams])
        starts = np.array([s.length for s in self.streams]) - room - length + 1
        starts = np.maximum(starts, 0)
        total = int(starts.sum())
        if total == 0:
            raise ValueError(f"replay holds no sequence of {length} steps yet")
        ends = np.cumsum(starts)
        for target in out:
            for _ in range(1000):
                draw = int(rng.integers(total))
                index = int(np.searchsorted(ends, draw, side="right"))
                start = int(room[index] + draw - (ends[index] - starts[index]))
                if self._copy(self.streams[index], start, target):
                    break
            else:
                raise ValueError("replay holds hardly any episode that was not dropped")
        return out

    def relabel(self, label: Callable[[Mapping[str, np.ndarray]], np.ndarray]) -> None:
        """Draw other rewards than the recorded ones from now on; no rows may come any more.

        Args:
            label: an episode's rows in their order, [T, ...] by key, to its rewards [T].
        """
        for stream in self.streams:
            found = [
                label({k: rows[k] for k in self.dtype.names or ()})
                for rows in _episodes(self._held(stream))
            ]
            stream.rewards = np.concatenate([np.zeros(0, np.float32), *found])

    def ready(self, length: int) -> bool:
        """Whether a sequence of `length` steps can be drawn."""
        return any(s.length - self._first(s) >= length for s in self.streams)

    def check(self, length: int) -> None:
        """Refuse budgets within which a sequence of `length` steps may be missing.

        Raises:
            ReplayError: naming the least budgets.
        """
        streams, chunk = len(self.streams), self.settings.chunk
        held = streams * (1 + -(-length // chunk))
        for name, given, chunks in (
            ("memory_gib", self.settings.memory_gib, streams),
            ("disk_gib", self.settings.disk_gib, held + self._rush),
        ):
            least = chunks * self._chunk_bytes / GIB
            if given < least:
                raise ReplayError(
                    f"replay.{name} = {given:g} is too small for {streams} environments with "
                    f"replay.chunk = {chunk}: set it to {least * 1.01:.2g} or more"
                )

    @property
    def crowded(self) -> bool:
        """Whether a checkpoint must be written before more rows come, lest disk run short."""
        return len(self._gone) + self._rush > self._spare

    def bytes_in_memory(self) -> int:
        """Host memory held by chunks that are not in a file."""
        return self._chunk_bytes * sum(
            not isinstance(chunk, Path) for s in self.streams for chunk in s.chunks
        )

    def state(self) -> tuple[dict[str, Any], np.ndarray]:
        """What a checkpoint keeps: a JSON-able table and open chunks. Full chunks are written."""
        with self._lock:
            return self._state()

    def _state(self) -> tuple[dict[str, Any], np.ndarray]:
        for index, number in list(self._full_in_memory()):
            self._write(index, number)
        for stream in self.streams:
            stream.saved = stream.length // self.settings.chunk
        table: dict[str, Any] = {
            "chunk": self.settings.chunk,
            "streams": [
                {
                    "base": s.base,
                    "length": s.length,
                    "episode_start": s.episode_start,
                    "dropped": [list(pair) for pair in s.dropped],
                    "sums": [s.sums[number] for number in range(s.base, s.saved)],
                }
                for s in self.streams
            ],
        }
        if self.priorities is not None:
            table["priorities"] = self.priorities.state()
        tails = np.zeros((len(self.streams), self.settings.chunk), self.dtype)
        for tail, stream in zip(tails, self.streams, strict=True):
            if stream.chunks and not isinstance(stream.chunks[-1], Path):
                tail[:] = stream.chunks[-1]
        return table, tails

    def restore(
        self,
        table: Mapping[str, Any],
        tails: np.ndarray,
        *,
        clean: bool = True,
        others: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """Go back to a state; with `clean`, files that neither it nor `others` know are removed.

        Raises:
            ReplayError: the rows have other keys, shapes or chunks than this replay's, or a file is
                missing or damaged. Nothing was changed.
        """
        if tails.dtype != self.dtype or table["chunk"] != self.settings.chunk:
            raise ReplayError(f"replay rows are {tails.dtype}, expected {self.dtype}")
        known = self._files(table)
        sums = [self._sum(path) for path in known]
        noted = [number for row in table["streams"] for number in row.get("sums", ())]
        for path, number, wanted in zip(known, sums, noted or sums, strict=True):
            if number != wanted:
                raise ReplayError(f"{path}: is damaged: its rows are not those that were written")
        sum_of = dict(zip(known, sums, strict=True))
        for index, (stream, row) in enumerate(zip(self.streams, table["streams"], strict=True)):
            stream.base, stream.length = row["base"], row["length"]
            stream.episode_start = row["episode_start"]
            stream.dropped = [(a, b) for a, b in row["dropped"]]
            stream.saved = stream.length // self.settings.chunk
            stream.chunks = [self._path(index, n) for n in range(stream.base, stream.saved)]
            stream.sums = {
                n: sum_of[self._path(index, n)] for n in range(stream.base, stream.saved)
            }
            if stream.length % self.settings.chunk:
                stream.chunks.append(np.array(tails[index]))
        if self.priorities is not None and "priorities" in table:
            self.priorities.restore(table["priorities"])
        if clean and self.folder.exists():
            files = set(self.folder.glob("stream-*"))
            older = {path for other in others for path in self._files(other, before=table)}
            self._gone, self._gone_before = [], sorted(files & older)
            for path in files - older - set(known):
                path.unlink()
            self._squeeze()

    def forget_gone(self, *, keep_previous: bool = False) -> None:
        """A checkpoint of `state()` is done: delete files that none needs any more.

        Args:
            keep_previous: the checkpoint before it is kept, so its files are too.
        """
        kept = self._gone if keep_previous else []
        for path in {*self._gone, *self._gone_before} - set(kept):
            path.unlink(missing_ok=True)
        self._gone, self._gone_before = [], kept

    def _first(self, stream: Stream) -> int:
        return stream.base * self.settings.chunk

    def _open(self, stream: Stream, number: int) -> bool:
        last = number == len(stream.chunks) - 1
        return last and stream.length % self.settings.chunk != 0

    def _copy(self, stream: Stream, start: int, target: np.ndarray) -> bool:
        """Copy rows from `start` into `target`; False where a dropped episode is in the way."""
        end = start + len(target)
        if any(a < end and start < b for a, b in stream.dropped):
            return False
        size = self.settings.chunk
        done = 0
        while done < len(target):
            number, at = divmod(start + done, size)
            count = min(size - at, len(target) - done)
            chunk = stream.chunks[number - stream.base]
            target[done : done + count] = (
                self._read(chunk, at, count) if isinstance(chunk, Path) else chunk[at : at + count]
            )
            done += count
        if stream.rewards is not None:
            first = self._first(stream)
            target["reward"] = stream.rewards[start - first : end - first]
        return True

    def _held(self, stream: Stream) -> Iterator[np.ndarray]:
        """The rows held of a stream, some at a time."""
        size = self.settings.chunk
        for number, chunk in enumerate(stream.chunks, stream.base):
            count = min(size, stream.length - number * size)
            yield self._read(chunk, 0, count) if isinstance(chunk, Path) else chunk[:count]

    def _read(self, path: Path, at: int, count: int) -> np.ndarray:
        """Some rows of a file; opened each time, as a map of every file would cost a descriptor."""
        offset = self._header_bytes + at * self.dtype.itemsize
        rows = np.fromfile(path, self.dtype, count, offset=offset)
        if len(rows) < count:
            raise ReplayError(f"{path}: is cut off")
        return rows

    def _files(
        self, table: Mapping[str, Any], before: Mapping[str, Any] | None = None
    ) -> list[Path]:
        """The files of full chunks that a state needs, or of those that are gone in another."""
        found = []
        for index, row in enumerate(table["streams"]):
            end = row["length"] // self.settings.chunk
            if before is not None:
                end = min(end, before["streams"][index]["base"])
            found += [self._path(index, number) for number in range(row["base"], end)]
        return found

    def _sum(self, path: Path) -> int:
        """CRC-32 of a file's rows."""
        expected = self._header_bytes + self._chunk_bytes
        found = path.stat().st_size if path.exists() else None
        if found != expected:
            said = "is missing" if found is None else f"has {found} bytes instead of {expected}"
            raise ReplayError(f"{path}: {said}")
        return zlib.crc32(path.read_bytes()[self._header_bytes :])

    def _path(self, stream: int, number: int) -> Path:
        return self.folder / f"stream-{stream:04d}-chunk-{number:06d}.npy"

    def _write(self, index: int, number: int) -> None:
        """Put a full chunk on disk and read it from there from now on."""
        stream = self.streams[index]
        chunk = stream.chunks[number]
        assert not isinstance(chunk, Path), "it is written once"
        path = self._path(index, stream.base + number)
        with durable.replaced(path) as partial:
            np.save(partial, chunk)
        stream.chunks[number] = path
        stream.sums[stream.base + number] = zlib.crc32(chunk.tobytes())

    def _make_room(self) -> None:
        """Let the oldest chunks go that are too many with one more; spill what memory lacks."""
        while sum(len(s.chunks) for s in self.streams) >= self._most and self._let_go():
            pass
        while self.bytes_in_memory() + self._chunk_bytes > self.settings.memory_gib * GIB:
            spillable = list(self._full_in_memory())
            if not spillable:
                break
            self._write(*min(spillable, key=lambda pair: self._age(*pair)))

    def _let_go(self) -> bool:
        """Drop the oldest full chunk; False if there is none."""
        full = [i for i, s in enumerate(self.streams) if s.chunks and not self._open(s, 0)]
        if not full:
            return False
        index = min(full, key=lambda i: self.streams[i].base)
        stream = self.streams[index]
        chunk = stream.chunks.pop(0)
        if isinstance(chunk, Path):
            if stream.base < stream.saved:
                self._gone.append(chunk)
                self._squeeze()
            else:
                chunk.unlink(missing_ok=True)
        stream.sums.pop(stream.base, None)
        stream.base += 1
        first = self._first(stream)
        stream.dropped = [pair for pair in stream.dropped if pair[1] > first]
        return True

    def _squeeze(self) -> None:
        """Delete what only the checkpoint before the last needs, where it is in the way."""
        while self._gone_before and len(self._gone) + len(self._gone_before) > self._spare:
            self._gone_before.pop(0).unlink(missing_ok=True)

    def _full_in_memory(self) -> Iterable[tuple[int, int]]:
        for index, stream in enumerate(self.streams):
            for number, chunk in enumerate(stream.chunks):
                if not isinstance(chunk, Path) and not self._open(stream, number):
                    yield index, number

    def _age(self, index: int, number: int) -> int:
        return self.streams[index].base + number


def _episodes(pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Rows cut where episodes begin; the first may have lost its beginning."""
    rest: list[np.ndarray] = []
    for piece in pieces:
        starts = np.flatnonzero(piece["is_first"])
        for part, begins in zip(
            np.split(piece, starts), [False, *[True] * len(starts)], strict=True
        ):
            if begins and rest:
                yield np.concatenate(rest)
                rest = []
            if len(part):
                rest.append(part)
    if rest:
        yield np.concatenate(rest)

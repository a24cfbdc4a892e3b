"""Sequence replay in host memory with a byte budget, spilling to memory-mapped files.

Every environment is one stream of rows, cut into chunks of equal length. A full chunk never changes
again: it is written to one file when a checkpoint needs it or when memory runs short, and is then
read through a memory map. When the disk budget is spent too, the oldest chunks of a stream go.
Sequences cross chunk and episode boundaries (`is_first` marks those), never a dropped episode.

    folder/stream-0003-chunk-000012.npy      full chunks, written once
    state() / restore()                      what a checkpoint keeps: lengths, drops, open chunks
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stages.settings import ReplaySettings

GIB = 2**30


@dataclass
class Stream:
    """Rows of one environment. `base` chunks at the front are gone; the last chunk is open."""

    chunks: list[np.ndarray] = field(default_factory=list)
    base: int = 0
    length: int = 0  # rows ever appended, those gone included
    episode_start: int = 0
    dropped: list[tuple[int, int]] = field(default_factory=list)  # [from, to) rows not to be drawn


class Replay:
    """Rows in, batches of sequences out.

    Args:
        row: one environment's row: key to array of any shape and dtype.
        streams: number of environments.
        folder: where full chunks are written.
    """

    def __init__(
        self, row: Mapping[str, np.ndarray], streams: int, settings: ReplaySettings, folder: Path
    ):
        self.dtype = np.dtype([(key, value.dtype, value.shape) for key, value in row.items()])
        self.settings = settings
        self.folder = folder
        self.streams = [Stream() for _ in range(streams)]
        self._chunk_bytes = self.dtype.itemsize * settings.chunk
        self._gone: list[Path] = []
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
            row = stream.chunks[-1][at]
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
        return {
            key: out[key].reshape(*shape, length, *out[key].shape[2:])
            for key in self.dtype.names or ()
        }

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

    def ready(self, length: int) -> bool:
        """Whether a sequence of `length` steps can be drawn."""
        return any(s.length - self._first(s) >= length for s in self.streams)

    def bytes_in_memory(self) -> int:
        """Host memory held by chunks that are not memory-mapped."""
        return self._chunk_bytes * sum(
            not isinstance(chunk, np.memmap) for s in self.streams for chunk in s.chunks
        )

    def state(self) -> tuple[dict[str, Any], np.ndarray]:
        """What a checkpoint keeps: a JSON-able table and open chunks. Full chunks are written."""
        for index, stream in enumerate(self.streams):
            for number in range(len(stream.chunks)):
                if not self._open(stream, number):
                    self._write(index, number)
        table = {
            "chunk": self.settings.chunk,
            "streams": [
                {
                    "base": s.base,
                    "length": s.length,
                    "episode_start": s.episode_start,
                    "dropped": [list(pair) for pair in s.dropped],
                }
                for s in self.streams
            ],
        }
        tails = np.zeros((len(self.streams), self.settings.chunk), self.dtype)
        for tail, stream in zip(tails, self.streams, strict=True):
            if stream.chunks and self._open(stream, len(stream.chunks) - 1):
                tail[:] = stream.chunks[-1]
        return table, tails

    def restore(self, table: Mapping[str, Any], tails: np.ndarray, *, clean: bool = True) -> None:
        """Go back to a state; with `clean`, files that it does not know are removed.

        Raises:
            ValueError: the rows have other keys, shapes or chunks than this replay's.
        """
        if tails.dtype != self.dtype or table["chunk"] != self.settings.chunk:
            raise ValueError(f"replay rows are {tails.dtype}, expected {self.dtype}")
        known = set()
        for index, (stream, row) in enumerate(zip(self.streams, table["streams"], strict=True)):
            stream.base, stream.length = row["base"], row["length"]
            stream.episode_start = row["episode_start"]
            stream.dropped = [(a, b) for a, b in row["dropped"]]
            stream.chunks = []
            full = stream.length // self.settings.chunk
            for number in range(stream.base, full):
                path = self._path(index, number)
                known.add(path)
                stream.chunks.append(np.load(path, mmap_mode="r"))
            if stream.length % self.settings.chunk:
                stream.chunks.append(np.array(tails[index]))
        if clean and self.folder.exists():
            for path in set(self.folder.glob("stream-*")) - known:
                path.unlink()

    def forget_gone(self) -> None:
        """Delete files of chunks that no checkpoint needs any more (after a checkpoint is done)."""
        for path in self._gone:
            path.unlink(missing_ok=True)
        self._gone = []

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
            target[done : done + count] = stream.chunks[number - stream.base][at : at + count]
            done += count
        return True

    def _path(self, stream: int, number: int) -> Path:
        return self.folder / f"stream-{stream:04d}-chunk-{number:06d}.npy"

    def _write(self, index: int, number: int) -> None:
        """Put a full chunk on disk and read it through a memory map from now on."""
        stream = self.streams[index]
        chunk = stream.chunks[number]
        if isinstance(chunk, np.memmap):
            return
        path = self._path(index, stream.base + number)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.save(file, chunk)
        partial.replace(path)
        stream.chunks[number] = np.load(path, mmap_mode="r")

    def _make_room(self) -> None:
        """Spill the oldest chunks past the memory budget; past the disk budget they go."""
        while self.bytes_in_memory() + self._chunk_bytes > self.settings.memory_gib * GIB:
            spillable = list(self._full_in_memory())
            if not spillable:
                break
            self._write(*min(spillable, key=lambda pair: self._age(*pair)))
        on_disk = sum(isinstance(c, np.memmap) for s in self.streams for c in s.chunks)
        if (on_disk + 1) * self._chunk_bytes > self.settings.disk_gib * GIB and on_disk:
            index = min(
                (
                    i
                    for i, s in enumerate(self.streams)
                    if s.chunks and isinstance(s.chunks[0], np.memmap)
                ),
                key=lambda i: self.streams[i].base,
            )
            stream = self.streams[index]
            self._gone.append(self._path(index, stream.base))
            stream.chunks.pop(0)
            stream.base += 1
            first = self._first(stream)
            stream.dropped = [pair for pair in stream.dropped if pair[1] > first]

    def _full_in_memory(self) -> Iterable[tuple[int, int]]:
        for index, stream in enumerate(self.streams):
            for number, chunk in enumerate(stream.chunks):
                if not isinstance(chunk, np.memmap) and not self._open(stream, number):
                    yield index, number

    def _age(self, index: int, number: int) -> int:
        return self.streams[index].base + number

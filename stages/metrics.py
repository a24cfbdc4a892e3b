"""A job's metrics as JSON lines (the source of truth), and its progress for people who wait."""

import contextlib
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class MetricsError(Exception):
    """The rows of a checkpoint are not all there; one line."""


class Metrics:
    """Appends rows to `metrics.jsonl`; what is not a finite number becomes null."""

    def __init__(self, path: Path, keep_bytes: int = 0):
        """Open a log cut back to `keep_bytes`, the length its checkpoint knows.

        Raises:
            MetricsError: it is shorter than that.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        size = path.stat().st_size if path.exists() else 0
        if size < keep_bytes:
            raise MetricsError(f"{path}: has {size} bytes of {keep_bytes}, so rows are lost")
        self.path = path
        self._file = path.open("ab")
        self._file.truncate(keep_bytes)
        self._file.seek(keep_bytes)

    def write(self, kind: str, **values: Any) -> None:
        """One row."""
        row = {"kind": kind} | {name: plain(value) for name, value in values.items()}
        self._file.write((json.dumps(row) + "\n").encode())
        self._file.flush()

    def size(self) -> int:
        """Bytes written, on disk for good."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # a full disk, of which `write` has told
            self._file.close()


def plain(value: Any) -> Any:
    """Numbers, lists and tables that JSON can hold; not-a-number and infinity become None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


class Progress:
    """Writes `progress.json`, at most twice a second."""

    def __init__(self, folder: Path, phase: str, total: int, unit: str = "env steps"):
        self.path = folder / "progress.json"
        self.phase, self.total, self.unit = phase, total, unit
        self.started = time.time()
        self._first: int | None = None
        self._last = 0.0

    def show(self, done: int) -> None:
        """Say how far the job is; the rate counts since this process took it up."""
        now = time.time()
        if self._first is None:
            self._first = done
        if now - self._last < 0.5 and done < self.total:
            return
        self._last = now
        rate = (done - self._first) / max(now - self.started, 1e-6)
        row = {
            "phase": self.phase,
            "done": done,
            "total": self.total,
            "unit": self.unit,
            "rate": rate,
            "started": self.started,
            "updated": now,
        }
        partial = self.path.with_suffix(".partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(row))
        partial.replace(self.path)


class Stopwatch:
    """Seconds by part, for the picture of where the time went."""

    PARTS = ("update", "policy", "simulator", "replay", "checkpoint", "evaluation", "compile")

    def __init__(self, before: Mapping[str, float] | None = None):
        self.seconds = dict.fromkeys(self.PARTS, 0.0) | dict(before or {})
        self.total_before = self.seconds.pop("total", 0.0)
        self.started = time.perf_counter()

    def __call__(self, part: str) -> "_Lap":
        """A context whose duration counts towards `part`."""
        return _Lap(self, part)

    def table(self) -> dict[str, float]:
        """Seconds by part, what is left over as `other`, and all as `seconds`."""
        total = self.total()
        spent = sum(self.seconds.values())
        return self.seconds | {"other": max(total - spent, 0.0), "seconds": total}

    def total(self) -> float:
        """Seconds since the job began, interruptions left out."""
        return self.total_before + time.perf_counter() - self.started

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return self.seconds | {"total": self.total()}


class _Lap:
    def __init__(self, watch: Stopwatch, part: str):
        self.watch, self.part = watch, part

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.watch.seconds[self.part] += time.perf_counter() - self.start

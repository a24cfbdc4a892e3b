"""Progress of a run: bars in a terminal, plain lines elsewhere.

Jobs write `progress.json`; nothing here is needed for a job to run.
"""

import contextlib
import math
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from pipeline.jobs import Job
from pipeline.states import read_json
from pipeline.work import Result

_PLAIN_EVERY = 30.0  # seconds between lines on a running job, without a terminal


@dataclass(frozen=True)
class Reading:
    """A job's own word on how far it is."""

    phase: str
    done: int
    total: int
    unit: str
    rate: float | None  # per second
    updated: float

    @property
    def left(self) -> float | None:
        """Seconds left in this phase."""
        return max(0, self.total - self.done) / self.rate if self.rate else None

    def __str__(self) -> str:
        rate = f"{self.rate:,.0f}/s" if self.rate and self.rate >= 10 else f"{self.rate or 0:.1f}/s"
        left = f", {duration(self.left)} left" if self.left is not None else ""
        return f"{self.phase} {self.done:,}/{self.total:,} {self.unit} {rate}{left}"


def read_progress(folder: Path) -> Reading | None:
    """`progress.json` of a job, None if there is none yet."""
    data = read_json(folder / "progress.json")
    if data is None:
        return None
    try:
        return Reading(
            str(data["phase"]),
            int(data["done"]),
            int(data["total"]),
            str(data["unit"]),
            float(data["rate"]) if data.get("rate") is not None else None,
            float(data["updated"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def duration(seconds: float | None) -> str:
    """`95` -> `1m35s`."""
    if seconds is None or not math.isfinite(seconds):
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class PlainWatcher:
    """One line per event, and a line on each running job now and then."""

    def __init__(self, root: Path, total: int) -> None:
        self._root, self._total, self._ended = root, total, 0
        self._running: dict[str, float] = {}  # id -> time of its last line
        self._lock = threading.Lock()

    def started(self, job: Job) -> None:
        with self._lock:
            self._running[job.id] = time.monotonic()
        self._say(f"start   {job.id}")

    def finished(self, job: Job, result: Result) -> None:
        with self._lock:
            self._running.pop(job.id, None)
        self._ended += 1
        counter = f"[{self._ended}/{self._total}]"
        if result.outcome == "finished":
            self._say(f"done    {job.id} in {duration(result.seconds)} {counter}")
        else:
            self._say(failure(self._root, job, result))

    def skipped(self, job: Job, cause: str) -> None:
        self._ended += 1
        self._say(f"skipped {job.id}: needs {cause}")

    def tick(self) -> None:
        now = time.monotonic()
        with self._lock:
            late = [id for id, last in self._running.items() if now - last >= _PLAIN_EVERY]
            self._running |= dict.fromkeys(late, now)
        for id in late:
            if (reading := read_progress(self._root / id)) is not None:
                self._say(f"        {id}: {reading}")

    def close(self) -> None:
        """Nothing to tidy."""

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # nobody may be listening; the work goes on
            print(line, file=sys.stderr, flush=True)


class TerminalWatcher:
    """A bar for all jobs and a bar for each running one."""

    def __init__(self, root: Path, total: int, console: Console) -> None:
        self._root = root
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}"),
            console=console,
            refresh_per_second=4,
        )
        self._overall = self._progress.add_task("[bold]jobs", total=total, note=f"0/{total}")
        self._total = total
        self._bars: dict[str, TaskID] = {}
        self._started = time.monotonic()
        self._progress.start()

    def started(self, job: Job) -> None:
        self._bars[job.id] = self._progress.add_task(job.id, total=None, note="starting")

    def finished(self, job: Job, result: Result) -> None:
        self._progress.remove_task(self._bars.pop(job.id))
        if result.outcome == "failed":
            self._progress.console.print(failure(self._root, job, result), markup=False)
        self._advance()

    def skipped(self, job: Job, cause: str) -> None:
        self._progress.console.print(f"skipped {job.id}: needs {cause}", markup=False)
        self._advance()

    def tick(self) -> None:
        for id, bar in list(self._bars.items()):
            reading = read_progress(self._root / id)
            if reading is not None:
                self._progress.update(
                    bar, total=reading.total, completed=reading.done, note=str(reading)
                )

    def close(self) -> None:
        """Give the terminal back."""
        self._progress.stop()

    def _advance(self) -> None:
        self._progress.advance(self._overall)
        done = int(self._progress.tasks[0].completed)
        spent = duration(time.monotonic() - self._started)
        self._progress.update(self._overall, note=f"{done}/{self._total} in {spent}")


def watcher(root: Path, total: int) -> PlainWatcher | TerminalWatcher:
    """Bars if somebody watches, lines otherwise."""
    console = Console(stderr=True)
    return (
        TerminalWatcher(root, total, console) if console.is_terminal else PlainWatcher(root, total)
    )


def failure(root: Path, job: Job, result: Result) -> str:
    """The one line on a failed job."""
    return f"FAILED  {root / job.id}: {result.message} (error.txt there has the whole story)"

"""`craik status`: the state of every job of a run, read from its folder alone."""

import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import StudyError
from pipeline.jobs import Job, build
from pipeline.progress import Reading, duration, read_progress
from pipeline.run_folder import RunFolder
from pipeline.states import read_json, state

_FRESH = 120.0  # seconds without news after which a job of a held folder counts as waiting


@dataclass(frozen=True)
class JobStatus:
    """One row of the table."""

    job: str
    stage: str
    task: str
    arm: str | None
    seed: int
    state: str  # due | running | interrupted | failed | finished
    progress: str
    seconds: float | None


def statuses(root: Path) -> list[JobStatus]:
    """The state of every job of a run.

    Raises:
        StudyError: the folder holds no run.
    """
    folder = RunFolder(root)
    if not root.is_dir():
        raise StudyError(f"{root}: no such folder")
    graph = build(
        folder.read_studies(),
        oracles=folder.record.get("oracles", ()),
        exploration=folder.outside_exploration(),
        root=root,
    )
    held = folder.is_held()
    return [_status(root / job.id, job, held) for job in graph.jobs.values()]


def _status(folder: Path, job: Job, held: bool) -> JobStatus:
    kind: str = state(folder)
    reading = read_progress(folder)
    if held and kind == "interrupted" and _fresh(folder, reading):
        kind = "running"
    done = read_json(folder / "done.json") or {}
    note = str(reading) if reading and kind in ("running", "interrupted") else ""
    if kind == "failed":
        note = _last_line(folder / "error.txt")
    seconds = done.get("seconds")
    seconds = seconds if isinstance(seconds, int | float) else None
    return JobStatus(job.id, job.stage, job.task, job.arm, job.seed, kind, note, seconds)


def _fresh(folder: Path, reading: Reading | None) -> bool:
    newest = reading.updated if reading else (folder / "job.json").stat().st_mtime
    return time.time() - newest < _FRESH


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def as_json(rows: list[JobStatus]) -> dict[str, object]:
    """The table as plain data, with counts by state."""
    counts = Counter(row.state for row in rows)
    return {"counts": dict(counts), "jobs": [asdict(row) for row in rows]}


def as_rows(rows: list[JobStatus]) -> list[tuple[str, str, str]]:
    """Job, state and what there is to say of it."""
    return [
        (row.job, row.state, row.progress or (f"in {duration(row.seconds)}" if row.seconds else ""))
        for row in rows
    ]

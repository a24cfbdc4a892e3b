"""What a run folder says about a job: due, interrupted, failed, finished, or made otherwise.

A job's folder holds `job.json` from its start, `error.txt` after a failure, and `done.json` at its
end, written last and at once, so that its presence means that the job is whole.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import StudyError
from pipeline.jobs import Graph, Job
from pipeline.toml import show
from stages import durable

State = Literal["due", "interrupted", "failed", "finished"]


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None if it is missing, unreadable or half-written."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON object so that a reader sees the old or the new one, never a half."""
    durable.write(path, json.dumps(data, indent=1) + "\n")


def state(folder: Path) -> State:
    """The state of the job whose folder this is."""
    if read_json(folder / "done.json") is not None:
        return "finished"
    if (folder / "error.txt").exists():
        return "failed"
    return "interrupted" if (folder / "job.json").exists() else "due"


def sums(folder: Path) -> dict[str, int]:
    """CRC-32 of the files of a job that figures are read from, by name."""
    files = sorted([*folder.glob("*.jsonl"), *folder.glob("*.npz")])
    return {file.name: zlib.crc32(file.read_bytes()) for file in files}


def refuse_damage(root: Path, graph: Graph) -> None:
    """Refuse to report what a finished job did not measure.

    Raises:
        StudyError: a file is gone or not as its job left it.
    """
    for id in graph.jobs:
        done, started = (read_json(root / id / f"{name}.json") or {} for name in ("done", "job"))
        if {"digest"} <= done.keys() & started.keys() and done["digest"] != started["digest"]:
            raise StudyError(
                f"{root / id}: its done.json is of another job than its job.json (damaged or"
                f" edited); remove {root / id}, and the same command does that job again"
            )
        left = _as_table(done.get("files"))
        if left and (found := sums(root / id)) != left:
            name = next(
                name
                for name in sorted(left.keys() | found.keys())
                if left.get(name) != found.get(name)
            )
            raise StudyError(
                f"{root / id / name}: not as its job left it (damaged, edited or gone); put it"
                f" back, or remove {root / id}, and the same command does that job again"
            )


@dataclass(frozen=True)
class Change:
    """A started or finished job whose settings or inputs are now others."""

    job: str
    state: State
    differences: tuple[str, ...]


def changed(root: Path, job: Job) -> Change | None:
    """How a job on disk differs from what the study now asks, or None."""
    folder = root / job.id
    record = read_json(folder / "done.json") or {}
    started = read_json(folder / "job.json") or {}
    known = record.get("digest") or started.get("digest")
    if known is None or known == job.digest:
        return None
    old = {"task": started.get("task")} | _as_table(started.get("settings"))
    new = {"task": job.task} | job.settings
    differences = tuple(
        f"{key} was {_shown(old, key)}, now {_shown(new, key)}"
        for key in sorted(old.keys() | new.keys(), key=lambda key: (key != "task", key))
        if old.get(key) != new.get(key)
    )
    return Change(job.id, state(folder), differences or ("its inputs differ",))


def _as_table(value: Any) -> dict[str, Any]:
    """What a record holds, nothing where it was damaged."""
    return value if isinstance(value, dict) else {}


def _shown(settings: Mapping[str, Any], key: str) -> str:
    value = settings.get(key)
    return "unset" if value is None else show(value)


def refuse_changes(root: Path, graph: Graph) -> None:
    """Refuse to go on where a started or finished job would have to be made anew.

    Raises:
        StudyError: with the difference of the first such job and how many there are.
    """
    found = [change for job in graph.jobs.values() if (change := changed(root, job)) is not None]
    if not found:
        return
    # a job whose own settings differ explains those that only have other inputs
    found.sort(key=lambda change: change.differences == ("its inputs differ",))
    first = found[0]
    shown = "; ".join(first.differences[:4])
    more = f"; {len(first.differences) - 4} more" if len(first.differences) > 4 else ""
    others = f" (and {len(found) - 1} other jobs)" if len(found) > 1 else ""
    verb = "is finished" if first.state == "finished" else "was started"
    raise StudyError(
        f"{root / first.job} {verb} with other settings: {shown}{more}{others};"
        " take another --out, or set them back"
    )


def due(root: Path, graph: Graph) -> list[Job]:
    """The jobs that are not finished, in the graph's order."""
    return [job for job in graph.jobs.values() if state(root / job.id) != "finished"]


def missing_inputs(root: Path, graph: Graph, jobs: list[Job]) -> list[str]:
    """Inputs of `jobs` that neither are finished nor belong to `graph`."""
    needed = dict.fromkeys(id for job in jobs for id in job.inputs if id not in graph.jobs)
    return [id for id in needed if state(root / id) != "finished"]

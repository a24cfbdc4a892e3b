"""The metrics of a run for TensorBoard; `metrics.jsonl` stays the source of truth.

    DIR/tensorboard/JOB/    one run of TensorBoard per job, named by the job's folder

The axis is env steps (updates, for jobs that take none). The folder is written anew each time, so
it never disagrees with what it was made from.
"""

import shutil
from pathlib import Path
from typing import Any

from stages.records import Row, json_lines, read
from tasks.contract import TaskError

FOLDER = "tensorboard"
AXES = ("env_steps", "updates")


def write(root: Path) -> tuple[Path, int]:
    """Write the event files of every job; returns their folder and how many jobs there are.

    Raises:
        TaskError: `root` is no run folder, or its `tensorboard/` holds something else.
        ImportError: tensorboardX is not installed.
    """
    from tensorboardX import SummaryWriter

    jobs = [path.parent for loop in read(root) for path in sorted(loop.root.rglob("metrics.jsonl"))]
    partial, final = root / f"{FOLDER}.partial", root / FOLDER
    for path in final.rglob("*"):
        if not path.is_dir() and not path.name.startswith("events.out.tfevents"):
            raise TaskError(f"{path} is no event file: move it, since {final} is written anew")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for job in jobs:
        with SummaryWriter(str(partial / job.relative_to(root))) as writer:
            for row in json_lines(job / "metrics.jsonl"):
                step = row.get("env_steps") or row.get("updates") or 0
                if not isinstance(step, int | float):
                    continue  # the line was damaged
                for name, value in scalars(row).items():
                    writer.add_scalar(name, value, int(step))
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    return final, len(jobs)


def scalars(row: Row) -> dict[str, float]:
    """A row's numbers by `kind/name`; lists by place, tables by key, what is unknown left out."""
    found: dict[str, float] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                add(f"{name}/{key}", inner)
        elif isinstance(value, list):
            for place, inner in enumerate(value):
                add(f"{name}/{place}", inner)
        elif isinstance(value, int | float):
            found[name] = float(value)

    for key, value in row.items():
        if key not in (*AXES, "kind", "environment"):
            add(f"{row.get('kind')}/{key}", value)
    return found

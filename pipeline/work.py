"""Doing one job: calling its stage on its folder, and saying there how it went."""

import contextlib
import fcntl
import importlib
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.compilation_cache import relieve
from pipeline.jobs import Job
from pipeline.states import sums, write_json
from stages.interruption import Interrupted
from tasks.contract import FAULTS

_PATIENCE = 30.0  # seconds for whoever worked on a job before to be gone

Modules = Mapping[str, str]
STAGE_MODULES: Modules = {
    "explore": "stages.explore",
    "transfer": "stages.transfer",
    "evaluate": "stages.evaluate",
}


@dataclass(frozen=True)
class Task:
    """A job as it is handed to a worker. Picklable."""

    job: Job
    root: Path
    version: str
    modules: Modules


@dataclass(frozen=True)
class Result:
    """How a job went."""

    id: str
    outcome: Literal["finished", "failed"]
    seconds: float
    message: str = ""  # one line, of a failure
    devices: Mapping[str, Any] | None = None


def do(task: Task) -> Result:
    """Run a job to its end. An exception becomes a failed result, with `error.txt` beside it.

    Raises:
        KeyboardInterrupt: the job was asked to stop, and did so after a checkpoint.
    """
    started = time.monotonic()
    folder = task.root / task.job.id
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            write_json(folder / "job.json", describe(task.job))
            (folder / "error.txt").unlink(missing_ok=True)
            module = importlib.import_module(task.modules[task.job.stage])
            module.run(task.job.study, _inputs(module, task), folder)
            record = {
                "digest": task.job.digest,
                "finished": time.time(),
                "seconds": time.monotonic() - started,
                "version": task.version,
                "files": sums(folder),
            }
            write_json(folder / "done.json", record)
    except Interrupted:
        raise KeyboardInterrupt from None  # not a failure: it wrote a checkpoint and goes on later
    except FAULTS as error:  # SystemExit: no code of a user ends more than its job
        leave_error(folder, traceback.format_exc())
        seconds = time.monotonic() - started
        return Result(task.job.id, "failed", seconds, one_line(error), devices())
    finally:
        relieve()
    return Result(task.job.id, "finished", record["seconds"], devices=devices())


def leave_error(folder: Path, text: str) -> None:
    """Write `error.txt`, if there is room for it: why a job failed."""
    with contextlib.suppress(OSError):
        (folder / "error.txt").write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a job's folder; who outlives a killed parent for a moment is waited for.

    Raises:
        TimeoutError: another process still works there.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    deadline = time.monotonic() + _PATIENCE
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{folder}: another process still works here") from None
                time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def describe(job: Job) -> dict[str, Any]:
    """`job.json`: what the job is and the settings that matter to it."""
    return {
        "stage": job.stage,
        "task": job.task,
        "arm": job.arm,
        "seed": job.seed,
        "planner": job.planner,
        "digest": job.digest,
        "settings": job.settings,
        "inputs": list(job.inputs),
    }


def one_line(error: BaseException) -> str:
    """An exception without its traceback."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _inputs(module: Any, task: Task) -> Any:
    job = task.job
    match job.stage:
        case "explore":
            return module.Inputs(job.seed, random=True) if job.random else module.Inputs(job.seed)
        case "transfer":
            source = job.exploration or next((task.root / id for id in job.inputs), None)
            return module.Inputs(job.task, job.arm, job.seed, source)
        case "evaluate":
            source = next((task.root / id for id in job.inputs), None)
            return module.Inputs(job.task, job.arm, job.seed, source, job.planner)


def devices() -> dict[str, Any] | None:
    """The devices JAX uses in this process, None if the job did not need JAX."""
    jax = sys.modules.get("jax")
    if jax is None:
        return None
    found = jax.devices()
    kind = found[0].device_kind if found[0].platform != "cpu" else _processor_name()
    return {"device": kind, "devices": [str(device) for device in found]}


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()

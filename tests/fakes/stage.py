"""A stage in a few lines: it writes what it was given, and does as the study's name tells it."""

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ExploreInputs:
    seed: int
    random: bool = False


@dataclass(frozen=True)
class TransferInputs:
    task: str
    arm: str
    seed: int
    exploration: Path | None


@dataclass(frozen=True)
class EvaluateInputs:
    task: str
    arm: str
    seed: int
    transfer: Path | None
    planner: str | None = None


def run(study: Any, inputs: Any, folder: Path) -> Path:
    """Write `out.json`; count runs in `runs.txt`; fail, die or dawdle if the name says so."""
    with (folder / "runs.txt").open("a") as runs:
        runs.write(f"{os.getpid()}\n")
    source = getattr(inputs, "exploration", None) or getattr(inputs, "transfer", None)
    if source is not None:
        assert (source / "done.json").exists() or (source / "array.npy").exists()
    print("said by", folder.name)
    progress = {"phase": "learn", "done": 5, "total": 10, "unit": "env steps", "rate": 2.5}
    now = {"started": time.time(), "updated": time.time()}
    (folder / "progress.json").write_text(json.dumps(progress | now))
    arm = getattr(inputs, "arm", None)
    flag = Path(os.environ["CRAIK_FAKE_FLAG"]) if "CRAIK_FAKE_FLAG" in os.environ else None
    if flag is not None and flag.exists() and arm == "model":
        match flag.read_text():
            case "raise":
                raise ValueError("the arm\nfell off")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                (folder / "hangs").touch()
                time.sleep(60)
    (folder / "out.json").write_text(json.dumps({"inputs": repr(inputs), "name": study.name}))
    (folder / "metrics.jsonl").write_text(json.dumps({"kind": "fake"}) + "\n")
    return folder

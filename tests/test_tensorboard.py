"""Event files of a run: what TensorBoard reads is what `metrics.jsonl` says."""

import json
import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from stages import tensorboard
from tasks.contract import TaskError
from tests import synthetic_run
from tests.synthetic_run import DESK


def events(folder: Path) -> list[tuple[str, int, float]]:
    """Name, step and value of every scalar of a folder's event file (TFRecord framing)."""
    (path,) = folder.glob("events.out.tfevents.*")
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + length])
        found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
        at += 16 + length
    return found


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return synthetic_run.write(tmp_path, tasks=DESK[:1], seeds=1, videos=False)


def test_every_job_has_its_events(run: Path) -> None:
    folder, jobs = tensorboard.write(run)
    assert folder == run / "tensorboard"
    assert jobs == len(list(run.rglob("metrics.jsonl")))
    job = Path("transfer") / synthetic_run.slug(DESK[0]) / "both" / "seed-0"
    lines = (run / job / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "evaluation"]
    returns = [(s, v) for name, s, v in events(folder / job) if name == "evaluation/return"]
    assert [step for step, _ in returns] == [row["env_steps"] for row in rows]
    assert [v for _, v in returns] == pytest.approx([row["return"] for row in rows])


def test_written_again_it_follows_the_metrics(run: Path) -> None:
    folder, _ = tensorboard.write(run)
    job = Path("transfer") / synthetic_run.slug(DESK[0]) / "both" / "seed-0"
    path = run / job / "metrics.jsonl"
    more = [
        {"kind": "evaluation", "env_steps": steps, "return": 7} for steps in (99_000, "damaged")
    ]
    synthetic_run.write_lines(path, [*map(json.loads, path.read_text().splitlines()), *more])
    assert ("evaluation/return", 99_000, 7.0) not in events(folder / job)
    tensorboard.write(run)
    assert ("evaluation/return", 99_000, 7.0) in events(folder / job)


def test_numbers_of_a_row() -> None:
    row = {"kind": "train", "env_steps": 8, "updates": 2, "loss": 0.5, "unknown": None,
           "moved": [0, 1], "part": {"a": 1.5, "b": None}, "task": "desk"}  # fmt: skip
    assert tensorboard.scalars(row) == {
        "train/loss": 0.5, "train/moved/0": 0.0, "train/moved/1": 1.0, "train/part/a": 1.5,
    }  # fmt: skip


def test_nothing_else_is_deleted_and_no_run_is_a_mistake(run: Path, tmp_path: Path) -> None:
    own = run / "tensorboard" / "notes.txt"
    own.parent.mkdir()
    own.write_text("mine")
    with pytest.raises(TaskError, match=r"notes\.txt is no event file"):
        tensorboard.write(run)
    assert own.read_text() == "mine"
    with pytest.raises(TaskError, match="no run here"):
        tensorboard.write(tmp_path / "nothing")

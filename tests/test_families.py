"""Agents that learn from real steps through all stages: carried, stopped, resumed, evaluated."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import checkpoints, evaluate, explore, interruption, training_loop, transfer
from stages.priorities import Priorities
from stages.records import json_lines
from stages.settings import Arm, Study
from tests import tiny

pytestmark = pytest.mark.slow

TASKS = {"simulator": ("maze/free", "maze/collect")}
MCTS = {"learn": "mcts", "collect": "mcts", "evaluate": "mcts"}
SEARCH = {"search": {"simulations": 3, "actions": 4, "considered": 2}}


def study_of(world_model: str, priority: float = 0.0, history: int = 1) -> Study:
    carry = ["world_model", "curious_policy"] if world_model == "muzero" else ["curious_policy"]
    free, task = TASKS.get(world_model, ("desk/free", "desk/reach:dense"))
    return tiny.study(
        task,
        tasks={"explore": free},
        agent={"world_model": world_model},
        muzero={"latent": 12, "unroll": 2, "projection": 8, "history": history},
        learning={"n_steps": 2},
        planning=SEARCH | (MCTS if world_model != "none" else {}),
        replay={"chunk": 16, "priority": priority},
        transfer={"arms": {"scratch": {}, "both": {"carry": carry}}},
    )


def digests(folder: Path) -> dict[str, str]:
    return {name: part["digest"] for name, part in checkpoints.components(folder).items()}


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for row in json_lines(folder / "metrics.jsonl") if row["kind"] != "time"]


@pytest.mark.parametrize(
    ("world_model", "priority", "history"),
    [
        ("muzero", 0.0, 1),
        ("simulator", 0.0, 1),
        ("none", 0.0, 1),
        ("muzero", 1.0, 3),
        ("simulator", 1.0, 1),
        ("none", 0.0, 3),
    ],
)
def test_all_stages(
    world_model: str,
    priority: float,
    history: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = study_of(world_model, priority, history)
    explored = explore.run(study, explore.Inputs(0), tmp_path / "explore")
    assert (explored / "open_loop.npz").exists() is (world_model == "muzero")
    task = study.tasks.transfer[0]
    inputs = transfer.Inputs(task, "both", 0, explored)
    whole = transfer.run(study, inputs, tmp_path / "whole")

    source, start = digests(explored / "checkpoint"), digests(whole / "start")
    carried = set(study.transfer.arms["both"].components) & set(source)
    assert {name for name in start if source[name] == start[name]} == carried
    end = digests(whole / "checkpoint")
    assert not any(start[name] == end[name] for name in start)

    asked = []
    collect = training_loop.TrainingLoop._collect

    def count(loop: training_loop.TrainingLoop) -> None:
        collect(loop)
        asked.append(loop.counters.env_steps)

    class Watch:
        def __enter__(self) -> Any:
            return lambda: asked[-1] >= 44

        def __exit__(self, *_: object) -> None:
            pass

    with monkeypatch.context() as patch:
        patch.setattr(training_loop.TrainingLoop, "_collect", count)
        patch.setattr(interruption, "watched", Watch)
        with pytest.raises(interruption.Interrupted):
            transfer.run(study, inputs, tmp_path / "stopped")
    transfer.run(study, inputs, tmp_path / "stopped")
    assert digests(tmp_path / "stopped" / "checkpoint") == end
    assert rows(tmp_path / "stopped") == rows(whole)

    folder = tmp_path / "evaluate"
    evaluate.run(study, evaluate.Inputs(task, "both", 0, whole), folder)
    found = json_lines(folder / "episodes.jsonl")
    assert {row["planner"] for row in found} == {study.planning.evaluate}


def test_errors_come_back_while_the_next_batches_are_drawn(tmp_path: Path) -> None:
    """Collecting overlaps with learning, half of each batch is of the exploration's replay."""
    study = study_of("none", 1.0)
    training = study.training.model_copy(update={"overlap": True})
    arms = {"half": Arm(replay_share=0.5)}
    transferring = study.transfer.model_copy(update={"arms": arms})
    study = study.model_copy(update={"training": training, "transfer": transferring})
    explored = explore.run(study, explore.Inputs(0), tmp_path / "explore")
    inputs = transfer.Inputs(study.tasks.transfer[0], "half", 0, explored)
    transfer.run(study, inputs, tmp_path / "half")
    for folder in (explored, tmp_path / "half"):
        progress, _ = checkpoints.restore_progress(checkpoints.find(folder))
        errors = Priorities(2, study.replay)
        errors.restore(progress["replay"]["priorities"])
        assert np.isfinite(np.concatenate(errors._errors)).sum() > 4

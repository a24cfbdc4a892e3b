"""Planners in whole jobs: when they act, what they want, and going on after a stop."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from policies.agent import objective_of
from policies.objectives import CuriosityObjective, CuriousTaskObjective, TaskObjective
from stages import checkpoints, evaluate, explore, interruption, training_loop, transfer
from stages.acting import AgentActor
from stages.settings import Study
from tests import tiny

TASK = "desk/reach:dense"
SMALL = {"samples": 8, "elites": 2, "iterations": 1, "horizon": 2}


def study(**planning: Any) -> Study:
    return tiny.study(TASK, planning=SMALL | planning)


def digests(folder: Path) -> dict[str, str]:
    return {name: row["digest"] for name, row in checkpoints.components(folder).items()}


def test_what_a_planner_wants() -> None:
    curious, dull = tiny.agent(curious=True), tiny.agent()
    assert isinstance(objective_of(curious, None), CuriosityObjective)
    assert isinstance(objective_of(curious, jnp.float32(0.1)), CuriousTaskObjective)
    assert type(objective_of(curious, 0.0)) is TaskObjective
    assert type(objective_of(dull, jnp.float32(0.1))) is TaskObjective


def test_a_planner_collects_once_something_is_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exploring it plans for the bonus; a carried curiosity fades for the planner too."""
    turns: list[tuple[bool, Any]] = []
    act = AgentActor.__call__

    def spy(self: AgentActor, *args: Any, **kwargs: Any) -> np.ndarray:
        if self.planner == "cem":
            turns.append((kwargs["plan"], kwargs["bonus_weight"]))
        return act(self, *args, **kwargs)

    monkeypatch.setattr(AgentActor, "__call__", spy)
    settings = study(collect="cem")
    exploration = explore.run(settings, explore.Inputs(0), tmp_path / "explore")
    planned = [plan for plan, _ in turns]
    assert planned == sorted(planned)  # the policy first, then the planner
    assert planned.count(True) > 10
    assert {weight for _, weight in turns} == {None}
    turns.clear()
    transfer.run(settings, transfer.Inputs(TASK, "both", 0, exploration), tmp_path / "transfer")
    planned, weights = zip(*turns, strict=True)
    assert list(planned) == sorted(planned)
    assert weights[0] == pytest.approx(0.1)
    assert list(weights) == sorted(weights, reverse=True)
    assert weights[-1] < 0.05


def test_an_interrupted_job_with_a_planner_ends_like_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the planner remembers is part of the checkpoint."""
    inputs, settings = transfer.Inputs(TASK, "scratch", 0), study(collect="mppi")
    whole = transfer.run(settings, inputs, tmp_path / "whole")
    steps: list[int] = []
    collect = training_loop.TrainingLoop._collect

    def count(loop: training_loop.TrainingLoop) -> None:
        collect(loop)
        steps.append(loop.counters.env_steps)

    class Watched:
        def __enter__(self) -> Any:
            return lambda: steps[-1] >= 52

        def __exit__(self, *_: object) -> None:
            pass

    with monkeypatch.context() as patch:
        patch.setattr(training_loop.TrainingLoop, "_collect", count)
        patch.setattr(interruption, "watched", Watched)
        with pytest.raises(interruption.Interrupted):
            transfer.run(settings, inputs, tmp_path / "stopped")
    assert 24 < steps[-1] < 80
    transfer.run(settings, inputs, tmp_path / "stopped")
    assert digests(tmp_path / "stopped") == digests(whole)


def test_episodes_name_the_planner_that_acted(tmp_path: Path) -> None:
    settings = study(evaluate="mppi")
    source = transfer.run(settings, transfer.Inputs(TASK, "scratch", 0), tmp_path / "transfer")
    returns = []
    for name in ("mppi", "none"):
        inputs = evaluate.Inputs(TASK, "scratch", 0, source)
        out = evaluate.run(study(evaluate=name), inputs, tmp_path / name)
        lines = [json.loads(line) for line in (out / "episodes.jsonl").read_text().splitlines()]
        assert {line["planner"] for line in lines} == {name}
        returns.append([line["return"] for line in lines])
    assert returns[0] != returns[1]

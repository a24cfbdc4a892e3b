"""Planners in whole jobs: when they act, what they want, and going on after a stop."""

import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policies.agent import objective_of
from policies.objectives import CuriosityObjective, CuriousTaskObjective, TaskObjective
from stages import checkpoints, evaluate, explore, interruption, training_loop, transfer
from stages.acting import AgentActor
from stages.expectations import Expectations
from stages.records import PLANNED, PLANNED_SEEN, SEEN
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


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]


def test_episodes_name_the_planner_that_acted(tmp_path: Path) -> None:
    settings = study(evaluate="mppi")
    source = transfer.run(settings, transfer.Inputs(TASK, "scratch", 0), tmp_path / "transfer")
    returns = []
    for name in ("mppi", "none"):
        inputs = evaluate.Inputs(TASK, "scratch", 0, source)
        out = evaluate.run(study(evaluate=name), inputs, tmp_path / name)
        lines = rows(out)
        assert {line["planner"] for line in lines} == {name}
        returns.append([line["return"] for line in lines])
    assert returns[0] != returns[1]
    # beside a main evaluation by the policy: the same as a main one by the planner gives
    inputs = evaluate.Inputs(TASK, "scratch", 0, source, planner="mppi")
    beside = rows(evaluate.run(study(), inputs, tmp_path / "none" / "mppi"))
    main = [row for row in rows(tmp_path / "mppi") if row["checkpoint"] == "final"]
    assert [row | {"checkpoint": "final"} for row in beside] == main
    assert {row["checkpoint"] for row in beside} == {PLANNED}
    assert {"job.json", "video.mp4"}.isdisjoint(p.name for p in (tmp_path / "none/mppi").iterdir())


@pytest.mark.parametrize("where", ["", pytest.param("@simulator", marks=pytest.mark.slow)])
def test_a_planner_named_with_its_size_acts_on_levels_of_both_kinds(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a main evaluation by a planner of that size does, without anything before the training; in
    the simulator as one does of an agent that has it for a model."""
    task, name = "maze/collect:small", f"mcts-3{where}"

    def of(evaluate: str, simulations: int) -> Study:
        search = {"simulations": simulations, "actions": 4, "considered": 2}
        return tiny.study(
            task,
            tasks={"explore": "maze/free:small", "levels": 2},
            agent={"world_model": "muzero"},
            muzero={"latent": 12, "unroll": 2, "projection": 8},
            planning={"evaluate": evaluate, "search": search},
        )

    def fresh(study: Study, spec: Any, inputs: Any, which: str) -> Any:
        return explore.fresh_agent(study, spec, 0, "transfer", curious=False)

    def with_model(study: Study, spec: Any, inputs: Any, which: str) -> Any:
        agent = fresh(study, spec, inputs, which)
        return evaluate._in_the_simulator(study, spec, agent) if where else agent

    monkeypatch.setattr(evaluate, "load_agent", with_model)
    main = rows(evaluate.run(of("mcts", 3), evaluate.Inputs(task, "scratch", 0), tmp_path / "main"))
    monkeypatch.setattr(evaluate, "load_agent", fresh)
    inputs = evaluate.Inputs(task, "scratch", 0, planner=name)
    beside = rows(evaluate.run(of("none", 7), inputs, tmp_path / "beside"))
    labels = {"final": PLANNED, SEEN: PLANNED_SEEN}
    assert beside == [
        row | {"checkpoint": labels[row["checkpoint"]], "planner": name}
        for row in main
        if row["checkpoint"] in labels
    ]
    assert len(beside) == 4
    unseen, seen = (
        [(r["return"], r["discounted_return"]) for r in half] for half in (beside[:2], beside[2:])
    )
    assert unseen != seen


def test_what_an_episode_brings_is_discounted_by_hand() -> None:
    """Two environments; the second begins anew with the third row."""
    told = Expectations(2, 0.5)
    told.begin(np.array([True, True]), np.array([7.0, 8.0]))
    for first, reward in (([0, 0], [1, 1]), ([0, 1], [2, 9]), ([0, 0], [4, 3])):
        step = {"is_first": np.array(first, bool), "reward": np.array(reward, float)}
        told.add(step)
        told.begin(step["is_first"], np.array([70.0, 80.0]))
    assert told.of(0) == {"expected_return": 7.0, "discounted_return": 1 + 2 / 2 + 4 / 4}
    assert told.of(1) == {"expected_return": 80.0, "discounted_return": 3.0}


@pytest.mark.parametrize(
    "world_model", ["rssm", pytest.param("muzero", marks=pytest.mark.slow), "none"]
)
def test_who_acts_without_a_plan_expects_what_the_critic_does(world_model: Any) -> None:
    agent = tiny.agent(world_model=world_model, learn="none")
    agent = eqx.tree_at(  # a fresh critic's values are all alike
        lambda a: a.critic,
        agent,
        jax.tree.map(
            lambda x: (
                x + 0.3 * jax.random.normal(jax.random.key(1), x.shape)
                if eqx.is_inexact_array(x)
                else x
            ),
            agent.critic,
        ),
    )
    seen = {"state": tiny.batch(2, 1)["state"][:, 0], "is_first": np.ones(2, bool)}
    key = jax.random.key(0)
    actor = AgentActor(tiny.task_spec(), agent, 2, key, planner="none", greedy=True, expecting=True)
    action = actor(agent, seen, 0)
    features = jax.vmap(agent.model.features)(actor.memory.state)
    asked = (features, action) if world_model == "none" else (features,)
    value = jax.vmap(lambda *x: agent.critic(*x).mean())(*asked) / agent.unit
    assert actor.expected is not None
    assert np.ptp(value) > 1e-3
    np.testing.assert_allclose(actor.expected, value, rtol=1e-5)
    assert agent.unit == pytest.approx(0.03 if world_model == "rssm" else 1.0)

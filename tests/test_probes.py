"""The agent solves probe tasks, each of which isolates one ability (`tests/probes.py`)."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest

from stages import checkpoints, transfer
from stages.acting import AgentActor
from stages.explore import fresh_agent
from stages.records import json_lines
from stages.settings import Study
from tasks import registry
from tests import tiny
from tests.probes import Probe

pytestmark = pytest.mark.slow

STEPS = {"read": 4000, "recall": 6000}  # others: 2400
# What a cue of long ago and a choice are worth together shows in neither alone, and faintly: small
# batches drown it in noise for thousands of updates.
FAINT = {"recall"}
CONTINUOUS = "continuous"
KINDS = ["discrete", CONTINUOUS]


def study_of(task: str, discount: float) -> Study:
    ability = task.split("make_")[1].split("_")[0]
    sizes = {"width": 64, "layers": 2}
    batch_size, reward_scale = (64, 10) if ability in FAINT else (16, 3)
    return tiny.study(
        task,
        tasks={"explore": task, "episode_length": None},
        model=sizes
        | {"recurrent": 64, "latents": 8, "classes": 8, "bins": 63}
        | {"reward_scale": reward_scale},
        behaviour=sizes
        | {
            "bins": 63,
            "imagination_starts": 64,
            "imagination_horizon": 5,
            "discount": discount,
            "entropy": 3e-3,  # choices at random for long enough to see what the other pays
            "reward_unit": "1",
        },
        training={
            "environments": 8,
            "batch_size": batch_size,
            "batch_length": 16,
            "updates_per_call": 10,
            "env_steps_per_update": 2,
            "prefill_steps": 200,
            "model_learning_rate": 1e-3,
            "actor_learning_rate": 1e-3,
            "critic_learning_rate": 1e-3,
        },
        transfer={"steps": STEPS.get(ability, 2400)},
        evaluate={"curve_points": 2, "curve_episodes": 32, "environments": 16},
    )


Learnt = Callable[..., tuple[Study, Path]]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks are named relative to this folder: seeds come from the name, alike in every clone."""
    monkeypatch.chdir(Path(__file__).parent)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    """Ability, kind, discount to the study and job folder of an agent that learnt from nothing."""

    @cache
    def run(ability: str, kind: str, discount: float = 0.9) -> tuple[Study, Path]:
        task = f"probes.py:make_{ability}_{kind}"
        study = study_of(task, discount)
        folder = tmp_path_factory.mktemp(f"{ability}-{kind}")
        transfer.run(study, transfer.Inputs(task, "scratch", 0), folder)
        return study, folder

    return run


def final_return(learnt: Learnt, ability: str, kind: str, discount: float = 0.9) -> float:
    _, folder = learnt(ability, kind, discount)
    rows = json_lines(folder / "metrics.jsonl")
    return [row["return"] for row in rows if row["kind"] == "evaluation"][-1]


def values(learnt: Learnt, ability: str, kind: str) -> list[tuple[float, np.ndarray]]:
    """(cue, the critic's values of the states of an episode [4]) of ten episodes."""
    study, folder = learnt(ability, kind)
    spec = registry.spec(study.tasks.transfer[0], study.tasks)
    fresh = fresh_agent(study, spec, 0, "transfer", curious=False)
    agent = checkpoints.restore_agent(checkpoints.find(folder), fresh)
    actor = AgentActor(spec, agent, 1, jax.random.key(0), planner="none", greedy=True)
    value = jax.jit(lambda features: agent.critic(features).mean())
    out = []
    for seed in range(10):
        probe = Probe(ability, kind == "discrete")
        seen = probe.reset(seed=seed)[0]
        row = []
        for step in range(4):
            rows = {"state": seen[None], "is_first": np.array([step == 0])}
            action = actor(agent, rows, 10 * seed + step)[0]
            state = jax.tree.map(lambda x: x[0], actor.memory.state)
            row.append(float(value(agent.model.features(state))))
            seen = probe.step(int(action.argmax()) if kind == "discrete" else action)[0]
        out.append((probe.cue, np.array(row)))
    return out


# What remains to be had with discount 0.9, at each of four steps: 1 a step, or 1 at the end.
EACH = np.array([1 + 0.9 + 0.81 + 0.729, 1 + 0.9 + 0.81, 1.9, 1.0])
LAST = np.array([0.729, 0.81, 0.9, 1.0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_value(learnt: Learnt, kind: str) -> None:
    for _, found in values(learnt, "constant", kind):
        np.testing.assert_allclose(found, EACH, atol=0.25)


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_is_read_from_the_observation(learnt: Learnt, kind: str) -> None:
    for cue, found in values(learnt, "observed", kind):
        np.testing.assert_allclose(found, cue * EACH, atol=0.4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_is_discounted(learnt: Learnt, kind: str) -> None:
    for _, found in values(learnt, "delayed", kind):
        np.testing.assert_allclose(found, LAST, atol=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_discount_decides_between_soon_and_much(learnt: Learnt, kind: str) -> None:
    assert final_return(learnt, "wait", kind, 0.9) > 1.8  # 2 later is worth 1.46 now
    assert final_return(learnt, "wait", kind, 0.5) < 1.2  # 0.25 now


@pytest.mark.parametrize("kind", KINDS)
def test_an_action_that_is_always_right(learnt: Learnt, kind: str) -> None:
    assert final_return(learnt, "act", kind) > 7.0  # random 0, best 8


@pytest.mark.parametrize("kind", KINDS)
def test_the_action_depends_on_the_observation(learnt: Learnt, kind: str) -> None:
    assert final_return(learnt, "read", kind) > 6.5  # random 0, best 8


@pytest.mark.parametrize("kind", KINDS)
def test_a_cue_is_remembered(learnt: Learnt, kind: str) -> None:
    assert final_return(learnt, "recall", kind) > 0.8  # random 0, best 1

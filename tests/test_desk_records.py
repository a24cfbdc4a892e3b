"""What the desk's state vector tells afterwards: joints, places, and what any task would pay."""

import numpy as np
import pytest

from tasks.desk_rewards import GOALS
from tasks.desk_state import qpos_of
from tasks.registry import extras, make
from tasks.settings import TaskOptions

OPTIONS = TaskOptions()


def recorded(name: str, seed: int, length: int = 100) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rows of an episode, half scripted and half random, and what the environment paid."""
    env, random = make(name, OPTIONS), np.random.default_rng(seed)
    oracle = extras(name, OPTIONS).oracle
    assert oracle is not None
    observation, _ = env.reset(seed=seed)
    states, rewards, joints = [observation["state"]], [0.0], []
    for step in range(length):
        scripted = seed % 2 == 0 or step > 50
        action = oracle(env) if scripted else random.uniform(-1, 1, 2)
        joints.append(env.unwrapped.data.qpos.tolist())  # pyright: ignore[reportAttributeAccessIssue]
        observation, reward, *_ = env.step(action)
        states.append(observation["state"])
        rewards.append(float(reward))
    assert np.allclose([qpos_of(state) for state in states[:-1]], joints, atol=1e-6)
    first = np.arange(length + 1) == 0
    return {"state": np.stack(states), "is_first": first}, np.array(rewards)


@pytest.mark.parametrize("variant", ["sparse", "dense"])
@pytest.mark.parametrize("task", GOALS)
def test_recorded_rows_are_paid_as_the_environment_pays(task: str, variant: str) -> None:
    name = f"desk/{task}:{variant}"
    relabel = extras(name, OPTIONS).relabel
    assert relabel is not None
    for seed in range(4):
        rows, rewards = recorded(name, seed)
        found = relabel(rows)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, rewards, atol=2e-5)
        assert task == "free" or rewards.max() > 0.05


def test_places_are_in_metres() -> None:
    rows, _ = recorded("desk/push_left", 0)
    places = extras("desk/push_left", OPTIONS).places
    assert places is not None
    found = places(rows)
    assert {name: place.shape[1] for name, place in found.items()} == {
        "tip": 2, "puck": 2, "drawer": 1, "button": 1,
    }  # fmt: skip
    np.testing.assert_allclose(found["tip"], rows["state"][:, 6:8] / 3, atol=1e-6)
    assert np.linalg.norm(found["puck"][-1] - GOALS["push_left"].target) < 0.08


def test_what_is_not_recorded_cannot_be_told() -> None:
    assert extras("desk/reach", TaskOptions(observe=("image",))).relabel is None
    assert extras("desk/reach", TaskOptions(action_repeat=2)).relabel is None
    assert extras("desk/reach", TaskOptions(action_repeat=2)).places is not None

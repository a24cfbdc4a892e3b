"""Where imagination begins: the rewards that followed, and what is drawn by them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policies.settings import BehaviourSettings
from policies.starts import following_rewards, imagination_starts, start_probabilities

KEY = jax.random.key(0)


def batch_of(rewards: list[float], first: list[int], terminal: list[int] | None = None) -> dict:
    """One sequence, [1, T]."""
    return {
        "reward": jnp.array([rewards]),
        "is_first": jnp.array([first], bool),
        "is_terminal": jnp.array([terminal or [0] * len(rewards)], bool),
    }


def test_following_rewards_by_hand() -> None:
    # Two episodes, the second from step 3; a row's reward was paid on the way to it.
    batch = batch_of([0.0, 1.0, 2.0, 0.0, 4.0, 8.0], [1, 0, 0, 1, 0, 0])
    found = following_rewards(batch, 0.5)
    np.testing.assert_allclose(found, [[1 + 0.5 * 2, 2.0, 0.0, 4 + 0.5 * 8, 8.0, 0.0]], rtol=1e-6)


def test_unknown_rewards_count_as_none() -> None:
    batch = batch_of([0.0, 5.0, 7.0], [1, 0, 0]) | {"reward_known": jnp.array([[1.0, 0.0, 1.0]])}
    np.testing.assert_allclose(following_rewards(batch, 0.5), [[3.5, 7.0, 0.0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("followed", "alive", "expected"),
    [
        ([0, 0, 3, 1], [1, 1, 1, 1], [0.1, 0.1, 0.1 + 0.6 * 0.75, 0.1 + 0.6 * 0.25]),
        ([-2, -2, 1, -1], [1, 1, 1, 1], [0.1, 0.1, 0.1 + 0.6 * 0.75, 0.1 + 0.6 * 0.25]),
        ([0, 0, 3, 1], [1, 1, 0, 1], [0.1, 0.1, 0.1, 0.7]),
        ([2, 2, 2, 2], [1, 1, 1, 1], [0.25, 0.25, 0.25, 0.25]),
        (None, [1, 1, 1, 1], [0.25, 0.25, 0.25, 0.25]),
    ],
)
def test_chances_by_hand(
    followed: list[float] | None, alive: list[float], expected: list[float]
) -> None:
    given = None if followed is None else jnp.array(followed, float)
    found = start_probabilities(jnp.array(alive, float), given, 0.6)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(("by_reward", "least", "most"), [(True, 0.3, 0.5), (False, 0.15, 0.25)])
def test_states_before_a_reward_are_drawn_more_often(
    by_reward: bool, least: float, most: float
) -> None:
    settings = BehaviourSettings(imagination_starts=10, rewarding_starts=0.5)
    batch = batch_of([0.0] * 50 + [1.0] + [0.0] * 49, [1] + [0] * 99)
    states = jnp.arange(100)[None]
    shares = []
    for key in jax.random.split(KEY, 50):
        drawn, alive = imagination_starts(states, batch, settings, key, by_reward=by_reward)
        assert len(set(drawn.tolist())) == 10
        assert alive.tolist() == [1.0] * 10
        shares.append(float(((drawn >= 30) & (drawn < 50)).mean()))  # 20 steps before the reward
    assert least <= np.mean(shares) <= most


def test_states_after_a_termination_weigh_nothing() -> None:
    settings = BehaviourSettings(imagination_starts=100)
    batch = batch_of([0.0, 1.0, 0.0], [1, 0, 1], [0, 1, 0])
    drawn, alive = imagination_starts(jnp.arange(3)[None], batch, settings, KEY, by_reward=True)
    assert drawn.tolist() == [0, 1, 2]
    assert alive.tolist() == [1.0, 0.0, 1.0]

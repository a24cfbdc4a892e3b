"""What each objective pays for one step, by hand."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from policies.agent import task_objective
from policies.objectives import CuriosityObjective, CuriousTaskObjective, Objective
from tests import tiny

KEY = jax.random.key(0)
UNIT = 1 - 0.97


def test_the_bonus_is_added_to_the_tasks_reward() -> None:
    agent = tiny.agent(curious=True)
    assert agent.explorer is not None
    size = tiny.MODEL.recurrent + tiny.MODEL.latents * tiny.MODEL.classes
    before, after = jax.random.normal(KEY, (2, size))
    # a head that is not the zero one it starts as
    noisy = jax.tree.map(
        lambda x: x + 0.1 * jax.random.normal(KEY, x.shape), agent.reward_head.reward
    )
    head = eqx.tree_at(lambda r: r.reward, agent.reward_head, noisy)
    agent = agent.replace({"reward_head": head})
    action = jnp.array([0.3, -0.5])
    step = (before, action, after)
    reward = float(agent.model.reward(after))
    bonus = float(agent.explorer.bonus(*step))
    assert min(abs(reward), bonus) > 1e-3
    shared = (agent.model, agent.critic, 0.97, UNIT, agent.explorer)
    curious: Objective = CuriousTaskObjective(*shared, jnp.array(0.25))
    assert float(task_objective(agent).reward(*step)) == pytest.approx(UNIT * reward, rel=1e-5)
    assert float(CuriosityObjective(*shared).reward(*step)) == pytest.approx(UNIT * bonus, rel=1e-5)
    assert float(curious.reward(*step)) == pytest.approx(UNIT * (reward + 0.25 * bonus), rel=1e-5)


def test_a_bonus_that_has_faded_is_not_computed() -> None:
    """Numbers that are none would show, since nothing times them is none, too."""
    agent = tiny.agent(curious=True)
    broken = jax.tree.map(lambda x: x * jnp.nan if eqx.is_inexact_array(x) else x, agent.explorer)
    size = tiny.MODEL.recurrent + tiny.MODEL.latents * tiny.MODEL.classes
    before, after = jax.random.normal(KEY, (2, 3, size))
    action = jnp.array([[0.3, -0.5]] * 3)

    def paid(after: jax.Array, weight: float) -> jax.Array:
        shared: Any = (agent.model, agent.critic, 0.97, UNIT, broken)
        objective = CuriousTaskObjective(*shared, jnp.array(weight))
        return jax.vmap(objective.reward)(before, action, after).sum()

    value, gradient = jax.jit(jax.value_and_grad(paid))(after, 0.0)
    expected = UNIT * jax.vmap(agent.model.reward)(after).sum()
    assert float(value) == pytest.approx(float(expected), rel=1e-5, abs=1e-9)
    assert jnp.isfinite(gradient).all()
    assert jnp.isnan(paid(after, 0.1))

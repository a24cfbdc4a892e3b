"""The model-free control: what it asks and learns from, and that it finds a known best action."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policies import candidates
from policies.agent import act, agent_loss, fresh_memory
from policies.planners import build_planner
from policies.search import improved
from policies.settings import PlanningSettings
from stages.settings import TrainingSettings
from stages.training_step import build_step, initial_state
from tests import tiny

KEY = jax.random.key(0)
TRAINING = TrainingSettings(
    updates_per_call=60,
    model_learning_rate=3e-3,
    actor_learning_rate=3e-3,
    critic_learning_rate=3e-3,
)


def fresh(**changes: Any) -> Any:
    return tiny.agent(world_model="none", **changes)


def test_its_components() -> None:
    assert set(fresh().components()) == {"encoder", "actor", "critic"}
    assert set(fresh(curious=True).components()) == {"encoder", "actor", "critic", "explorer"}
    assert not fresh().foresees


def test_what_it_asks_by_hand() -> None:
    agent = fresh(action=tiny.DISCRETE)
    head = agent.critic.head
    moved = eqx.tree_at(lambda n: n.output.weight, head.net, jax.random.normal(KEY, (16, 15)))
    agent = eqx.tree_at(lambda a: a.critic.head.net, agent, moved)
    latent = jax.random.normal(KEY, (12,))
    asked = eqx.filter_jit(lambda a, x: a.ask(x, KEY))(agent, latent[None, None])
    values = jnp.stack([agent.critic(latent, choice).mean() for choice in jnp.eye(3)])
    prior = candidates.propose(agent.actor(latent), jnp.zeros((3, 3)), tiny.SEARCH).prior
    weights = improved(prior, values, tiny.SEARCH)
    np.testing.assert_allclose(asked.weights[0, 0], weights, rtol=1e-3)
    np.testing.assert_allclose(asked.value[0, 0], (weights * values).sum(), rtol=1e-3)


def test_the_last_action_of_an_episode_is_not_learnt_from() -> None:
    """Of an action after the last step, or after a termination, nothing came."""
    agent, batch = fresh(), tiny.batch(1, 3)
    dtype = jnp.dtype("float32")

    @eqx.filter_jit
    def value(batch: dict) -> jax.Array:
        return agent_loss(agent, batch, KEY, stage="transfer", dtype=dtype)[1].metrics["loss/value"]

    assert value(batch) > 0  # one step has two more ahead
    ended = jnp.zeros((1, 3), bool)
    assert value(batch | {"is_first": ended.at[0, 1].set(True)}) == 0
    assert value(batch | {"is_terminal": ended.at[0, 0].set(True)}) == 0
    assert value(batch | {"reward_known": jnp.zeros((1, 3))}) == 0


@pytest.mark.parametrize("kind", ["discrete", "continuous"])
def test_it_finds_the_better_action(kind: str) -> None:
    """The reward of a step is the first action's part in it; episodes end after each."""
    spec = tiny.DISCRETE if kind == "discrete" else tiny.CONTINUOUS
    agent = fresh(action=spec)
    batch = tiny.batch(60, 16, 4, action=spec)
    batch["is_terminal"] = jnp.zeros((60, 16, 4), bool).at[:, :, 1::2].set(True)
    batch["is_first"] = jnp.zeros((60, 16, 4), bool).at[:, :, ::2].set(True)
    batch["reward"] = jnp.roll(batch["action"][..., 0], 1, -1) * (1 - batch["is_first"])
    state = initial_state(agent, TRAINING)
    step = build_step(TRAINING, tiny.CURIOSITY, "transfer", 8)
    for _ in range(4):
        state, metrics = step(state, batch, KEY)
    assert all(np.isfinite(value) for value in metrics.values())
    planner = build_planner("none", PlanningSettings())
    rows = {"state": batch["state"][0, :8, 0]}
    memory = fresh_memory(state.agent, 8, planner)

    @eqx.filter_jit
    def choose(agent: Any) -> jax.Array:
        first = jnp.ones(8, bool)
        return act(agent, memory, rows, first, KEY, planner=planner, greedy=True)[0]

    action = choose(state.agent)
    assert (action[:, 0] > (0.5 if kind == "continuous" else 0.9)).all()


def test_exploring_reads_the_bonus_alone() -> None:
    agent, batch = fresh(stage="explore"), tiny.batch(2, 4)
    dtype = jnp.dtype("float32")

    @eqx.filter_jit
    def loss(batch: dict) -> jax.Array:
        return agent_loss(agent, batch, KEY, stage="explore", dtype=dtype)[0]

    assert loss(batch) == loss(batch | {"reward": 100 + batch["reward"]})

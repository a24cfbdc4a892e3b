"""The last observations of an episode in one latent: acting and learning know the same."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policies.agent import Memory, act, agent_loss, fresh_memory
from policies.goals import goal_features
from policies.planners import build_planner
from stages.acting import AgentActor
from stages.open_loop import _predictor
from tasks.contract import ArraySpec
from tests import tiny
from world_models.contract import WorldModel
from world_models.encoder import Encoder, encode, latent_of, standardised
from world_models.windows import steps_before, without_context

KEY = jax.random.key(0)
HISTORY = 3
MUZERO = tiny.MUZERO.model_copy(update={"history": HISTORY})


def fresh(family: str, **changes: Any) -> Any:
    return tiny.agent(world_model=family, muzero=MUZERO, **changes)


def two_episodes(observation: dict[str, ArraySpec] = tiny.STATE) -> dict[str, jax.Array]:
    """One sequence of nine steps, of which the sixth is the first of another episode."""
    first = jnp.zeros((1, 9), bool).at[0, jnp.array([0, 5])].set(True)
    return tiny.batch(1, 9, observation=observation) | {"is_first": first}


@eqx.filter_jit
def encoded(encoder: Encoder, batch: dict) -> jax.Array:
    return encode(encoder, batch)


def test_steps_before_by_hand() -> None:
    first = jnp.array([[False, False, True, False, False]])
    found = steps_before(jnp.array([[[1.0], [2.0], [3.0], [4.0], [5.0]]]), first, 2)
    expected = [[0, 0], [1, 0], [0, 0], [3, 0], [4, 3]]  # the last first, and no step of another
    np.testing.assert_array_equal(found[0, :, :, 0], expected)


def test_a_batch_without_its_context() -> None:
    batch = {"reward": jnp.arange(6.0).reshape(2, 3), "weight": jnp.ones(2)}
    assert without_context(batch, 0) is batch
    found = without_context(batch, 2)
    np.testing.assert_array_equal(found["reward"], [[2.0], [5.0]])
    np.testing.assert_array_equal(found["weight"], [1.0, 1.0])


def test_observing_step_by_step_is_encoding_the_episode() -> None:
    observation = tiny.STATE | tiny.IMAGE
    encoder = Encoder(observation, tiny.MODEL, 12, HISTORY, 2, key=KEY)
    batch = two_episodes(observation)
    rows = {name: batch[name][0] for name in (*observation, "action", "is_first")}
    rows["action"] = jnp.roll(rows["action"], 1, 0)  # what led to each, of the first anything

    @eqx.filter_jit
    def latents(encoder: Encoder) -> jax.Array:
        def step(state: Any, row: Any) -> tuple[Any, jax.Array]:
            state = encoder.observe(state, row["action"], row, row["is_first"])
            return state, latent_of(state)

        return jax.lax.scan(step, encoder.initial(), rows)[1]

    acting = latents(encoder)
    assert acting.shape == (9, 12)
    np.testing.assert_allclose(acting[HISTORY - 1 :], encoded(encoder, batch)[0], atol=1e-5)


def test_who_acts_knows_what_learning_will() -> None:
    """Latents in the memory of an actor, whose actions are its own, and those of its replay."""
    agent, batch = fresh("none"), two_episodes()
    actor = AgentActor(tiny.task_spec(), agent, 1, KEY, planner="none", greedy=False)
    acting, actions = [], []
    for step in range(9):
        rows = {"state": np.array(batch["state"][:, step])}
        first = np.array(batch["is_first"][:, step])
        actions.append(actor(agent, rows | {"is_first": first}, step))
        acting.append(actor.memory.state.latent[0])
    assert not np.array_equal(actions[3], actions[4])
    replayed = encoded(agent.encoder, batch | {"action": jnp.stack(actions, 1)})
    np.testing.assert_allclose(jnp.stack(acting)[HISTORY - 1 :], replayed[0], atol=1e-5)


def test_a_latent_knows_the_last_steps_of_its_own_episode() -> None:
    encoder = Encoder(tiny.STATE, tiny.MODEL, 12, HISTORY, 2, key=KEY)
    batch = two_episodes()
    before = encoded(encoder, batch)[0]  # of the steps 2 ... 8
    assert before.shape == (7, 12)
    known = {  # who changes with the observation of a step, and with the action taken there
        0: ({2}, {2}),
        1: ({2, 3}, {2, 3}),
        4: ({4}, set()),
        5: ({5, 6, 7}, {6, 7}),
        8: ({8}, set()),
    }
    for step, expected in known.items():
        for name, steps in zip(("state", "action"), expected, strict=True):
            other = batch | {name: batch[name].at[:, step].add(1.0)}
            moved = np.abs(encoded(encoder, other)[0] - before).max(-1) > 1e-4
            assert {int(index) + 2 for index in np.flatnonzero(moved)} == steps, (step, name)


def test_a_history_of_one_is_what_one_observation_shows() -> None:
    encoder = Encoder(tiny.STATE, tiny.MODEL, 12, 1, 2, key=KEY)
    plain = Encoder(tiny.STATE, tiny.MODEL, 12, key=KEY)
    for a, b in zip(jax.tree.leaves(encoder), jax.tree.leaves(plain), strict=True):
        np.testing.assert_array_equal(a, b)
    batch = two_episodes()
    seen = {"state": batch["state"][0, 3]}
    state = encoder.observe(encoder.initial(), jnp.ones(2), seen, jnp.array(False))
    assert isinstance(state, jax.Array)
    by_hand = standardised(encoder.output(encoder.observation(seen)))
    np.testing.assert_array_equal(state, by_hand)
    np.testing.assert_allclose(encoded(encoder, batch)[0, 3], state, atol=1e-5)


@pytest.mark.parametrize(("family", "roots"), [("muzero", 2), ("none", 4)])
def test_the_first_steps_of_a_sequence_are_context_alone(family: str, roots: int) -> None:
    """A fresh agent expects nothing, so the errors of its roots are two rewards each: those after
    the third step, the first that has its history. What context was paid counts nowhere."""
    agent = fresh(family, learn="none")
    batch = tiny.batch(3, 8) | {"weight": jnp.ones(3)}
    batch["reward"] = batch["reward"].at[:, :HISTORY].set(jnp.nan)

    @eqx.filter_jit
    def learnt(agent: Any, batch: dict) -> Any:
        dtype = jnp.dtype("float32")
        return agent_loss(agent, batch, KEY, stage="transfer", dtype=dtype)

    total, aux = learnt(agent, batch)
    assert np.isfinite(total)
    assert all(np.isfinite(value) for value in aux.metrics.values())
    reward = batch["reward"][:, HISTORY:]
    came = reward[:, :roots] + 0.97 * reward[:, 1 : roots + 1]
    np.testing.assert_allclose(aux.errors, jnp.abs(came).mean(-1), atol=1e-3)


def test_the_contract() -> None:
    """States are remembered by who observes; planners, here a tree, begin at the latent."""
    agent, batch = fresh("muzero"), tiny.batch(3, 8)
    model = agent.model
    assert isinstance(model, WorldModel)
    memory = fresh_memory(agent, 2)
    losses, states = eqx.filter_eval_shape(model.loss, batch, memory.state, None, KEY)
    assert states.shape == (3, 8 - HISTORY + 1, 12)
    assert {loss.shape for loss in losses.values()} == {()}
    seen, planner = {"state": jnp.ones((2, 3))}, build_planner("mcts", agent.planning)

    def acted(agent: Any, memory: Memory) -> Any:
        return act(agent, memory, seen, jnp.ones(2, bool), KEY, planner=planner, greedy=False)

    actions, after = eqx.filter_eval_shape(acted, agent, memory)
    assert actions.shape == (2, 2)
    width = tiny.MODEL.width
    assert after.state.latent.shape == (2, 12)
    assert after.state.past.shape == (2, HISTORY - 1, width + 2)


def test_a_goal_is_what_was_seen_all_along() -> None:
    agent, seen = fresh("none"), {"state": jnp.ones(3)}
    found = eqx.filter_jit(goal_features)(agent.model, seen, 2, KEY)
    still = {"state": jnp.ones((1, 9, 3)), "action": jnp.zeros((1, 9, 2))}
    still["is_first"] = jnp.zeros((1, 9), bool)
    np.testing.assert_allclose(found, encoded(agent.encoder, still)[0, -1], atol=1e-5)


def test_what_is_foreseen_begins_at_what_is_remembered() -> None:
    agent, batch = fresh("muzero"), tiny.batch(1, 9)
    predict = _predictor(4)
    keys = jax.random.split(KEY, 1)

    def predicted(state: jax.Array) -> jax.Array:
        return predict(agent, {"state": state}, batch["action"], keys)["state"][0]

    found = predicted(batch["state"])
    latents = encoded(agent.encoder, batch)[0]
    read = jax.jit(jax.vmap(agent.model.decoder))
    np.testing.assert_allclose(found[2:4], read(latents[:2])["state"], atol=1e-4)
    later = predicted(batch["state"].at[:, 4:].add(1.0))
    np.testing.assert_array_equal(later, found)  # from the fourth step on nothing is observed
    earlier = predicted(batch["state"].at[:, 2].add(1.0))
    assert (np.abs(earlier - found).max(-1)[2:] > 1e-4).all()

"""Masked choices: nobody takes one, whoever acts, and no training target gives one any weight."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policies.actor import Choice, masked
from policies.agent import act, agent_loss, fresh_memory
from policies.candidates import propose
from policies.planners import build_planner
from policies.proposals import resume
from policies.search import improved, search
from policies.settings import PlanningSettings
from stages import training_loop, transfer
from stages.acting import random_actions
from tests import tiny

KEY = jax.random.key(0)
SMALL = PlanningSettings(samples=8, elites=3, iterations=2, horizon=2, search=tiny.SEARCH)
MASKS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1]] * 8, bool)


def test_a_masked_policy_by_hand() -> None:
    policy = Choice(jnp.log(jnp.array([0.2, 0.5, 0.3])))
    found = masked(policy, jnp.array([True, False, True]))
    np.testing.assert_allclose(jnp.exp(found.log_prob(jnp.eye(3))), [0.4, 0.0, 0.6], rtol=1e-6)
    entropy = -(0.4 * np.log(0.4) + 0.6 * np.log(0.6))
    assert float(found.entropy()) == pytest.approx(entropy, rel=1e-5)
    np.testing.assert_array_equal(found.mode(), [0, 0, 1])
    assert masked(policy, None) is policy


def test_an_improved_policy_without_what_is_invalid_by_hand() -> None:
    """The value of a masked choice, though the best, neither counts nor sets the scale."""
    prior, values = jnp.log(jnp.array([0.5, 0.25, 0.25])), jnp.array([1.0, 9.0, 2.0])
    found = improved(prior, values, tiny.SEARCH, jnp.array([False, True, False]))
    better = 0.25 * np.exp(51 * tiny.SEARCH.value_scale)
    np.testing.assert_allclose(found, np.array([0.5, 0, better]) / (0.5 + better), rtol=1e-5)


def test_a_proposal_of_choices_by_hand() -> None:
    """Only the first step of a plan is masked, however the elites were and whatever is drawn."""
    plan = resume(tiny.DISCRETE, SMALL, None, jnp.array([False, True, True]))
    loud = jnp.zeros((2, 3)).at[:, 0].set(50.0)
    np.testing.assert_array_equal(plan.sample(loud), [[0, 1, 0], [1, 0, 0]])
    elites = jnp.broadcast_to(jnp.eye(3)[0], (3, 2, 3))
    plan = plan.refit(elites, jnp.full(3, 1 / 3), 0.1)
    np.testing.assert_array_equal(plan.mode(), [[0, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("world_model", "name"),
    [("rssm", "none"), ("rssm", "cem"), ("rssm", "mppi"), ("muzero", "mcts"), ("none", "none")],
)
def test_nobody_takes_a_masked_choice(world_model: str, name: Any) -> None:
    agent = tiny.agent(world_model=world_model, action=tiny.DISCRETE)
    planner = build_planner(name, SMALL)
    seen = {"state": jax.random.normal(KEY, (len(MASKS), 3))}
    memory = fresh_memory(agent, len(MASKS), planner)
    first, allowed = jnp.ones(len(MASKS), bool), jnp.asarray(MASKS)

    @eqx.filter_jit
    def go(agent: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        def chosen(greedy: bool) -> jax.Array:
            return act(
                agent, memory, seen, first, key, planner=planner, greedy=greedy, mask=allowed
            )[0]

        return chosen(True), chosen(False)

    taken = []
    for number in range(4):
        for action in go(agent, jax.random.fold_in(KEY, number)):
            np.testing.assert_allclose(action.sum(-1), 1.0, rtol=1e-6)
            assert ((np.asarray(action) > 0.5) <= MASKS).all()
            taken.append(np.asarray(action).argmax(-1))
    assert {0, 1, 2} == set(np.concatenate(taken).tolist())


def test_random_actions_are_spread_over_what_is_allowed() -> None:
    mask = np.broadcast_to([True, False, True], (2000, 3))
    found = random_actions(tiny.DISCRETE, 2000, 7, 3, mask)
    np.testing.assert_array_equal(found, random_actions(tiny.DISCRETE, 2000, 7, 3, mask))
    np.testing.assert_allclose(found.mean(0), [0.5, 0, 0.5], atol=0.05)
    assert not np.array_equal(found, random_actions(tiny.DISCRETE, 2000, 7, 4, mask))


def test_what_the_control_asks_by_hand() -> None:
    agent = tiny.agent(world_model="none", action=tiny.DISCRETE)
    head = jax.random.normal(KEY, (16, 15))
    agent = eqx.tree_at(lambda a: a.critic.head.net.output.weight, agent, head)
    latent, mask = jax.random.normal(KEY, (12,)), jnp.array([True, False, True])
    asked = eqx.filter_jit(lambda a, x: a.ask(x, KEY, mask[None, None]))(agent, latent[None, None])
    values = jnp.stack([agent.critic(latent, choice).mean() for choice in jnp.eye(3)])
    prior = propose(agent.actor(latent), jnp.zeros((3, 3)), tiny.SEARCH).prior
    two = jnp.array([0, 2])
    weights = improved(prior[two], values[two], tiny.SEARCH)
    np.testing.assert_allclose(asked.weights[0, 0], [weights[0], 0, weights[1]], rtol=1e-3)
    np.testing.assert_allclose(asked.value[0, 0], (weights * values[two]).sum(), rtol=1e-3)


def test_states_that_are_searched_again_are_masked_by_the_replay() -> None:
    agent = tiny.agent(world_model="muzero", action=tiny.DISCRETE)
    batch = tiny.batch(3, 6, action=tiny.DISCRETE)
    mask = jnp.broadcast_to(MASKS[:3, None], (3, 6, 3))

    @eqx.filter_jit
    def weights(agent: Any) -> jax.Array:
        seen = agent.model.encode(batch)
        return agent.targets(batch | {"mask": mask}, seen, seen, 2, 0.0, KEY).weights

    np.testing.assert_allclose(weights(agent), MASKS[:3, None] * np.ones((3, 2, 3)), atol=1e-6)

    def loss(agent: Any) -> jax.Array:
        known = batch | {"mask": mask}
        return agent_loss(agent, known, KEY, stage="transfer", dtype=jnp.dtype("float32"))[0]

    assert np.isfinite(eqx.filter_jit(loss)(agent))


def test_inside_the_tree_no_mask_is_known() -> None:
    """The searched program is the same but for the root, so a mask does not reach deeper."""
    agent = tiny.agent(world_model="muzero", action=tiny.DISCRETE)
    settings = tiny.SEARCH.model_copy(update={"simulations": 8, "considered": 3})

    class Counts(eqx.Module):
        def reward(self, features: Any, action: jax.Array, following: Any) -> jax.Array:
            return action[0]

        def discount(self, following: Any) -> jax.Array:
            return jnp.ones(())

        def value(self, following: Any) -> jax.Array:
            return jnp.zeros(())

    @eqx.filter_jit
    def value(agent: Any) -> jax.Array:
        invalid = jnp.array([[True, False, True]])
        states = jax.random.normal(KEY, (1, 12))
        arguments = (agent.model, agent.actor, Counts(), states, KEY, settings)
        return search(*arguments, greedy=True, invalid=invalid).value

    assert value(agent)[0] > 0.2  # only choice 0 pays, and that at deeper nodes alone


def test_a_job_on_a_masked_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefill and replay: every random action was allowed, and the replay says so."""
    study = tiny.study(
        "maze/collect",
        tasks={"explore": "maze/free"},
        agent={"world_model": "none"},
        learning={"n_steps": 2},
        transfer={"steps": 24},  # all of them before the first update
        evaluate={"curve_points": 1},
    )
    rows: list[dict[str, np.ndarray]] = []
    row_of = training_loop.TrainingLoop._replay_row

    def spy(loop: training_loop.TrainingLoop, actions: np.ndarray) -> dict[str, np.ndarray]:
        rows.append(row_of(loop, actions))
        assert loop.replay.dtype["mask"].shape == (4,)
        return rows[-1]

    monkeypatch.setattr(training_loop.TrainingLoop, "_replay_row", spy)
    transfer.run(study, transfer.Inputs("maze/collect", "scratch", 0), tmp_path)
    taken = np.concatenate([row["action"] for row in rows]) > 0.5
    mask = np.concatenate([row["mask"] for row in rows])
    assert (taken <= mask).all()
    assert mask.mean() < 0.9

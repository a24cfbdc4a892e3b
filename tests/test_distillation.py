"""Policies that learn from plans: they come to the planner's optimum, and nothing else moves."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from policies.actor import Actor
from policies.agent import agent_loss, objective_of
from policies.components import COMPONENTS
from policies.distillation import cross_entropy, distillation_loss, try_out
from policies.plan import Tried
from policies.planners import build_planner
from policies.settings import PlanningSettings, SearchSettings
from tasks.contract import ActionSpec
from tests import tiny
from tests.test_mpc import HERE, KEY, ONE, Wish

SEARCH = SearchSettings(simulations=8, actions=4, considered=4)
SETTINGS = PlanningSettings(
    samples=64, elites=8, iterations=3, horizon=1, std_from=1.0, learn_share=1.0, search=SEARCH
)
STATES = jnp.stack([jnp.linspace(-0.6, 0.6, 5), jnp.zeros(5)], 1)


def taught(planner: Any, wish: Wish, action: ActionSpec) -> Any:
    """The distributions at `STATES` of a policy that has learnt from plans alone."""
    settings = SETTINGS.model_copy(update={"learn": planner})
    actor = Actor(2, action, tiny.BEHAVIOUR.model_copy(update={"min_std": 0.05}), key=KEY)
    optimiser = optax.adam(1e-2)
    arrays, static = eqx.partition(actor, eqx.is_inexact_array)

    def loss(arrays: Any, key: jax.Array) -> jax.Array:
        learner = eqx.combine(arrays, static)
        return distillation_loss(learner, HERE, wish, STATES, jnp.ones(5), settings, key)

    @jax.jit
    def learn(arrays: Any) -> Any:
        def step(now: Any, key: jax.Array) -> tuple[Any, None]:
            arrays, memory = now
            change, memory = optimiser.update(jax.grad(loss)(arrays, key), memory, arrays)
            return (optax.apply_updates(arrays, change), memory), None

        keys = jax.random.split(KEY, 300)
        return jax.lax.scan(step, (arrays, optimiser.init(arrays)), keys)[0][0]

    return jax.vmap(eqx.combine(learn(arrays), static))(STATES)


@pytest.mark.parametrize("planner", [pytest.param("cem", marks=pytest.mark.slow), "mppi"])
def test_a_policy_comes_to_the_planners_optimum(planner: str) -> None:
    """Of two hills the higher, which is elsewhere at every state; a gradient leads to the other."""

    def hills(x: jax.Array, a: jax.Array, y: jax.Array) -> jax.Array:
        best = 0.8 * jnp.where(x[0] > 0, 1.0, -1.0) - x[0] / 4
        low = jnp.exp(-jnp.square((a[0] + best / 2) / 0.4))
        return low + 1.5 * jnp.exp(-jnp.square((a[0] - best) / 0.15))

    best = 0.8 * np.where(STATES[:, 0] > 0, 1.0, -1.0) - STATES[:, 0] / 4
    uphill = jax.vmap(jax.grad(lambda a, x: hills(x, a, x)), (None, 0))(jnp.zeros(1), STATES)
    assert (np.sign(uphill[:, 0]) == -np.sign(best)).all()
    learnt = taught(planner, Wish(hills), ONE)
    np.testing.assert_allclose(learnt.mode()[:, 0], best, atol=0.06)
    assert learnt.deviation.max() < 0.25  # of 0.63 at first


@pytest.mark.slow
@pytest.mark.parametrize("planner", ["cem", "mppi", "mcts"])
def test_a_policy_of_choices_learns_the_best_one(planner: str) -> None:
    three = ActionSpec("discrete", 3)
    wish = Wish(lambda x, a, y: 1.0 * jnp.where(x[0] > 0.1, a[2], a[0]))
    learnt = taught(planner, wish, three)
    best = np.where(STATES[:, 0] > 0.1, 2, 0)
    np.testing.assert_array_equal(learnt.mode().argmax(-1), best)
    assert np.exp(learnt.log_prob(jnp.eye(3)[best])).min() > 0.8


def test_the_loss_by_hand() -> None:
    """A normal about 0.5; two actions tried, of which the second counts three times as much."""
    actor = Actor(2, ONE, tiny.BEHAVIOUR, key=KEY)
    policy = jax.vmap(actor)(STATES[:1])
    policy = eqx.tree_at(
        lambda p: (p.mean, p.deviation), policy, (jnp.full((1, 1), 0.5), jnp.full((1, 1), 0.2))
    )
    tried = (jnp.array([[[0.5], [0.9]]]), jnp.array([[0.25, 0.75]]))
    constant = np.log(0.2) + 0.5 * np.log(2 * np.pi)
    expected = constant + 0.75 * 0.5 * (0.4 / 0.2) ** 2
    np.testing.assert_allclose(cross_entropy(policy, Tried(*tried)), [expected], rtol=1e-5)


SMALL = PlanningSettings(
    samples=8, elites=3, iterations=1, horizon=2, learn_share=0.5, search=tiny.SEARCH
)


@pytest.mark.slow
@pytest.mark.parametrize("planner", ["mppi", "mcts"])
def test_a_dreamer_learns_it_beside_imagination(planner: Any) -> None:
    """Its actor's gradient changes, and neither another component's nor another loss."""
    batch = tiny.batch(2, 6)
    found = []
    for learn in ("none", planner):
        agent = tiny.agent(planning=SMALL.model_copy(update={"learn": learn}))

        def loss(agent: Any) -> Any:
            return agent_loss(agent, batch, KEY, stage="transfer", dtype=jnp.dtype("float32"))

        (_, aux), gradient = eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))(agent)
        found.append((aux.metrics, gradient))
    (before, without), (after, with_plans) = found
    assert "loss/distillation" not in before
    assert np.isfinite(after["loss/distillation"])
    total = before["loss/total"] + after["loss/distillation"]
    assert float(after["loss/total"]) == pytest.approx(float(total), rel=1e-5)
    for name in COMPONENTS[:-1]:
        pair = [jax.tree.leaves(getattr(each, name)) for each in (without, with_plans)]
        same = all(np.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(*pair, strict=True))
        assert same == (name != "actor"), name


@pytest.mark.slow
@pytest.mark.parametrize("action", [tiny.CONTINUOUS, tiny.DISCRETE])
def test_a_muzero_learns_from_elites_at_its_roots(action: ActionSpec) -> None:
    """Targets are the planner's own at each root; values are those without any plan."""
    planning = SMALL.model_copy(update={"learn": "cem"})
    agents = [
        tiny.agent(world_model="muzero", action=action, planning=each)
        for each in (planning, planning.model_copy(update={"learn": "none"}))
    ]
    batch = tiny.batch(3, 8, action=action)
    agent = agents[0].slowly  # type: ignore[attr-defined]
    seen = agent.model.encode(batch)
    asked = (batch, seen, seen, 4, 0.0, KEY)
    targets, plain = (each.slowly.targets(*asked) for each in agents)  # type: ignore[attr-defined]
    assert targets.actions.shape == (3, 4, 3, action.size)
    np.testing.assert_allclose(targets.weights, 1 / 3)
    np.testing.assert_array_equal(targets.value, plain.value)
    states = seen[:, :4].reshape(12, -1)
    given = (agent.model, agent.actor, objective_of(agent, 0.0), states, KEY)
    tried = try_out(build_planner("cem", planning), *given)
    np.testing.assert_allclose(
        targets.actions.reshape(12, 3, action.size), tried.actions, rtol=1e-5, atol=1e-6
    )

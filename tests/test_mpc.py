"""CEM and MPPI against problems with a known best plan, in worlds of a few numbers."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policies.actor import Actor
from policies.agent import act, fresh_memory
from policies.mpc import MPC, evaluate
from policies.objectives import Objective
from policies.plan import Plan, Planner
from policies.planners import NoPlanner, build_planner
from policies.proposals import NormalProposal, resume
from policies.settings import PlanningSettings
from stages.acting import AgentActor
from tasks.contract import ActionSpec
from tests import tiny
from world_models.contract import WorldModel

KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, 4)
ONE = ActionSpec("continuous", 1)
THOROUGH = PlanningSettings(
    samples=512,
    elites=16,
    iterations=8,
    horizon=6,
    std_from=1.0,
    std_to=0.01,
    policy_share=0.0,
    noise_correlation=0.0,
    **{"lambda": 1.0},
)
both = pytest.mark.parametrize("name", ["cem", "mppi"])


class World(eqx.Module):
    """A world whose state is its features and moves as told; nothing is random."""

    move: Callable[[jax.Array, jax.Array], jax.Array] = eqx.field(static=True)

    def initial(self) -> jax.Array:
        return jnp.zeros(2)

    def noise(self, key: jax.Array, shape: tuple[int, ...] = ()) -> jax.Array:
        return jnp.zeros(shape)

    def observe(
        self, state: Any, action: jax.Array, observation: Any, is_first: jax.Array, noise: Any
    ) -> jax.Array:
        return observation["state"]

    def imagine(self, state: jax.Array, action: jax.Array, noise: jax.Array) -> jax.Array:
        return self.move(state, action)

    def root(self, state: jax.Array) -> jax.Array:
        return state

    def features(self, state: jax.Array) -> jax.Array:
        return state

    def reward(self, features: jax.Array) -> jax.Array:
        return jnp.zeros(())

    def continuation(self, features: jax.Array) -> jax.Array:
        return jnp.ones(())

    def loss(self, batch: Any, start: Any, slow_model: Any, key: jax.Array) -> tuple[dict, Any]:
        return {}, start


class Wish(eqx.Module):
    """A reward as told, undiscounted, and a value at the end."""

    of: Callable[[jax.Array, jax.Array, jax.Array], jax.Array] = eqx.field(static=True)
    end: Callable[[jax.Array], jax.Array] = eqx.field(static=True, default=lambda x: jnp.zeros(()))

    def reward(self, features: jax.Array, action: jax.Array, following: jax.Array) -> jax.Array:
        return self.of(features, action, following)

    def discount(self, following: jax.Array) -> jax.Array:
        return jnp.ones(())

    def value(self, following: jax.Array) -> jax.Array:
        return self.end(following)


A = jnp.array([[1.0, 0.2], [0.0, 1.0]])
B = jnp.array([0.02, 0.2])
START = jnp.array([0.25, -0.1])
DOUBLE_INTEGRATOR = World(lambda x, a: A @ x + B * a[0])
QUADRATIC = Wish(
    lambda x, a, y: -(y @ y + 0.1 * a @ a), lambda x: -5.0 * x @ x
)  # a linear-quadratic regulator
HERE = World(lambda x, a: x)


def actor(action: ActionSpec = ONE, size: int = 2) -> Actor:
    return Actor(size, action, tiny.BEHAVIOUR, key=KEY)


def plans(
    name: Any,
    settings: PlanningSettings,
    world: World,
    wish: Wish,
    start: jax.Array = START,
    *,
    action: ActionSpec = ONE,
    memory: Any = None,
    by: Actor | None = None,
    greedy: bool = True,
    keys: jax.Array = KEYS,
) -> Plan:
    """One plan for each key, from the same state."""
    planner = build_planner(name, settings)
    by = by or actor(action, start.shape[0])
    if memory is None:
        one = planner.initial(by)
        memory = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(keys), *x.shape)), one)
    return compiled(planner, world, by, wish, start, memory, keys, greedy)


@eqx.filter_jit
def compiled(
    planner: Planner,
    world: World,
    by: Actor,
    wish: Wish,
    start: jax.Array,
    memory: Any,
    keys: jax.Array,
    greedy: bool,
) -> Plan:
    def plan(memory: Any, key: jax.Array) -> Plan:
        return planner(world, by, wish, start, memory, key, greedy=greedy)

    return jax.vmap(plan)(memory, keys)


def worth(world: World, wish: Wish, start: jax.Array, sequence: jax.Array) -> jax.Array:
    chances = world.noise(KEY, (sequence.shape[0], 1))
    return evaluate(world, wish, start, sequence[None], chances, 1.0)[0]


def best_sequence(world: World, wish: Wish, start: jax.Array, horizon: int) -> jax.Array:
    """The best of a quadratic problem: where its gradient is zero."""

    def of(flat: jax.Array) -> jax.Array:
        return worth(world, wish, start, flat[:, None])

    zero, steps = jnp.zeros(horizon), jnp.eye(horizon)
    slope = jax.jit(jax.grad(of))
    curvature = jnp.stack([slope(step) for step in steps]) - slope(zero)
    return -jnp.linalg.solve(curvature, slope(zero))[:, None]


def test_they_follow_the_contracts() -> None:
    assert isinstance(DOUBLE_INTEGRATOR, WorldModel)
    assert isinstance(QUADRATIC, Objective)
    for name in ("none", "cem", "mppi", "mcts"):
        assert isinstance(build_planner(name, THOROUGH), Planner)


def costs(plans: Plan) -> jax.Array:
    """Of each plan of the linear-quadratic regulator."""
    of = jax.jit(jax.vmap(lambda s: -worth(DOUBLE_INTEGRATOR, QUADRATIC, START, s)))
    return of(plans.memory)


@functools.cache
def regulated() -> tuple[jax.Array, float]:
    """The regulator's best plan and its cost."""
    best = best_sequence(DOUBLE_INTEGRATOR, QUADRATIC, START, 6)
    return best, float(-worth(DOUBLE_INTEGRATOR, QUADRATIC, START, best))


@both
def test_a_linear_quadratic_regulator_within_a_hundredth(name: str) -> None:
    best, least = regulated()
    assert np.abs(best).max() < 1.0  # the bounds play no part
    idle = -worth(DOUBLE_INTEGRATOR, QUADRATIC, START, jnp.zeros((6, 1)))
    assert idle > 1.1 * least
    found = costs(plans(name, THOROUGH, DOUBLE_INTEGRATOR, QUADRATIC))
    assert found.min() >= 0.9999 * least
    assert found.max() < 1.01 * least


@both
def test_a_bounded_quadratic(name: str) -> None:
    """One action is best inside its bounds, the other beyond them."""
    wish = Wish(lambda x, a, y: -jnp.square(a - jnp.array([0.3, 2.0])).sum())
    two = ActionSpec("continuous", 2)
    found = plans(name, THOROUGH, HERE, wish, action=two).action
    np.testing.assert_allclose(found, np.broadcast_to([0.3, 1.0], (4, 2)), atol=0.1)
    noisy = plans(name, THOROUGH, HERE, wish, action=two, greedy=False).action
    assert np.abs(noisy).max() <= 1.0
    assert (noisy != found).any()


@both
def test_of_two_hills_the_higher(name: str) -> None:
    """The lower is broad and nearer to where the search begins."""

    def hills(x: jax.Array, a: jax.Array, y: jax.Array) -> jax.Array:
        low = jnp.exp(-jnp.square((a[0] + 0.4) / 0.4))
        return low + 1.5 * jnp.exp(-jnp.square((a[0] - 0.8) / 0.15))

    settings = THOROUGH.model_copy(update={"horizon": 2})
    found = plans(name, settings, HERE, Wish(hills))
    np.testing.assert_allclose(found.memory, 0.8, atol=0.05)


@both
def test_a_chain_of_choices(name: str) -> None:
    """Stay, left or right: four to the right lies more than one to the left."""
    three = ActionSpec("discrete", 3)
    world = World(lambda x, a: jnp.clip(x + a[2] - a[1], -1, 4))

    def pay(x: jax.Array, a: jax.Array, y: jax.Array) -> jax.Array:
        return 0.1 * (y[0] == -1) + 1.0 * (y[0] == 4)

    start = jnp.zeros(1)
    found = plans(name, THOROUGH, world, Wish(pay), start, action=three)
    assert (found.memory[:, :4].argmax(-1) == 2).all()
    np.testing.assert_array_equal(found.action, np.eye(3)[[2, 2, 2, 2]])
    short = THOROUGH.model_copy(update={"horizon": 3})  # too short to see it
    found = plans(name, short, world, Wish(pay), start, action=three, greedy=False)
    np.testing.assert_array_equal(found.action, np.eye(3)[[1, 1, 1, 1]])


@both
def test_more_samples_and_iterations_are_better(name: str) -> None:
    _, least = regulated()

    def regret(**sizes: int) -> float:
        settings = THOROUGH.model_copy(update=sizes)
        return float(costs(plans(name, settings, DOUBLE_INTEGRATOR, QUADRATIC)).mean() - least)

    middle = {"samples": 64, "elites": 8, "iterations": 3}
    found = regret(**middle)
    assert regret(**middle | {"samples": 16, "elites": 4}) > found
    assert regret(**middle | {"iterations": 1}) > found > regret(iterations=4)


@both
def test_the_value_at_the_end_counts(name: str) -> None:
    """Nothing is paid within the horizon: the critic alone says where to go."""
    wish = Wish(lambda x, a, y: jnp.zeros(()), lambda x: -jnp.square(x[0] - 1.0))
    world = World(lambda x, a: x + 0.1 * a[0])
    for mix in (1.0, 0.8):
        settings = THOROUGH.model_copy(update={"lambda_": mix})
        found = plans(name, settings, world, wish, jnp.zeros(2))
        assert found.action.min() > 0.9


def test_a_return_by_hand() -> None:
    """Rewards 1, 2, 3 of the states arrived in, values ten times as much."""
    world, wish = World(lambda x, a: x + 1.0), Wish(lambda x, a, y: y[0], lambda x: 10.0 * x[0])
    actions, chances = jnp.zeros((1, 3, 1)), jnp.zeros((3, 1))
    second = 2 + 0.2 * 20 + 0.8 * (3 + 30)
    expected = {1.0: 1 + 2 + 3 + 30, 0.8: 1 + 0.2 * 10 + 0.8 * second}
    for mix, value in expected.items():
        found = evaluate(world, wish, jnp.zeros(2), actions, chances, mix)
        assert float(found[0]) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    "name", ["mppi", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cem", "mcts"))]
)
def test_a_plan_tells_what_it_expects(name: str) -> None:
    """Wherever it goes: 1 a step over the horizon, then 10. A search has 10 at every depth."""
    paid = Wish(lambda x, a, y: jnp.ones(()), lambda x: jnp.array(10.0))
    unpaid = Wish(lambda x, a, y: jnp.zeros(()), lambda x: jnp.array(10.0))
    settings = THOROUGH.model_copy(update={"samples": 8, "elites": 2, "iterations": 2})
    np.testing.assert_allclose(plans(name, settings, HERE, unpaid).value, 10.0, rtol=1e-5)
    if name != "mcts":
        np.testing.assert_allclose(plans(name, settings, HERE, paid).value, 6 + 10.0, rtol=1e-5)


@both
def test_a_plan_expects_the_weighed_return_of_its_elites(name: str) -> None:
    """One round of one step, paid by its action: the mean of the new proposal says the same."""
    wish = Wish(lambda x, a, y: 3.0 * a[0])
    one = {"samples": 8, "elites": 3, "iterations": 1, "horizon": 1, "momentum": 0.0}
    found = plans(name, THOROUGH.model_copy(update=one), HERE, wish)
    assert found.value is not None
    np.testing.assert_allclose(found.value, 3.0 * found.action[:, 0], rtol=1e-5)


@both
def test_a_policy_proposes(name: str) -> None:
    """What no search would come upon, the policy knows: an action of 0.9 in every step."""
    pay = Wish(lambda x, a, y: jnp.exp(-jnp.square((a[0] - 0.9) / 0.03)))
    settings = THOROUGH.model_copy(
        update={"samples": 32, "elites": 4, "iterations": 3, "std_from": 0.05, "horizon": 2}
    )
    knowing = Actor(2, ONE, tiny.BEHAVIOUR.model_copy(update={"min_std": 0.01}), key=KEY)
    output = knowing.net.output
    bias = jnp.array([float(np.arctanh(0.9)), -20.0])  # its mean, and the least deviation
    knowing = eqx.tree_at(
        lambda a: (a.net.output.weight, a.net.output.bias),
        knowing,
        (jnp.zeros_like(output.weight), bias),
    )
    assert plans(name, settings, HERE, pay, by=knowing).action.max() < 0.5
    helped = settings.model_copy(update={"policy_share": 0.25})
    found = plans(name, helped, HERE, pay, by=knowing)
    np.testing.assert_allclose(found.action, 0.9, atol=0.1)


@both
def test_a_warm_start_goes_on_from_the_last_plan(name: str) -> None:
    """With one small iteration a step, what was planned before is most of what is known."""
    small = THOROUGH.model_copy(
        update={"samples": 24, "elites": 4, "iterations": 1, "std_from": 0.3, "horizon": 3}
    )
    wish = Wish(lambda x, a, y: -jnp.square(a[0] - 0.8))

    def distance(settings: PlanningSettings) -> float:
        memory = None
        for number in range(8):
            keys = jax.random.split(jax.random.key(number), 4)
            found = plans(name, settings, HERE, wish, memory=memory, keys=keys)
            memory = found.memory
        return float(np.abs(found.action - 0.8).mean())

    cold = small.model_copy(update={"warm_start": False})
    assert distance(small) < 0.5 * distance(cold)
    assert plans(name, cold, HERE, wish).memory == ()


def test_a_remembered_plan_moves_on_by_a_step() -> None:
    settings = THOROUGH.model_copy(update={"horizon": 3})
    moved = resume(ONE, settings, jnp.array([[0.1], [0.2], [0.3]]))
    np.testing.assert_allclose(moved.centre()[:, 0], [0.2, 0.3, 0.0])
    choices = resume(ActionSpec("discrete", 2), settings, jnp.array([[1.0, 0], [1, 0], [0, 1]]))
    expected = [[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]]
    np.testing.assert_allclose(choices.centre(), expected)


def test_noise_is_correlated_over_the_horizon_alone() -> None:
    settings = THOROUGH.model_copy(update={"noise_correlation": 0.7})
    proposal = resume(ActionSpec("continuous", 2), settings, None)
    noise = np.asarray(proposal.noise(KEY, (20_000,)))
    np.testing.assert_allclose(noise.std(0), 1.0, atol=0.02)
    found = np.corrcoef(noise.reshape(20_000, -1), rowvar=False).reshape(6, 2, 6, 2)
    lags = np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
    np.testing.assert_allclose(found[:, 0, :, 0], 0.7**lags, atol=0.03)
    np.testing.assert_allclose(found[:, 0, :, 1], 0.0, atol=0.03)
    assert isinstance(proposal, NormalProposal)
    assert np.abs(proposal.sample(jnp.asarray(noise))).max() == 1.0


SMALL = PlanningSettings(samples=16, elites=4, iterations=2, horizon=3)


@pytest.mark.parametrize(("name", "action"), [("mppi", tiny.CONTINUOUS), ("cem", tiny.DISCRETE)])
def test_an_agent_plans_for_every_environment_apart(name: Any, action: ActionSpec) -> None:
    """What one remembers is forgotten with the first step of its episode, and no other's."""
    agent = tiny.agent(action=action)
    planner = build_planner(name, SMALL)
    observation = {k: v[:, 0] for k, v in tiny.batch(2, 1).items() if k == "state"}
    fresh = fresh_memory(agent, 2, planner)

    @eqx.filter_jit
    def step(memory: Any, first: jax.Array) -> Any:
        return act(agent, memory, observation, first, KEY, planner=planner, greedy=False)

    neither = jnp.zeros(2, bool)
    actions, memory = step(fresh, neither)
    assert actions.shape == (2, action.size)
    assert np.abs(actions).max() <= 1.0
    assert np.any(memory.plan != fresh.plan)
    again, _ = step(memory, jnp.array([True, False]))
    begun, _ = step(fresh, jnp.array([True, False]))
    np.testing.assert_array_equal(again[0], begun[0])
    _, other = step(memory, neither)
    _, reset = step(memory, jnp.array([True, False]))
    np.testing.assert_allclose(other.plan[1], reset.plan[1], rtol=1e-5, atol=1e-6)
    assert np.any(other.plan[0] != reset.plan[0])


def test_the_policy_acts_while_a_planner_waits() -> None:
    agent = tiny.agent()
    observation = {k: v[:, 0] for k, v in tiny.batch(2, 1).items() if k == "state"}
    rows = {**observation, "is_first": np.zeros(2, bool)}
    waiting = AgentActor(
        tiny.task_spec(), agent, 2, KEY, planner="cem", greedy=True, settings=SMALL
    )
    alone = AgentActor(tiny.task_spec(), agent, 2, KEY, planner="none", greedy=True)
    before = waiting.memory.plan
    np.testing.assert_array_equal(waiting(agent, rows, 0, plan=False), alone(agent, rows, 0))
    np.testing.assert_array_equal(waiting.memory.plan, before)
    planned = waiting(agent, rows, 1)
    assert np.any(planned != alone(agent, rows, 1))
    assert np.any(waiting.memory.plan != before)
    assert NoPlanner().initial(agent.actor) == ()


def test_nothing_is_compiled_twice() -> None:
    traced, seen = [], 0

    def move(x: jax.Array, a: jax.Array) -> jax.Array:
        traced.append(x)
        return x + 0.1 * a[0]

    world, memory = World(move), None
    settings = THOROUGH.model_copy(update={"samples": 16, "elites": 4})
    for number in range(3):
        # equal settings give equal planners, so that jobs share a compiled program
        same, keys = settings.model_copy(), jax.random.split(jax.random.key(number), 4)
        memory = plans("mppi", same, world, QUADRATIC, memory=memory, keys=keys).memory
        seen = seen or len(traced)
    assert len(traced) == seen
    assert isinstance(build_planner("mppi", settings), MPC)

"""Search on problems whose answers are known; the sampled prior by hand; compiled once."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from policies import candidates
from policies.actor import Actor, Choice, ClippedNormal
from policies.search import Found, cooled, improved, search
from policies.settings import SearchSettings
from tasks.contract import ActionSpec
from tests import tiny

KEY = jax.random.key(0)
SETTINGS = SearchSettings(simulations=16, actions=8, considered=4)


class Walk(eqx.Module):
    """A world whose state is [number of steps, the first action, the last action]."""

    def initial(self) -> jax.Array:
        return jnp.zeros(3)

    def noise(self, key: jax.Array, shape: tuple[int, ...] = ()) -> jax.Array:
        return jnp.zeros((*shape, 0))

    def root(self, state: jax.Array) -> jax.Array:
        return state

    def features(self, state: jax.Array) -> jax.Array:
        return state

    def imagine(self, state: jax.Array, action: jax.Array, noise: jax.Array) -> jax.Array:
        taken = action[0] if action.shape[0] == 1 else jnp.argmax(action).astype(jnp.float32)
        first = jnp.where(state[0] == 0, taken, state[1])
        return jnp.stack([state[0] + 1, first, taken])

    def observe(
        self, state: jax.Array, action: jax.Array, observation: Any, is_first: Any, noise: Any
    ) -> jax.Array:
        return state

    def reward(self, features: jax.Array) -> jax.Array:
        return jnp.zeros(())

    def continuation(self, features: jax.Array) -> jax.Array:
        return jnp.ones(())

    def loss(self, batch: Any, start: Any, slow_model: Any, key: Any) -> Any:
        return {}, start


class Pays(eqx.Module):
    """A reward for each state arrived in; nothing is worth anything beyond the tree."""

    rule: Any = eqx.field(static=True)
    factor: float = 1.0

    def reward(self, features: jax.Array, action: jax.Array, following: jax.Array) -> jax.Array:
        return self.rule(following)

    def discount(self, following: jax.Array) -> jax.Array:
        return jnp.full((), self.factor)

    def value(self, following: jax.Array) -> jax.Array:
        return jnp.zeros(())


BANDIT = Pays(lambda s: jnp.array([0.1, 0.9, 0.3])[s[2].astype(int)], 0.0)
# Left pays 1 at once and nothing more; right pays 2 after the next step.
LATER = Pays(lambda s: jnp.where(s[0] == 1, s[1] == 0, 2.0 * (s[1] == 1) * (s[0] == 2)) * 1.0)
HILL = Pays(lambda s: -jnp.square(s[2] - 0.37), 0.0)


def actor(kind: str = "discrete", size: int = 3) -> Actor:
    return Actor(3, ActionSpec(kind, size), tiny.BEHAVIOUR, key=KEY)  # pyright: ignore[reportArgumentType]


def find(
    objective: Pays,
    who: Actor,
    settings: SearchSettings = SETTINGS,
    number: int = 4,
    greedy: bool = True,
    invalid: jax.Array | None = None,
    key: jax.Array = KEY,
    heat: float | None = None,
) -> Found:
    options: dict[str, Any] = {"greedy": greedy, "invalid": invalid}

    @eqx.filter_jit
    def run(key: jax.Array, heat: jax.Array | None) -> Found:
        states = jnp.zeros((number, 3))
        arguments = (Walk(), who, objective, states, key, settings)
        return search(*arguments, **options, temperature=heat)

    return run(key, None if heat is None else jnp.array(heat))


@pytest.mark.parametrize("kind", ["gumbel", "muzero"])
def test_a_bandit(kind: str) -> None:
    settings = SETTINGS.model_copy(update={"kind": kind, "simulations": 24})
    found = find(BANDIT, actor(), settings)
    np.testing.assert_array_equal(found.action.argmax(-1), 1)
    np.testing.assert_array_equal(found.weights.argmax(-1), 1)
    np.testing.assert_allclose(found.weights.sum(-1), 1.0, rtol=1e-5)
    assert (found.value > 0.3).all()  # above the arms' mean, towards the best one


def test_two_simulations_improve_on_the_policy() -> None:
    """With as few simulations as two the chosen arm is better than the prior's on average."""
    settings = SETTINGS.model_copy(update={"simulations": 2, "considered": 2})
    found = find(BANDIT, actor(), settings, number=512, greedy=False)
    paid = jnp.array([0.1, 0.9, 0.3])[found.action.argmax(-1)].mean()
    assert paid > 1.3 / 3 + 0.1


def test_a_tree_where_the_greedy_arm_is_wrong() -> None:
    who = actor(size=2)
    assert (find(LATER, who).action.argmax(-1) == 1).all()
    assert (find(LATER, who, SETTINGS.model_copy(update={"depth": 1})).action.argmax(-1) == 0).all()


def test_a_quadratic_reward_is_climbed_the_higher_the_more_is_tried() -> None:
    who = actor("continuous", 1)

    def miss(number: int) -> float:
        sizes = {"simulations": number, "actions": number, "considered": number}
        found = find(HILL, who, SETTINGS.model_copy(update=sizes), number=32)
        return float(jnp.abs(found.action[:, 0] - 0.37).mean())

    few, some, many = miss(2), miss(8), miss(32)
    assert few > some > many
    assert many < 0.06


@pytest.mark.parametrize(("kind", "greedy"), [("gumbel", False), ("muzero", True)])
def test_all_but_one_masked(kind: str, greedy: bool) -> None:
    settings = SETTINGS.model_copy(update={"kind": kind, "simulations": 4})
    invalid = jnp.array([[True, True, False]] * 4)
    found = find(BANDIT, actor(), settings, greedy=greedy, invalid=invalid)
    np.testing.assert_array_equal(found.action.argmax(-1), 2)
    np.testing.assert_allclose(found.weights, [[0.0, 0.0, 1.0]] * 4, atol=1e-6)


def test_no_temperature_is_so_high_that_a_masked_choice_is_taken() -> None:
    hot = SETTINGS.model_copy(update={"temperature": 1e3})
    invalid = jnp.array([[True, False, False]] * 64)
    found = find(BANDIT, actor(), hot, number=64, greedy=False, invalid=invalid)
    assert set(np.asarray(found.action.argmax(-1)).tolist()) == {1, 2}


@pytest.mark.parametrize("heat", [None, 0.0])
def test_temperature_nothing_takes_the_best_weight(heat: float | None) -> None:
    """Whether it is the settings' or what it has come to meanwhile."""
    settings = SETTINGS.model_copy(update={"temperature": 0.0 if heat is None else 1e3})
    found = find(BANDIT, actor(), settings, number=16, greedy=False, heat=heat)
    np.testing.assert_array_equal(found.action.argmax(-1), found.weights.argmax(-1))


def test_the_temperature_goes_evenly_to_its_end() -> None:
    settings = SETTINGS.model_copy(update={"temperature_end": 0.2, "temperature_share": 0.5})
    found = [cooled(settings, 100, updates) for updates in (0, 20, 50, 90)]
    assert found == pytest.approx([1.0, 0.68, 0.2, 0.2])
    assert cooled(SETTINGS, 100, 70) == 1.0
    assert cooled(settings, 0, 0) == 1.0


def test_the_sampled_prior_by_hand() -> None:
    """Two dimensions, four actions, half of them at twice the deviation."""
    mean, deviation = np.array([0.2, -0.5]), np.array([0.3, 0.6])
    policy = ClippedNormal(jnp.array(mean), jnp.array(deviation), jnp.zeros(4))
    settings = SearchSettings(actions=4, wide_share=0.5, widening=2.0)
    noise = np.array([[9.0, 9.0], [0.5, 1.0], [0.5, -0.4], [3.0, 0.2]])  # the first is the mean
    found = candidates.propose(policy, jnp.asarray(noise, jnp.float32), settings)
    raw = mean + deviation * np.array([[0, 0], [0.5, 1.0], [1.0, -0.8], [6.0, 0.4]])
    np.testing.assert_allclose(found.actions, np.clip(raw, -1, 1), rtol=1e-5)

    def chance(widening: float) -> np.ndarray:
        d = widening * deviation
        inside = norm.pdf(np.clip(raw, -1, 1), mean, d)
        low, high = norm.cdf(-1.0, mean, d), norm.sf(1.0, mean, d)
        return np.where(raw <= -1, low, np.where(raw >= 1, high, inside)).prod(-1)

    expected = chance(1.0) / (0.5 * chance(1.0) + 0.5 * chance(2.0))
    np.testing.assert_allclose(np.exp(found.prior), expected, rtol=1e-4)


def test_a_corrected_sample_stands_for_the_policy() -> None:
    """Whatever share is drawn wide, means under the prior are the policy's, clipping included."""
    policy = ClippedNormal(jnp.array([0.6]), jnp.array([0.5]), jnp.zeros(2))
    draws = np.clip(0.6 + 0.5 * np.random.default_rng(0).normal(size=10**6), -1, 1)
    for share in (0.0, 0.5):
        settings = SearchSettings(actions=4000, wide_share=share)
        found = candidates.propose(policy, jax.random.normal(KEY, (4000, 1)), settings)
        prior = jax.nn.softmax(found.prior)
        for of in (lambda x: x, lambda x: x**2, lambda x: x >= 1):
            got = float((prior * of(found.actions[:, 0])).sum())
            assert got == pytest.approx(of(draws).mean(), abs=0.03)


def test_choices_are_all_proposed() -> None:
    policy = Choice(jnp.log(jnp.array([0.2, 0.5, 0.3])))
    found = candidates.propose(policy, jnp.zeros((3, 3)), SETTINGS)
    np.testing.assert_array_equal(found.actions, np.eye(3))
    np.testing.assert_allclose(jnp.exp(found.prior), [0.2, 0.5, 0.3], rtol=1e-6)


def test_the_improved_policy_by_hand() -> None:
    prior, values = jnp.log(jnp.array([0.5, 0.25, 0.25])), jnp.array([1.0, 3.0, 2.0])
    scale = 51 * SETTINGS.value_scale
    weights = np.array([0.5, 0.25 * np.exp(scale), 0.25 * np.exp(scale / 2)])
    found = improved(prior, values, SETTINGS)
    np.testing.assert_allclose(found, weights / weights.sum(), rtol=1e-5)


def test_small_differences_of_value_stay_small() -> None:
    """Below the floor a range of values is not stretched: noise does not make a policy."""
    prior, values = jnp.log(jnp.array([0.5, 0.5])), jnp.array([0.0, 0.1 * SETTINGS.value_floor])
    found = improved(prior, values, SETTINGS)
    tilt = np.exp(0.1 * 51 * SETTINGS.value_scale)
    np.testing.assert_allclose(found, [1 / (1 + tilt), tilt / (1 + tilt)], rtol=1e-5)


def test_a_second_search_compiles_nothing() -> None:
    compiled = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration)

    who = actor("continuous", 1)

    @eqx.filter_jit
    def run(who: Actor, states: jax.Array, key: jax.Array) -> Found:
        return search(Walk(), who, HILL, states, key, SETTINGS, greedy=False)

    first, second, other = jnp.zeros((4, 3)), jnp.ones((4, 3)), jax.random.key(1)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        run(who, first, KEY)
        assert compiled  # else the event has another name and the test is blind
        compiled.clear()
        run(who, second, other)
        assert not compiled
    finally:
        jax.monitoring.clear_event_listeners()

"""Returns, action distributions, the critic's running parts, and the actor's gradient."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from policies.actor import Actor, Choice, ClippedNormal
from policies.critic import Critic, ReturnRange
from policies.imagination import behaviour_losses, use_dynamics
from policies.returns import lambda_returns, survival
from tests import tiny

KEY = jax.random.key(0)


def test_lambda_returns_by_hand() -> None:
    rewards, discounts = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.5, 0.5, 0.0])
    values = jnp.array([10.0, 20.0, 30.0])
    # the last step ends the episode: 3; then 2 + 0.5 (0.2 * 20 + 0.8 * 3); then 1 + ...
    second = 2 + 0.5 * (0.2 * 20 + 0.8 * 3)
    first = 1 + 0.5 * (0.2 * 10 + 0.8 * second)
    found = lambda_returns(rewards, discounts, values, 0.8)
    np.testing.assert_allclose(found, [first, second, 3.0], rtol=1e-6)


@pytest.mark.parametrize("mix", [0.0, 0.6, 1.0])
def test_lambda_returns_against_a_loop(mix: float) -> None:
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 7, 3)).astype(np.float32)
    discounts = rng.uniform(0, 1, (7, 3)).astype(np.float32)
    expected = np.zeros_like(rewards)
    later = values[-1]
    for t in reversed(range(7)):
        later = rewards[t] + discounts[t] * ((1 - mix) * values[t] + mix * later)
        expected[t] = later
    found = lambda_returns(jnp.array(rewards), jnp.array(discounts), jnp.array(values), mix)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_survival_counts_the_discounts_before_a_step() -> None:
    found = survival(jnp.array([0.5, 0.9, 0.1, 0.7]))
    np.testing.assert_allclose(found, [1.0, 0.5, 0.45, 0.045], rtol=1e-6)


def test_normal_against_scipy() -> None:
    mean, deviation = np.array([0.3, -0.9]), np.array([0.2, 0.7])
    normal = ClippedNormal(jnp.array(mean), jnp.array(deviation), jnp.zeros(4))
    action = np.array([0.1, -1.0])
    reference = stats.norm(mean, deviation)
    log_prob = float(normal.log_prob(jnp.array(action)))
    assert log_prob == pytest.approx(reference.logpdf(action).sum(), rel=1e-5)
    assert float(normal.entropy()) == pytest.approx(float(reference.entropy().sum()), rel=1e-5)
    np.testing.assert_allclose(normal.mode(), mean, rtol=1e-6)
    noise = jax.random.normal(KEY, (2000, 2))
    samples = jax.vmap(normal.sample)(noise)
    assert np.abs(samples).max() == 1.0
    assert float(samples[:, 0].mean()) == pytest.approx(0.3, abs=0.02)
    # clipped or not, the sample's gradient to the mean is one
    gradient = jax.vmap(
        lambda z: jax.grad(
            lambda m: ClippedNormal(m, jnp.array(deviation), jnp.zeros(4)).sample(z).sum()
        )(jnp.array(mean))
    )(noise[:50])
    np.testing.assert_array_equal(gradient, np.ones((50, 2)))


def test_strain_by_hand() -> None:
    normal = ClippedNormal(jnp.zeros(2), jnp.ones(2), jnp.array([-1.9, 2.5, -5.0, 2.0]))
    assert float(normal.strain()) == pytest.approx(0.5**2 + 3.0**2)
    assert float(Actor(3, tiny.DISCRETE, tiny.BEHAVIOUR, key=KEY)(jnp.ones(3)).strain()) == 0


def test_a_strained_policy_comes_back_to_where_it_responds() -> None:
    """From raw outputs of 8, where squashing is flat, plain descent on the loss finds the way."""
    actor = Actor(3, tiny.CONTINUOUS, tiny.BEHAVIOUR, key=KEY)
    far = jnp.where(jnp.arange(actor.net.output.bias.shape[0]) < 2, 8.0, -10.0)
    actor = eqx.tree_at(lambda a: a.net.output.bias, actor, far)

    def loss(actor: Actor) -> jax.Array:
        return actor(jnp.ones(3)).strain()

    assert float(loss(actor)) > 100
    for _ in range(200):
        gradient = eqx.filter_grad(loss)(actor)
        actor = eqx.apply_updates(actor, jax.tree.map(lambda g: -0.02 * g, gradient))
    policy = actor(jnp.ones(3))
    assert float(loss(actor)) < 0.1
    assert (jnp.abs(policy.mode()) < 0.99).all()


def test_choice_by_hand() -> None:
    choice = Choice(jnp.log(jnp.array([0.2, 0.7, 0.1])))
    np.testing.assert_array_equal(choice.mode(), [0, 1, 0])
    assert float(choice.log_prob(jnp.array([0.0, 0.0, 1.0]))) == pytest.approx(np.log(0.1))
    entropy = float(stats.entropy([0.2, 0.7, 0.1]))
    assert float(choice.entropy()) == pytest.approx(entropy, rel=1e-5)


def test_policies_start_broad_and_never_certain() -> None:
    features = jax.random.normal(KEY, (5,))
    normal = Actor(5, tiny.CONTINUOUS, tiny.BEHAVIOUR, key=KEY)(features)
    assert isinstance(normal, ClippedNormal)
    assert np.abs(normal.mean).max() < 0.1
    assert (np.asarray(normal.deviation) > 0.5).all()
    actor = Actor(5, tiny.DISCRETE, tiny.BEHAVIOUR, key=KEY)
    actor = eqx.tree_at(lambda a: a.net.output.bias, actor, jnp.array([100.0, 0.0, 0.0]))
    choice = actor(features)
    assert isinstance(choice, Choice)
    np.testing.assert_allclose(jnp.exp(choice.log_probabilities)[1:], 0.01 / 3, rtol=1e-4)


def test_return_range_by_hand() -> None:
    spread = ReturnRange().update(jnp.linspace(0.0, 100.0, 101))
    assert float(spread.scale(1.0)) == pytest.approx(90.0, rel=1e-5)  # P95 - P5
    spread = spread.update(jnp.linspace(0.0, 200.0, 101))
    expected = (0.99 * 0.01 * 90 + 0.01 * 180) / (1 - 0.99**2)
    assert float(spread.scale(1.0)) == pytest.approx(expected, rel=1e-4)
    assert float(ReturnRange().update(jnp.full(10, 3.0)).scale(0.5)) == 0.5


def test_the_slow_critic_follows() -> None:
    critic = Critic(4, tiny.BEHAVIOUR, key=KEY)
    moved = eqx.tree_at(lambda c: c.net.output.bias, critic, critic.net.output.bias + 1.0)
    for _ in range(3):
        moved = moved.follow(0.9)
    np.testing.assert_allclose(moved.slow.value.output.bias, 1 - 0.9**3, rtol=1e-5)
    np.testing.assert_array_equal(moved.net.output.bias, np.ones(15))


def test_of_several_critics_the_least_counts_and_each_learns() -> None:
    settings = tiny.BEHAVIOUR.model_copy(update={"critics": 3})
    critic = Critic(4, settings, key=KEY)
    lone = Critic(4, tiny.BEHAVIOUR, key=KEY)
    features = jax.random.normal(KEY, (5, 4))
    # what they believe before they have learnt is zero, of all of them
    np.testing.assert_allclose(jax.vmap(critic)(features).mean(), 0.0, atol=1e-6)
    pushed = jnp.stack([jnp.linspace(0, s, 15) for s in (1.0, -1.0, 2.0)])
    critic = eqx.tree_at(lambda c: c.net.members.output.bias, critic, pushed)
    one = eqx.tree_at(lambda c: c.net.output.bias, lone, pushed[1])
    least, expected = jax.vmap(critic)(features), jax.vmap(one)(features)
    np.testing.assert_allclose(least.mean(), expected.mean(), rtol=1e-5)
    assert least.mean().shape == (5,)
    assert float(critic.slow_value(features[0])) == pytest.approx(0.0, abs=1e-6)
    followed = critic.follow(0.5)
    np.testing.assert_allclose(followed.slow.value.members.output.bias, pushed / 2)

    @eqx.filter_jit
    def likelihood(critic: Critic) -> jax.Array:
        return jax.vmap(critic)(features).log_prob(jnp.ones(5)).sum()

    slope = eqx.filter_jit(eqx.filter_grad(likelihood))(critic).net.members.output.bias
    assert np.abs(slope).max(-1).min() > 0
    by_one = likelihood(one)
    others = [eqx.tree_at(lambda c: c.net.output.bias, lone, p) for p in (pushed[0], pushed[2])]
    assert float(likelihood(critic)) == pytest.approx(float(by_one + sum(map(likelihood, others))))


class Line(eqx.Module):
    """A world whose state is its features, which the first action moves; nothing is random."""

    def root(self, state: jax.Array) -> jax.Array:
        return state

    def features(self, state: jax.Array) -> jax.Array:
        return state

    def noise(self, key: jax.Array, shape: tuple[int, ...] = ()) -> jax.Array:
        return jnp.zeros(shape)

    def imagine(self, state: jax.Array, action: jax.Array, noise: jax.Array) -> jax.Array:
        return state + 0.1 * action[0]

    def initial(self) -> jax.Array:
        return jnp.zeros(4)

    def observe(
        self,
        state: jax.Array,
        action: jax.Array,
        observation: object,
        is_first: jax.Array,
        noise: jax.Array,
    ) -> jax.Array:
        return state

    def reward(self, features: jax.Array) -> jax.Array:
        return features[0]

    def continuation(self, features: jax.Array) -> jax.Array:
        return jnp.ones(())

    def loss(
        self, batch: object, start: jax.Array, slow_model: object, key: jax.Array
    ) -> tuple[dict[str, jax.Array], jax.Array]:
        return {}, start


class Wish(eqx.Module):
    """The next state's first number, times `sign`; the horizon ends all."""

    sign: float

    def reward(self, features: jax.Array, action: jax.Array, following: jax.Array) -> jax.Array:
        return self.sign * following[0]

    def discount(self, following: jax.Array) -> jax.Array:
        return jnp.full((), 0.9)

    def value(self, following: jax.Array) -> jax.Array:
        return jnp.zeros(())


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
@pytest.mark.parametrize("estimator", ["dynamics", "reinforce"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_actor_climbs_a_known_slope(kind: str, estimator: str, sign: float) -> None:
    """More of the first action is worth more, or less: both estimators must find the sign."""
    spec = tiny.CONTINUOUS if kind == "continuous" else tiny.DISCRETE
    settings = tiny.BEHAVIOUR.model_copy(update={"estimator": estimator, "entropy": 0.0})
    actor = Actor(4, spec, settings, key=KEY)
    critic = Critic(4, settings, key=KEY)

    @eqx.filter_jit
    @eqx.filter_grad
    def slope(parts: tuple[Actor, Critic]) -> jax.Array:
        losses, _ = behaviour_losses(
            *parts, Line(), Wish(sign), jnp.zeros((512, 4)), jnp.ones(512), settings, KEY
        )
        return losses["actor"]

    of_actor, of_critic = slope((actor, critic))
    assert -sign * of_actor.net.output.bias[0] > 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(of_critic.net))


def test_a_gradient_through_the_model_counts_each_reward_once() -> None:
    """Three steps that each add their action to what every later reward is:
    d/da of r0 + 0.9 r1 + 0.81 r2 is 1 + 2 * 0.9 + 3 * 0.81 times that of a single step."""

    def slope(horizon: int) -> float:
        settings = tiny.BEHAVIOUR.model_copy(
            update={
                "imagination_horizon": horizon,
                "lambda_": 1.0,
                "return_floor": 1e3,  # so that both are divided by the same
                "entropy": 0.0,
                "min_std": 1e-4,
                "max_std": 2e-4,  # all but no noise: the action is what the bias says
            }
        )
        actor, critic = Actor(4, tiny.CONTINUOUS, settings, key=KEY), Critic(4, settings, key=KEY)
        last = actor.net.output.weight
        actor = eqx.tree_at(lambda a: a.net.output.weight, actor, jnp.zeros_like(last))

        @eqx.filter_jit
        @eqx.filter_grad
        def gradient(actor: Actor) -> jax.Array:
            states, weight = jnp.zeros((64, 4)), jnp.ones(64)
            arguments = (actor, critic, Line(), Wish(1.0), states, weight, settings, KEY)
            return behaviour_losses(*arguments)[0]["actor"]

        return float(gradient(actor).net.output.bias[0])

    assert slope(3) / slope(1) == pytest.approx(1 + 2 * 0.9 + 3 * 0.81, rel=1e-3)


class Hope(Wish):
    """Values five times the first number of where a step ends."""

    def value(self, following: jax.Array) -> jax.Array:
        return 5.0 * following[0]


def test_what_imagination_returns_by_hand() -> None:
    """An actor that always pushes alike, from where it stands on: rewards and values of the states
    that follow, none of the first, mixed backwards from the last."""
    settings = tiny.BEHAVIOUR.model_copy(update={"min_std": 1e-5, "max_std": 2e-5})
    actor, critic = Actor(4, tiny.CONTINUOUS, settings, key=KEY), Critic(4, settings, key=KEY)
    output = actor.net.output
    actor = eqx.tree_at(
        lambda a: (a.net.output.weight, a.net.output.bias),
        actor,
        (jnp.zeros_like(output.weight), output.bias.at[0].set(0.5)),
    )
    push = float(actor(jnp.zeros(4)).mode()[0])
    assert 0.1 < push < 1
    arguments = (actor, critic, Line(), Hope(1.0), jnp.ones((2, 4)), jnp.ones(2), settings, KEY)
    metrics = eqx.filter_jit(behaviour_losses)(*arguments)[1].metrics
    follows = 1 + 0.1 * push * np.arange(1, settings.imagination_horizon + 1)
    expected, later = [], 5.0 * follows[-1]
    for state in follows[::-1]:
        mixed = (1 - settings.lambda_) * 5.0 * state + settings.lambda_ * later
        later = state + 0.9 * mixed
        expected.append(later)
    assert float(metrics["return/mean"]) == pytest.approx(np.mean(expected), rel=1e-3)
    assert float(metrics["reward/imagined"]) == pytest.approx(np.mean(follows), rel=1e-3)


def test_auto_chooses_the_estimator_by_the_kind_of_action() -> None:
    for spec, expected in ((tiny.CONTINUOUS, True), (tiny.DISCRETE, False)):
        assert use_dynamics(tiny.BEHAVIOUR, Actor(4, spec, tiny.BEHAVIOUR, key=KEY)) is expected


def test_starts_after_a_termination_do_not_count() -> None:
    settings = tiny.BEHAVIOUR
    actor = Actor(4, tiny.CONTINUOUS, settings, key=KEY)
    critic = Critic(4, settings, key=KEY)
    # a flat head would lose alike whatever it is to learn
    critic = eqx.tree_at(lambda c: c.net.output.bias, critic, jnp.linspace(-1.0, 1.0, 15))

    @jax.jit
    def losses(states: jax.Array) -> dict[str, jax.Array]:
        weight = jnp.array([1.0, 0.0])
        return behaviour_losses(actor, critic, Line(), Wish(1.0), states, weight, settings, KEY)[0]

    one, other = jnp.zeros((2, 4)), jnp.zeros((2, 4)).at[1].set(3.0)
    assert losses(one)["critic"] == losses(other)["critic"]
    assert losses(one)["critic"] != losses(other[::-1])["critic"]

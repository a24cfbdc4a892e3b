"""symlog, two-hot, unimix, KL and entropy against numbers worked out by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_models.distributions import (
    TwoHot,
    categorical_entropy,
    categorical_kl,
    mix_uniform,
    sample_one_hot,
    symexp,
    symexp_bins,
    symlog,
    two_hot,
)


def test_symlog_and_its_inverse() -> None:
    x = jnp.array([-1000.0, -1.0, 0.0, 0.5, 3.0, 1e4])
    assert symlog(jnp.array(math.e - 1)) == pytest.approx(1.0)
    assert symlog(jnp.array(1 - math.e)) == pytest.approx(-1.0)
    np.testing.assert_allclose(symexp(symlog(x)), x, rtol=1e-5)


def test_bins_are_symmetric_about_an_exact_zero() -> None:
    bins = np.asarray(symexp_bins(255, 20.0))
    assert bins[127] == 0.0
    np.testing.assert_array_equal(bins, -bins[::-1])
    assert bins[-1] == pytest.approx(math.expm1(20.0), rel=1e-5)


def test_two_hot_by_hand() -> None:
    # three bins: -expm1(20), 0, expm1(20)
    top = math.expm1(20.0)
    encoded = two_hot(jnp.array([0.25 * top, -0.5 * top, 0.0, 9 * top, -9 * top]), 3, 20.0)
    expected = [[0, 0.75, 0.25], [0.5, 0.5, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    np.testing.assert_allclose(encoded, expected, atol=1e-6)


@pytest.mark.parametrize("number", [15, 255])
@pytest.mark.parametrize("reach", [6.0, 20.0])
def test_the_mean_of_a_two_hot_is_the_number(number: int, reach: float) -> None:
    x = jnp.array([-300.0, -1.5, -1e-3, 0.0, 0.02, 1.0, 77.0])
    bins = symexp_bins(number, reach)
    encoded = two_hot(x, number, reach)
    np.testing.assert_allclose(encoded @ bins, x, rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(encoded.sum(-1), 1.0, rtol=1e-6)
    assert ((encoded > 0).sum(-1) <= 2).all()


@pytest.mark.parametrize("number", [3, 15, 255])
def test_uniform_logits_mean_exactly_zero(number: int) -> None:
    assert TwoHot(jnp.full(number, 0.7), 20.0).mean() == 0.0


def test_two_hot_likelihood_by_hand() -> None:
    logits = jnp.log(jnp.array([0.2, 0.5, 0.3]))
    target = jnp.array(0.25 * math.expm1(20.0))
    expected = 0.75 * math.log(0.5) + 0.25 * math.log(0.3)
    assert TwoHot(logits, 20.0).log_prob(target) == pytest.approx(expected, rel=1e-5)


def trained(reach: float) -> TwoHot:
    """A head after 300 steps of plain gradient descent towards 0.3."""

    def loss(logits: jax.Array) -> jax.Array:
        return -TwoHot(logits, reach).log_prob(jnp.array(0.3))

    slope = jax.jit(jax.grad(loss))
    logits = jnp.zeros(41)
    for _ in range(300):
        logits = logits - 5.0 * slope(logits)
    return TwoHot(logits, reach)


@pytest.mark.parametrize("reach", [5.0, 20.0])
def test_likelihood_is_greatest_where_the_mean_is_the_target(reach: float) -> None:
    probabilities = jax.nn.softmax(trained(reach).logits)
    np.testing.assert_allclose(probabilities, two_hot(jnp.array(0.3), 41, reach), atol=0.01)


def test_a_short_reach_leaves_no_noise_of_far_bins() -> None:
    far, near = trained(20.0), trained(5.0)
    assert float(near.mean()) == pytest.approx(0.3, abs=0.05)
    # a nudge that changes the probability of the last bin alone, as new features would
    nudge = jnp.zeros(41).at[-1].set(1.0)
    assert abs(float(TwoHot(near.logits + nudge, 5.0).mean() - near.mean())) < 0.5
    assert abs(float(TwoHot(far.logits + nudge, 20.0).mean() - far.mean())) > 1e3


def test_unimix_by_hand() -> None:
    logits = jnp.log(jnp.array([0.7, 0.2, 0.1]))
    mixed = jnp.exp(mix_uniform(logits, 0.3))
    np.testing.assert_allclose(mixed, [0.59, 0.24, 0.17], rtol=1e-5)
    np.testing.assert_allclose(mix_uniform(logits + 5.0, 0.0), logits, atol=1e-5)
    floor = mix_uniform(jnp.array([1000.0, 0.0]), 0.01)
    np.testing.assert_allclose(jnp.exp(floor), [0.995, 0.005], rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (5, 6, 2)])
def test_unimix_is_the_same_for_few_and_many_classes(shape: tuple[int, ...]) -> None:
    logits = jax.random.normal(jax.random.key(0), shape)
    weights = np.exp(np.asarray(logits, np.float64))
    expected = 0.9 * weights / weights.sum(-1, keepdims=True) + 0.1 / shape[-1]
    np.testing.assert_allclose(jnp.exp(mix_uniform(logits, 0.1)), expected, rtol=1e-5)


def test_kl_and_entropy_by_hand() -> None:
    p, q = [0.5, 0.5], [0.25, 0.75]
    left, right = jnp.log(jnp.array([p, q])), jnp.log(jnp.array([q, p]))
    first = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    second = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert categorical_kl(left, right) == pytest.approx(first + second, rel=1e-5)
    assert categorical_kl(left, left) == 0.0
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    np.testing.assert_allclose(categorical_entropy(left), [math.log(2), entropy], rtol=1e-5)


def test_samples_follow_the_probabilities_and_pass_gradients() -> None:
    logits = jnp.log(jnp.array([0.7, 0.2, 0.1]))
    gumbel = jax.random.gumbel(jax.random.key(0), (4000, 3))
    samples = jax.vmap(lambda noise: sample_one_hot(logits, noise))(gumbel)
    np.testing.assert_allclose(samples.sum(-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(samples.mean(0), [0.7, 0.2, 0.1], atol=0.03)  # 4 deviations
    gradient = jax.jacobian(lambda lp: sample_one_hot(lp, gumbel[0]))(logits)
    np.testing.assert_allclose(gradient, np.diag([0.7, 0.2, 0.1]), rtol=1e-5)

"""MuZero's world model: normalised latents, the unroll, its losses by hand, collapse is seen."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from world_models.contract import WorldModel
from world_models.distributions import RootTwoHot, value_inverse, value_transform
from world_models.muzero import MuZero, build_muzero, corrected, halved, spread, standardised
from world_models.self_supervision import TEMPERATURE, consistency, contrast
from world_models.settings import MuZeroSettings
from world_models.windows import own_episode, spans

KEY = jax.random.key(0)
NAMES = ("encoder", "dynamics", "decoder", "reward_head")
MUZERO = MuZeroSettings(latent=12, unroll=2, projection=8)


def model(observation: dict = tiny.STATE, actions: int = 2, **changes: float) -> MuZero:
    keys = dict(zip(NAMES, jax.random.split(KEY, 4), strict=True))
    settings = MUZERO.model_copy(update=changes)
    return build_muzero(observation, actions, tiny.MODEL, settings, keys)


@pytest.mark.parametrize("observation", [tiny.STATE, tiny.STATE | tiny.IMAGE])
def test_the_contract(observation: dict) -> None:
    batch = tiny.batch(2, 5, observation=observation)
    weights = {"spr_scale": 1.0, "contrastive_scale": 1.0, "reconstruction_scale": 1.0}
    one = model(observation, **weights)
    assert isinstance(one, WorldModel)
    losses, states = eqx.filter_jit(MuZero.loss)(one, batch, jnp.zeros((2, 12)), None, KEY)
    assert set(losses) == {"reward", "continue", "spr", "contrastive", "reconstruction"}
    assert states.shape == (2, 5, 12)
    assert all(np.isfinite(value) for value in losses.values())
    seen = {name: batch[name][0, 0] for name in observation}
    state = one.observe(one.initial(), jnp.zeros(2), seen, jnp.array(True), one.noise(KEY))
    np.testing.assert_allclose(state, states[0, 0], atol=1e-5)
    following = one.imagine(state, jnp.ones(2), one.noise(KEY))
    for latent in (state, following):
        assert float(latent.mean()) == pytest.approx(0.0, abs=1e-5)
        assert float(jnp.square(latent).mean()) == pytest.approx(1.0, abs=1e-3)
    assert float(one.reward(one.features(following))) == pytest.approx(0.0, abs=1e-4)
    assert 0 < float(one.continuation(one.features(following))) < 1


def test_the_value_transform_by_hand() -> None:
    assert float(value_transform(jnp.array(3.0))) == pytest.approx(1.003)
    x = jnp.array([-100.0, -1.0, 0.0, 0.5, 3.0, 100.0])
    np.testing.assert_allclose(value_inverse(value_transform(x)), x, rtol=2e-3, atol=1e-5)


def test_two_hot_on_the_transformed_scale() -> None:
    for target in (-40.0, -1.0, 0.0, 0.3, 7.0):
        slope = jax.grad(lambda x, t=target: RootTwoHot(x, 5.0).log_prob(jnp.array(t)))
        encoded = slope(jnp.zeros(15)) + 1 / 15  # its part besides the softmax of nothing
        assert np.sum(np.asarray(encoded) > 1e-6) <= 2
        found = RootTwoHot(jnp.log(jnp.maximum(encoded, 1e-12)), 5.0)
        assert float(found.mean()) == pytest.approx(target, rel=1e-3, abs=1e-4)
    beyond = RootTwoHot(jnp.zeros(15), 5.0)
    assert beyond.log_prob(jnp.array(1e6)) == pytest.approx(-np.log(15), rel=1e-5)


def test_windows_stop_at_an_episode_s_end() -> None:
    first = jnp.array([[True, False, False, True, False, False]])
    valid = own_episode(first, 4, 2)
    expected = [[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]]
    np.testing.assert_array_equal(valid[0], np.array(expected, bool))
    np.testing.assert_array_equal(spans(jnp.arange(6)[None], 2, 3), [[[0, 1, 2], [1, 2, 3]]])


def test_the_unroll_is_the_model_step_by_step() -> None:
    one, batch = model(), tiny.batch(2, 5)
    roots = one.encode(batch, 3)
    unrolled = one.unroll(roots, batch["action"])
    assert unrolled.shape == (2, 3, 3, 12)
    state = roots[1, 2]
    for step in range(2):
        state = one.imagine(state, batch["action"][1, 2 + step], one.noise(KEY))
        np.testing.assert_allclose(unrolled[1, 2, step + 1], state, atol=1e-5)


def test_each_step_halves_the_gradient() -> None:
    one = model(actions=1)
    latent, actions = standardised(jnp.arange(12.0)), jnp.zeros((1, 3, 1))

    def last(z: jax.Array, steps: int) -> jax.Array:
        return one.unroll(z[None, None], actions)[0, 0, steps] @ jnp.arange(12.0)

    def plain(z: jax.Array) -> jax.Array:
        for _ in range(2):
            z = one.dynamics(z, jnp.zeros(1))
        return z @ jnp.arange(12.0)

    slope = jax.grad(last)(latent, 2)
    np.testing.assert_allclose(slope, 0.25 * jax.grad(plain)(latent), rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(jax.grad(lambda x: halved(x).sum())(jnp.ones(2)), [0.5, 0.5])


def test_losses_do_not_reach_beyond_the_episode() -> None:
    one, batch = model(reconstruction_scale=1.0, contrastive_scale=0.0), tiny.batch(1, 3)
    batch["is_first"] = jnp.array([[True, False, True]])

    found = eqx.filter_jit(lambda one, batch: one.loss(batch, jnp.zeros((1, 12)), None, KEY)[0])

    def losses(last: float, name: str) -> dict[str, jax.Array]:
        changed = batch | {name: batch[name].at[0, 2].set(batch[name].dtype.type(last))}
        return found(one, changed)

    for name in ("reward", "state", "is_terminal"):
        a, b = losses(1.0, name), losses(0.0, name)
        for key in a:
            np.testing.assert_allclose(a[key], b[key], err_msg=key)


def test_unknown_rewards_are_not_learnt() -> None:
    one, batch = model(), tiny.batch(1, 3)
    batch["reward_known"] = jnp.zeros((1, 3))
    losses, _ = eqx.filter_jit(MuZero.loss)(one, batch, jnp.zeros((1, 12)), None, KEY)
    assert losses["reward"] == 0


def test_losses_by_step_count_as_their_sequence_weighs() -> None:
    each, weight = jnp.arange(8.0).reshape(2, 2, 2), jnp.array([1.0, 10.0])
    expected = [0, 1, 2, 3, 40, 50, 60, 70]
    np.testing.assert_array_equal(corrected(each, weight).ravel(), expected)
    np.testing.assert_array_equal(corrected(each.ravel(), weight), expected)
    assert corrected(each, None) is each


def test_consistency_and_contrast_by_hand() -> None:
    up, right = jnp.array([0.0, 1.0]), jnp.array([1.0, 0.0])
    found = consistency(jnp.stack([up, up]), jnp.stack([up, right]))
    np.testing.assert_allclose(found, [-1.0, 0.0], atol=1e-6)
    targets = jnp.stack([up, right, -up])
    found = contrast(jnp.stack([up]), targets, jnp.array([0]))
    scores = np.array([1.0, 0.0, -1.0]) / TEMPERATURE
    expected = np.log(np.exp(scores).sum()) - scores[0]
    np.testing.assert_allclose(found, [expected], atol=1e-6)
    assert not np.any(jax.grad(lambda t: contrast(up[None], t, jnp.array([0]))[0])(targets))


def test_targets_come_from_the_slow_model() -> None:
    one, batch = model(), tiny.batch(2, 5)
    slow = jax.tree.map(lambda x: 1.1 * x + 0.1 if eqx.is_inexact_array(x) else x, one)
    start = jnp.zeros((2, 12))

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def of_slow(slow: MuZero) -> jax.Array:
        return one.loss(batch, start, slow, KEY)[0]["spr"]

    value, slope = of_slow(slow)
    assert value != of_slow(one)[0]
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(slope))


def test_a_decoder_of_weight_nothing_only_looks_on() -> None:
    batch, start = tiny.batch(2, 5), jnp.zeros((2, 12))

    @eqx.filter_jit
    @eqx.filter_grad
    def slope(one: MuZero) -> jax.Array:
        return one.loss(batch, start, None, KEY)[0]["reconstruction"]

    watching, shaping = slope(model()), slope(model(reconstruction_scale=1.0))
    for one, moved in ((watching, False), (shaping, True)):
        assert any(np.any(leaf) for leaf in jax.tree.leaves(one.decoder.observation))
        for part in (one.encoder, one.dynamics):
            assert any(np.any(leaf) for leaf in jax.tree.leaves(part)) is moved


def test_spread_shows_collapse() -> None:
    latents = standardised(jax.random.normal(KEY, (64, 12)))
    assert 0.8 < float(spread(latents)) <= 1.0
    assert float(spread(jnp.broadcast_to(latents[0], (64, 12)))) == pytest.approx(0.0, abs=1e-6)
    pair = jnp.array([[1.0, -1.0], [-1.0, 1.0]])  # sqrt(8) apart, unrelated ones sqrt(4)
    assert float(spread(pair)) == pytest.approx(1.0)  # each counts with itself, too

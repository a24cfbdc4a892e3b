"""The recurrent state-space model: resets, losses, where gradients go, and that it learns."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from policies.agent import component_key
from policies.dreamer import loss_weights
from tests import tiny
from world_models.contract import WorldModel
from world_models.distributions import categorical_kl, symlog
from world_models.rssm import LOSSES, RSSM, State, build_rssm, latent_entropy
from world_models.settings import ModelSettings

KEY = jax.random.key(0)
PARTS = ("encoder", "dynamics", "decoder", "reward_head")


def build(settings: ModelSettings = tiny.MODEL) -> RSSM:
    keys = {name: component_key(0, "transfer", name) for name in PARTS}
    return build_rssm(tiny.STATE, 2, settings, keys)


def start(model: RSSM, number: int) -> State:
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (number, *x.shape)), model.initial())


@eqx.filter_jit
def loss_of(
    model: RSSM, batch: dict[str, jax.Array], start: State, slow_model: None, key: jax.Array
) -> tuple[dict[str, jax.Array], State]:
    """One compiled program serves most tests."""
    return model.loss(batch, start, slow_model, key)


def gradients(model: RSSM, name: str, batch: dict[str, jax.Array]) -> dict[str, float]:
    """Norm of one loss's gradient in each part of the model."""

    def loss(model: RSSM) -> jax.Array:
        return loss_of(model, batch, start(model, 2), None, KEY)[0][name]

    found = eqx.filter_grad(loss)(model)
    parts = {name: getattr(found, name) for name in PARTS} | {
        "posterior": found.encoder.posterior,
        "prior": found.dynamics.prior,
    }
    return {name: float(optax.tree.norm(part)) for name, part in parts.items()}


def test_unbatched_contract() -> None:
    model = build()
    assert isinstance(model, WorldModel)
    noise = model.noise(KEY)
    state = model.observe(
        model.initial(), jnp.zeros(2), {"state": jnp.ones(3)}, jnp.array(True), noise
    )
    state = model.imagine(state, jnp.zeros(2), noise)
    np.testing.assert_allclose(state.latent.sum(-1), 1.0, atol=1e-6)
    features = model.features(state)
    assert features.shape == (16 + 16,)
    assert model.reward(features) == 0.0  # the head starts at exactly zero
    assert 0 < float(model.continuation(features)) < 1
    losses, states = loss_of(model, tiny.batch(2, 5), start(model, 2), None, KEY)
    assert states.recurrent.shape == (2, 5, 16)
    assert all(loss.shape == () for loss in losses.values())


def test_every_loss_has_a_weight_of_its_own_name() -> None:
    model = build()
    losses, _ = loss_of(model, tiny.batch(2, 5), start(model, 2), None, KEY)
    assert set(losses) == set(LOSSES) == set(loss_weights(tiny.MODEL, "transfer"))
    assert loss_weights(tiny.MODEL, "explore")["reward"] == 0.0
    assert loss_weights(tiny.MODEL, "transfer")["reward"] == 1.0


def test_a_first_row_forgets_what_was_before() -> None:
    model = build()
    one, other = tiny.batch(2, 6, seed=1), tiny.batch(2, 6, seed=2)
    first = jnp.zeros((2, 6), bool).at[:, 3].set(True)
    joined = {k: jnp.concatenate([other[k][:, :3], one[k][:, 3:]], 1) for k in one}
    _, a = loss_of(model, one | {"is_first": first}, start(model, 2), None, KEY)
    _, b = loss_of(model, joined | {"is_first": first}, start(model, 2), None, KEY)
    np.testing.assert_array_equal(a.recurrent[:, 3:], b.recurrent[:, 3:])
    np.testing.assert_array_equal(a.latent[:, 3:], b.latent[:, 3:])
    _, c = loss_of(model, joined, start(model, 2), None, KEY)
    assert not np.allclose(a.recurrent[:, 3:], c.recurrent[:, 3:])


def test_acting_and_learning_agree_on_states() -> None:
    """`observe`, row by row with the action before, gives the states that `loss` trains on."""
    model = build()
    batch = tiny.batch(1, 4)
    batch["is_first"] = batch["is_first"].at[0, 0].set(True)
    _, states = loss_of(model, batch, start(model, 1), None, KEY)
    noise = model.noise(KEY, (4, 1))
    observe = eqx.filter_jit(model.observe)
    state, action = model.initial(), jnp.zeros(2)
    for t in range(4):
        observation = {"state": batch["state"][0, t]}
        state = observe(state, action, observation, batch["is_first"][0, t], noise[t, 0])
        np.testing.assert_allclose(state.recurrent, states.recurrent[0, t], rtol=1e-4, atol=1e-6)
        action = batch["action"][0, t]


def test_kl_balancing_trains_each_side_by_itself() -> None:
    model = build(tiny.MODEL.model_copy(update={"free_nats": 0.0}))
    # one step, as later ones also reach the posterior through the samples that they begin from
    batch = tiny.batch(2, 1)
    dynamics = gradients(model, "dynamics", batch)
    assert dynamics["prior"] > 0
    assert dynamics["posterior"] == 0
    representation = gradients(model, "representation", batch)
    assert representation["prior"] == 0
    assert representation["posterior"] > 0


def test_kl_within_the_free_nats_is_not_trained() -> None:
    model = build(tiny.MODEL.model_copy(update={"free_nats": 1000.0}))
    losses, _ = loss_of(model, tiny.batch(2, 5), start(model, 2), None, KEY)
    assert losses["dynamics"] == losses["representation"] == 1000.0
    assert gradients(model, "dynamics", tiny.batch(2, 5))["prior"] == 0


def test_free_nats_act_on_every_step_before_the_mean() -> None:
    model = build()
    log = jnp.log(jnp.array([[[0.9, 0.1]], [[0.5, 0.5]]]))[:, None]
    other = jnp.log(jnp.array([[[0.001, 0.999]], [[0.5, 0.5]]]))[:, None]
    kl = float(categorical_kl(log[0], other[0])[0])
    assert kl > 1
    losses = model._kl_losses(log, other)
    assert losses["dynamics"] == pytest.approx((kl + 1.0) / 2, rel=1e-5)


def test_reconstruction_by_hand() -> None:
    model = build()
    output = model.decoder.vectors["state"].output
    guess = jnp.array([0.1, -0.2, 0.3])
    model = eqx.tree_at(
        lambda m: (
            m.decoder.vectors["state"].output.weight,
            m.decoder.vectors["state"].output.bias,
        ),
        model,
        (jnp.zeros_like(output.weight), guess),
    )
    batch = tiny.batch(2, 5)
    losses, _ = loss_of(model, batch, start(model, 2), None, KEY)
    expected = np.square(np.asarray(symlog(batch["state"])) - np.asarray(guess)).sum(-1).mean()
    assert losses["reconstruction"] == pytest.approx(expected, rel=1e-5)


def test_unknown_rewards_are_not_learnt() -> None:
    model = build()
    batch = tiny.batch(2, 5)
    batch["reward_known"] = batch["reward_known"].at[1].set(0.0)
    losses = loss_of(model, batch, start(model, 2), None, KEY)[0]
    other = loss_of(
        model, batch | {"reward": batch["reward"].at[1].set(99.0)}, start(model, 2), None, KEY
    )[0]
    assert losses["reward"] == other["reward"]
    # uniform logits: cross entropy is log(bins) for any target, if the mean is over known rows
    assert losses["reward"] == pytest.approx(np.log(15), rel=1e-5)
    batch["reward_known"] = jnp.zeros((2, 5))
    assert loss_of(model, batch, start(model, 2), None, KEY)[0]["reward"] == 0.0


def test_heads_follow_reward_and_termination() -> None:
    found = gradients(build(), "continue", tiny.batch(2, 5))
    assert found["reward_head"] > 0
    assert found["encoder"] > 0
    assert found["decoder"] == found["prior"] == 0


def test_a_tiny_model_overfits_a_small_batch() -> None:
    model = build()
    batch = tiny.batch(2, 5)
    batch["is_first"] = batch["is_first"].at[:, 0].set(True)
    batch["is_terminal"] = batch["is_terminal"].at[:, -1].set(True)
    optimiser = optax.adam(1e-2)
    memory = optimiser.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def update(model: RSSM, memory: optax.OptState, key: jax.Array):
        def loss(model: RSSM) -> tuple[jax.Array, dict[str, jax.Array]]:
            losses, _ = loss_of(model, batch, start(model, 2), None, key)
            return sum(losses.values(), start=jnp.zeros(())), losses

        (_, losses), found = eqx.filter_value_and_grad(loss, has_aux=True)(model)
        steps, memory = optimiser.update(found, memory)
        return eqx.apply_updates(model, steps), memory, losses

    before = update(model, memory, KEY)[2]
    for number in range(300):
        model, memory, losses = update(model, memory, jax.random.key(number))
    # predicting the mean would leave about 0.7 of the reconstruction
    assert losses["reconstruction"] < 0.1 * before["reconstruction"]
    assert losses["continue"] < 0.05
    assert losses["reward"] < 0.5 * before["reward"]
    _, states = loss_of(model, batch, start(model, 2), None, KEY)
    assert 0 <= latent_entropy(model, states) <= np.log(4) + 1e-5

"""Layers against numbers worked out by hand, and the shapes of image nets."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from world_models.layers import MLP, BlockLinear, Linear, RMSNorm, each, truncated_normal
from world_models.rssm import RecurrentCore, State, gated
from world_models.vision import Fold, ImageDecoder, ImageEncoder, Kind, Unfold

KEY = jax.random.key(0)


def test_rms_norm_by_hand() -> None:
    norm = eqx.tree_at(lambda n: n.gain, RMSNorm(2), jnp.array([1.0, 10.0]))
    root = math.sqrt((9 + 16) / 2 + 1e-4)
    np.testing.assert_allclose(norm(jnp.array([3.0, 4.0])), [3 / root, 40 / root], rtol=1e-6)


def test_weights_start_with_the_variance_of_their_fan_in() -> None:
    weights = truncated_normal(KEY, (64, 512), 64, 2.0)
    assert weights.std() == pytest.approx(2.0 / math.sqrt(64), rel=0.02)
    assert jnp.abs(weights).max() <= 2 * 2.0 / math.sqrt(64) / 0.8796
    x = jax.random.normal(jax.random.key(1), (256,))
    assert Linear(256, 2000, key=KEY)(x).std() == pytest.approx(float(x.std()), rel=0.1)


def test_a_zero_scale_starts_at_zero() -> None:
    mlp = MLP(3, 5, width=8, layers=2, output_scale=0.0, key=KEY)
    np.testing.assert_array_equal(mlp(jnp.ones(3)), np.zeros(5))


def test_each_maps_over_the_two_leading_axes() -> None:
    x = {"a": jnp.arange(24.0).reshape(2, 3, 4), "b": jnp.arange(6.0).reshape(2, 3)}
    found = each(lambda x, n: (x["a"].sum() * n, x["a"] + x["b"]))(x, x["b"])
    np.testing.assert_array_equal(found[0], x["a"].sum(-1) * x["b"])
    np.testing.assert_array_equal(found[1], x["a"] + x["b"][..., None])


def test_block_linear_keeps_blocks_apart() -> None:
    layer = BlockLinear(3, 2, 4, fan_in=3, key=KEY)
    x = jax.random.normal(KEY, (4, 3))
    expected = np.stack([np.asarray(x[i]) @ np.asarray(layer.weight[i]) for i in range(4)])
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5)
    changed = layer(x.at[2].add(1.0)) != layer(x)
    np.testing.assert_array_equal(changed.any(-1), [False, False, True, False])


@pytest.mark.parametrize("blocks", [1, 4])
def test_gates_of_the_recurrent_core(blocks: int) -> None:
    """With all gate weights at zero the biases alone decide, so the algebra can be written out."""
    core = RecurrentCore(tiny.MODEL.model_copy(update={"blocks": blocks}), 2, key=KEY)
    size = 16 // blocks
    reset, candidate, update = 0.3, 0.8, -0.4
    bias = jnp.broadcast_to(jnp.array([reset, candidate, update])[:, None, None], (3, blocks, size))
    core = eqx.tree_at(
        lambda c: (c.gates.weight, c.gate_bias), core, (jnp.zeros_like(core.gates.weight), bias)
    )
    before = jnp.linspace(-1, 1, 16)
    after = core(State(before, jnp.zeros((4, 4))), jnp.zeros(2))

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    gate = sigmoid(update - 1)
    expected = gate * math.tanh(sigmoid(reset) * candidate) + (1 - gate) * np.asarray(before)
    np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("blocks", [1, 4])
def test_each_block_of_the_recurrent_core_reads_its_own_part_and_what_is_shared(
    blocks: int,
) -> None:
    """Against the product of each block's whole input, own and shared, with one matrix."""
    core = RecurrentCore(tiny.MODEL.model_copy(update={"blocks": blocks}), 2, key=KEY)
    state = State(jnp.linspace(-1, 1, 16), jnp.eye(4))
    action = jnp.array([0.5, -1.0])
    inputs = {"latent": jnp.eye(4).reshape(-1), "action": action, "recurrent": state.recurrent}
    read = [(x, inputs[n]) for n in inputs if (x := getattr(core, n)) is not None]
    assert len(read) == (3 if blocks > 1 else 2)  # one block's own part is the whole vector
    shared = np.concatenate([x.embed(value) for x, value in read])
    weights = np.concatenate([np.asarray(x.spread.weight) for x, _ in read])
    before = np.asarray(state.recurrent).reshape(blocks, -1)
    columns = weights.reshape(len(shared), blocks, -1)
    hidden = [
        np.concatenate([before[i], shared])
        @ np.concatenate([np.asarray(core.own.weight[i]), columns[:, i]])
        for i in range(blocks)
    ]
    x = jax.nn.silu(core.norm(jnp.asarray(np.concatenate(hidden)))).reshape(blocks, -1)
    expected = gated(core.gates(x), core.gate_bias, jnp.asarray(before)).reshape(-1)
    np.testing.assert_allclose(core(state, action), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("blocks", [1, 4])
@pytest.mark.parametrize("part", ["recurrent", "latent", "action"])
def test_the_recurrent_core_reads_all_its_inputs(part: str, blocks: int) -> None:
    core = RecurrentCore(tiny.MODEL.model_copy(update={"blocks": blocks}), 2, key=KEY)
    inputs = {"recurrent": jnp.zeros(16), "latent": jnp.zeros((4, 4)), "action": jnp.zeros(2)}

    def run(values: dict[str, jax.Array]) -> jax.Array:
        return core(State(values["recurrent"], values["latent"]), values["action"])

    assert not np.allclose(run(inputs), run(inputs | {part: inputs[part] + 1.0}))


def test_fold_and_unfold_by_hand() -> None:
    fold, unfold = Fold(3, 12, 2, key=KEY), Unfold(12, 3, 2, key=KEY)
    identity = lambda layer: eqx.tree_at(lambda x: x.linear.weight, layer, jnp.eye(12))  # noqa: E731
    image = jax.random.normal(KEY, (4, 6, 3))
    folded = identity(fold)(image)
    assert folded.shape == (2, 3, 12)
    np.testing.assert_array_equal(folded[1, 2], image[2:4, 4:6].reshape(-1))
    np.testing.assert_array_equal(identity(unfold)(folded), image)


@pytest.mark.parametrize("kind", ["patches", "convolutions"])
@pytest.mark.parametrize("size", [32, 64])
def test_image_nets_end_on_the_same_grid(kind: Kind, size: int) -> None:
    encoder = ImageEncoder(size, 3, kind=kind, depth=4, key=KEY)
    image = jax.random.randint(KEY, (size, size, 3), 0, 256).astype(jnp.uint8)
    embedding = eqx.filter_jit(encoder)(image)
    assert embedding.shape == (encoder.outputs,)
    assert np.isfinite(embedding).all()
    decoder = ImageDecoder(10, size, 3, kind=kind, depth=4, key=KEY)
    decoded = eqx.filter_jit(decoder)(jnp.ones(10))
    assert decoded.shape == (size, size, 3)
    assert ((decoded > 0) & (decoded < 1)).all()
    assert decoded.std() > 0


@pytest.mark.parametrize("kind", ["patches", "convolutions"])
def test_every_pixel_reaches_the_embedding(kind: Kind) -> None:
    encoder = ImageEncoder(32, 1, kind=kind, depth=4, key=KEY)
    black = jnp.zeros((32, 32, 1), jnp.uint8)
    corner = black.at[31, 31, 0].set(255)
    assert not np.allclose(encoder(black), encoder(corner))

"""The scan over time gives what `jax.lax.scan` gives, gradients included."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_models.layers import BlockLinear, Linear, RMSNorm, normed_silu
from world_models.running import cast
from world_models.time_scan import scan_over_time

LENGTH, NUMBER, SIZE = 5, 3, 8


class Net(eqx.Module):
    """A recurrent step of every kind of layer, and one layer that no step calls."""

    enter: Linear
    blocks: BlockLinear
    plain: Linear
    norm: RMSNorm
    idle: Linear
    number: int = eqx.field(static=True)

    def __init__(self, blocks: int):
        keys = jax.random.split(jax.random.key(0), 4)
        self.enter = Linear(2, SIZE, key=keys[0])
        block = SIZE // blocks
        self.blocks = BlockLinear(block, block, blocks, fan_in=block, key=keys[1])
        self.plain = Linear(SIZE, SIZE, key=keys[2])
        self.norm = RMSNorm(SIZE)
        self.idle = Linear(2, 3, key=keys[3])
        self.number = blocks

    def __call__(self, state: jax.Array, row: tuple) -> tuple[jax.Array, jax.Array]:
        x, is_first = row
        state = state * (1.0 - is_first)
        held = self.blocks(state.reshape(self.number, -1)).reshape(-1)
        y = normed_silu(self.norm, held + self.enter(x))
        state = jnp.tanh(self.plain(y)).astype(jnp.float32)
        return state, state.sum()


def plain(net: Net, carry: jax.Array, rows: tuple) -> tuple[jax.Array, jax.Array]:
    return jax.lax.scan(lambda c, row: jax.vmap(net)(c, row), carry, rows)


def late(net: Net, carry: jax.Array, rows: tuple) -> tuple[jax.Array, jax.Array]:
    return scan_over_time(lambda net, c, row: net(c, row), net, carry, rows)


def case(blocks: int) -> tuple[Net, jax.Array, tuple]:
    keys = jax.random.split(jax.random.key(1), 2)
    carry = jax.random.normal(keys[0], (NUMBER, SIZE))
    x = jax.random.normal(keys[1], (LENGTH, NUMBER, 2))
    is_first = jnp.zeros((LENGTH, NUMBER), bool).at[2, 1].set(True)
    return Net(blocks), carry, (x, is_first)


def gradients(scan: Any, blocks: int, dtype: str = "float32") -> Any:
    net, carry, (x, is_first) = case(blocks)
    share = jnp.linspace(0.5, 2.0, LENGTH * NUMBER).reshape(LENGTH, NUMBER)

    @eqx.filter_grad
    def loss(inputs: tuple) -> jax.Array:
        net, carry, x = inputs
        last, out = scan(cast(net, jnp.dtype(dtype)), carry, (x, is_first))
        return (share * out).sum() + jnp.square(last).sum()

    return loss((net, carry, x))


@pytest.mark.parametrize("blocks", [1, 4])
def test_it_gives_the_same_steps_and_the_same_gradients(blocks: int) -> None:
    found, expected = late(*case(blocks)), plain(*case(blocks))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)
    found, expected = gradients(late, blocks), gradients(plain, blocks)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), found, expected
    )
    assert float(jnp.abs(found[0].blocks.weight).sum()) > 0
    assert float(jnp.abs(found[0].idle.weight).sum()) == 0


def test_the_weight_of_one_step_has_the_outer_product_of_its_input_and_gradient() -> None:
    """One step of one sample, by hand: y = W x, loss = c . y."""
    layer = Linear(2, 3, key=jax.random.key(0))
    x, c = jnp.array([2.0, -1.0]), jnp.array([1.0, 0.5, 3.0])

    def loss(layer: Linear) -> jax.Array:
        def step(layer: Linear, carry: jax.Array, row: jax.Array) -> tuple[jax.Array, jax.Array]:
            return carry, layer(row)

        return (scan_over_time(step, layer, jnp.zeros((1, 1)), x[None, None])[1] * c).sum()

    found = jax.grad(loss)(layer)
    np.testing.assert_allclose(found.weight, np.outer(x, c))
    np.testing.assert_allclose(found.bias, c)


def test_weights_of_half_precision_get_gradients_of_their_own() -> None:
    found, expected = gradients(late, 4, "bfloat16"), gradients(plain, 4, "bfloat16")
    assert found[0].blocks.weight.dtype == jnp.float32
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0.1, atol=0.05), found, expected
    )


def test_a_layer_called_twice_in_a_step_is_refused() -> None:
    def twice(net: Linear, carry: jax.Array, row: jax.Array) -> tuple[jax.Array, jax.Array]:
        return carry, net(net(row))

    layer = Linear(2, 2, key=jax.random.key(0))
    with pytest.raises(AssertionError, match="once"):
        jax.grad(
            lambda net: scan_over_time(twice, net, jnp.zeros((1, 1)), jnp.ones((3, 1, 2)))[1].sum()
        )(layer)

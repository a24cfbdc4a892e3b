"""A scan over time whose weights get their gradients after it, one product each.

The reverse pass of `jax.lax.scan` adds to the gradient of every weight at every step: a thin
product and a pass over the whole matrix each time. But the sum over steps of (input x gradient) is
one product of all inputs and all gradients, which a CPU does several times faster; and the weights
can be turned once for the products that carry the gradient back in time.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from world_models.layers import BlockLinear, Linear
from world_models.products import outer_sum, product

M = TypeVar("M", bound=eqx.Module)


def scan_over_time(
    step: Callable[[M, PyTree, PyTree], tuple[PyTree, PyTree]],
    module: M,
    carry: PyTree,
    rows: PyTree,
) -> tuple[PyTree, PyTree]:
    """`jax.lax.scan` of `step(module, carry, row)`, mapped over a batch.

    Args:
        step: one sample's step to (carry, output); calls a linear layer of `module` once or never.
        carry: arrays [B, ...]; rows: arrays [T, B, ...].

    Returns:
        The last carry and the outputs [T, B, ...].
    """
    arrays, static = eqx.partition(module, eqx.is_array)

    @jax.custom_vjp
    def run(arrays: PyTree, carry: PyTree, rows: PyTree) -> tuple[PyTree, PyTree]:
        def mapped(carry: PyTree, row: PyTree) -> tuple[PyTree, PyTree]:
            return jax.vmap(lambda c, x: step(eqx.combine(arrays, static), c, x))(carry, row)

        return jax.lax.scan(mapped, carry, rows)

    def forward(arrays: PyTree, carry: PyTree, rows: PyTree) -> tuple[PyTree, PyTree]:
        lead = jax.tree.leaves(rows)[0].shape[:2]
        leaves = jax.tree.leaves(eqx.combine(arrays, static), is_leaf=is_linear)
        weights = [x.weight for x in leaves if is_linear(x)]
        turned = [jnp.swapaxes(w, -1, -2) for w in weights]
        taps = [jnp.zeros((*lead, *w.shape[:-2], w.shape[-1]), w.dtype) for w in weights]

        def tapped(arrays: PyTree, carry: PyTree, rows: PyTree, taps: list[Array]) -> PyTree:
            nodes, structure = jax.tree.flatten(eqx.combine(arrays, static), is_leaf=is_linear)

            def one(carry: PyTree, row: PyTree, taps: list[Array]) -> tuple[PyTree, PyTree]:
                pairs = zip(turned, taps, strict=True)
                new = [Tapped(x, *next(pairs)) if is_linear(x) else x for x in nodes]
                carry, out = step(jax.tree.unflatten(structure, new), carry, row)
                return carry, (out, [x.input for x in new if isinstance(x, Tapped)])

            mapped = jax.vmap(one)
            carry, (out, inputs) = jax.lax.scan(lambda c, x: mapped(c, *x), carry, (rows, taps))
            return (carry, out), inputs

        out, pull, inputs = jax.vjp(tapped, arrays, carry, rows, taps, has_aux=True)
        return out, (pull, inputs)

    def reverse(kept: tuple[Any, list[Array | None]], gradient: PyTree) -> tuple[PyTree, ...]:
        pull, inputs = kept
        arrays, carry, rows, taps = pull(gradient)
        nodes, structure = jax.tree.flatten(arrays, is_leaf=is_linear)
        pairs = zip(inputs, taps, strict=True)
        new = [with_weight(x, *next(pairs)) if is_linear(x) else x for x in nodes]
        return jax.tree.unflatten(structure, new), carry, rows

    run.defvjp(forward, reverse)
    return run(arrays, carry, rows)


def is_linear(x: Any) -> bool:
    """Whether it is a layer whose weight's gradient is taken after the scan."""
    return isinstance(x, Linear | BlockLinear)


class Tapped:
    """A linear layer whose weight is held still. It notes its `input`; `tap` gets the gradient of
    its product."""

    def __init__(self, layer: Linear | BlockLinear, turned: Array, tap: Array):
        self.layer, self.turned, self.tap = layer, turned, tap
        self.input: Array | None = None

    def __call__(self, x: Array) -> Array:
        assert self.input is None, "a step calls a linear layer once"
        self.input = x.astype(self.layer.weight.dtype)
        y = tapped_product(self.input, self.layer.weight, self.turned, self.tap)
        return y + self.layer.bias if isinstance(self.layer, Linear) else y


@jax.custom_vjp
def tapped_product(x: Array, weight: Array, turned: Array, tap: Array) -> Array:
    """`product` without a gradient of the weight; the gradient by the product goes to `tap`."""
    return product(x, weight)


tapped_product.defvjp(
    lambda x, weight, turned, tap: (product(x, weight), turned),
    lambda turned, gradient: (product(gradient, turned), None, None, gradient),
)


def with_weight(layer: Any, x: Array | None, gradient: Array) -> Any:
    """A layer's gradients, that of its weight from its inputs and its product's gradients."""
    if x is None:  # a layer that the step does not call
        return layer
    return eqx.tree_at(lambda x: x.weight, layer, weight_gradient(x, gradient))


def weight_gradient(
    x: Float[Array, "t b *k i"], gradient: Float[Array, "t b *k o"]
) -> Float[Array, "*k i o"]:
    """Sum over time and batch of the outer products of inputs and gradients.

    One device takes them as one axis, where there are no blocks; a batch split among several must
    stay split (see `each`).
    """
    if jax.device_count() > 1 or (x.ndim == 4 and x.shape[2] > 1):
        return jnp.einsum("tb...i,tb...o->...io", x, gradient)
    shape = (*x.shape[2:], gradient.shape[-1])
    rows, gradients = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    return outer_sum(rows, gradients).reshape(shape)

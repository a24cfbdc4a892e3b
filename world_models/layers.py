"""Layers every network is made of. Modules take one unbatched sample; callers map over batches."""

import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from world_models.products import product

P = ParamSpec("P")
T = TypeVar("T")


def truncated_normal(
    key: PRNGKeyArray, shape: tuple[int, ...], fan_in: int, scale: float
) -> Float[Array, "..."]:
    """Truncated-normal weights of variance scale^2 / fan_in."""
    # 0.8796 is the standard deviation of a unit normal cut at two deviations.
    deviation = scale / math.sqrt(fan_in) / 0.87962566
    return deviation * jax.random.truncated_normal(key, -2.0, 2.0, shape)


def recomputed(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, of whose inner steps nothing is kept for the reverse pass: cheap to do again.

    For elementwise steps inside a scan, which would otherwise stack several arrays a step.
    """
    return jax.checkpoint(function, prevent_cse=False)


def each(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` mapped over the two leading axes of its arguments, which one device takes as one.

    Two nested maps make XLA:CPU turn whole batches for the products of the reverse pass. A batch
    that is split among devices along the second axis stays so only if that axis stays one: else
    every device would gather and compute the whole.
    """
    if jax.device_count() > 1:
        return jax.vmap(jax.vmap(function))

    def mapped(*arguments: Any) -> Any:
        lead = jax.tree.leaves(arguments)[0].shape[:2]
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), arguments)
        return jax.tree.map(lambda x: x.reshape(*lead, *x.shape[1:]), jax.vmap(function)(*rows))

    return mapped


class Linear(eqx.Module):
    """Affine map; `scale=0` starts at zero. Weights are drawn for `fan_in` inputs in all."""

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, " outputs"]

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        scale: float = 1.0,
        fan_in: int | None = None,
        key: PRNGKeyArray,
    ):
        self.weight = truncated_normal(key, (inputs, outputs), fan_in or inputs, scale)
        self.bias = jnp.zeros(outputs)

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        return product(x.astype(self.weight.dtype), self.weight) + self.bias


class BlockLinear(eqx.Module):
    """Block-diagonal linear map: `blocks` independent maps side by side.

    It has no bias: where one is wanted it is added to the parts that are read apart, since added
    before it keeps XLA:CPU from vectorising what follows (two to three times the time).
    """

    weight: Float[Array, "blocks inputs outputs"]

    def __init__(self, inputs: int, outputs: int, blocks: int, *, fan_in: int, key: PRNGKeyArray):
        self.weight = truncated_normal(key, (blocks, inputs, outputs), fan_in, 1.0)

    def __call__(self, x: Float[Array, "blocks inputs"]) -> Float[Array, "blocks outputs"]:
        return product(x.astype(self.weight.dtype), self.weight)


class RMSNorm(eqx.Module):
    """Division by the root mean square over the last axis, then a learned gain (1910.07467)."""

    gain: Float[Array, " features"]

    def __init__(self, features: int):
        self.gain = jnp.ones(features)

    def __call__(self, x: Float[Array, "*s features"]) -> Float[Array, "*s features"]:
        wide = x.astype(jnp.float32)
        inverse = jax.lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + 1e-4)
        return (wide * inverse).astype(x.dtype) * self.gain.astype(x.dtype)


@recomputed
def normed_silu(norm: RMSNorm, x: Float[Array, " features"]) -> Float[Array, " features"]:
    """SiLU of the normed vector."""
    return jax.nn.silu(norm(x))


class Dense(eqx.Module):
    """Linear, RMSNorm, SiLU: one hidden layer."""

    linear: Linear
    norm: RMSNorm

    def __init__(self, inputs: int, outputs: int, *, key: PRNGKeyArray):
        # RMSNorm takes no mean away, so the bias before it is kept.
        self.linear = Linear(inputs, outputs, key=key)
        self.norm = RMSNorm(outputs)

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        return normed_silu(self.norm, self.linear(x))


class MLP(eqx.Module):
    """`layers` hidden layers of `width` units and a linear output of `outputs` numbers."""

    hidden: tuple[Dense, ...]
    output: Linear

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int,
        layers: int,
        output_scale: float = 1.0,
        key: PRNGKeyArray,
    ):
        keys = jax.random.split(key, layers + 1)
        sizes = [inputs] + [width] * layers
        self.hidden = tuple(
            Dense(a, b, key=k) for a, b, k in zip(sizes[:-1], sizes[1:], keys[:-1], strict=True)
        )
        self.output = Linear(sizes[-1], outputs, scale=output_scale, key=keys[-1])

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        for layer in self.hidden:
            x = layer(x)
        return self.output(x)

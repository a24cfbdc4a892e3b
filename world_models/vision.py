"""Image encoders and decoders.

`patches` uses matrix products only: every layer folds non-overlapping squares into channels
(kernel equal to stride), which XLA runs several times faster on a CPU than thin convolutions.
`convolutions` is the usual stride-2 stack. Both end on a 4-pixel grid for 64-pixel images.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from world_models.layers import Linear, RMSNorm, truncated_normal

Kind = Literal["patches", "convolutions"]
PATCHES = (4, 2, 2)
STRIDES = (2, 2, 2, 2)
REDUCTION = 16  # product of either


class Fold(eqx.Module):
    """Squares of `factor` pixels become channels, then one linear map for all squares."""

    linear: Linear
    factor: int = eqx.field(static=True)

    def __init__(self, inputs: int, outputs: int, factor: int, *, key: PRNGKeyArray):
        self.linear = Linear(inputs * factor**2, outputs, key=key)
        self.factor = factor

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "h2 w2 d"]:
        h, w, c = x.shape
        f = self.factor
        x = x.reshape(h // f, f, w // f, f, c).transpose(0, 2, 1, 3, 4)
        x = x.reshape(h // f, w // f, f * f * c).astype(self.linear.weight.dtype)
        return x @ self.linear.weight + self.linear.bias


class Unfold(eqx.Module):
    """One linear map for all squares, then channels become squares of `factor` pixels."""

    linear: Linear
    factor: int = eqx.field(static=True)

    def __init__(self, inputs: int, outputs: int, factor: int, *, key: PRNGKeyArray):
        self.linear = Linear(inputs, outputs * factor**2, key=key)
        self.factor = factor

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "h2 w2 d"]:
        h, w, _ = x.shape
        f = self.factor
        x = x.astype(self.linear.weight.dtype) @ self.linear.weight + self.linear.bias
        x = x.reshape(h, w, f, f, -1).transpose(0, 2, 1, 3, 4)
        return x.reshape(h * f, w * f, -1)


class Convolution(eqx.Module):
    """4 x 4 convolution of stride `factor`, or its transpose."""

    weight: Float[Array, "4 4 inputs outputs"]
    bias: Float[Array, " outputs"]
    factor: int = eqx.field(static=True)
    transpose: bool = eqx.field(static=True)

    def __init__(
        self, inputs: int, outputs: int, factor: int, *, transpose: bool = False, key: PRNGKeyArray
    ):
        # Each output of the transpose is touched by a quarter of the kernel.
        fan_in = inputs * (16 // factor**2 if transpose else 16)
        self.weight = truncated_normal(key, (4, 4, inputs, outputs), fan_in, 1.0)
        self.bias = jnp.zeros(outputs)
        self.factor = factor
        self.transpose = transpose

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "h2 w2 d"]:
        x = x.astype(self.weight.dtype)[None]
        strides = (self.factor, self.factor)
        layout = ("NHWC", "HWIO", "NHWC")
        if self.transpose:
            y = jax.lax.conv_transpose(x, self.weight, strides, "SAME", dimension_numbers=layout)
        else:
            y = jax.lax.conv_general_dilated(
                x, self.weight, strides, "SAME", dimension_numbers=layout
            )
        return y[0] + self.bias


class ImageEncoder(eqx.Module):
    """uint8 image -> flat vector of `outputs` features (last grid, flattened)."""

    layers: tuple[Fold | Convolution, ...]
    norms: tuple[RMSNorm, ...]
    outputs: int = eqx.field(static=True)

    def __init__(self, size: int, channels: int, *, kind: Kind, depth: int, key: PRNGKeyArray):
        factors, widths = _plan(kind, depth)
        keys = jax.random.split(key, len(factors))
        build = Fold if kind == "patches" else Convolution
        self.layers = tuple(
            build(a, b, f, key=k)
            for a, b, f, k in zip((channels, *widths[:-1]), widths, factors, keys, strict=True)
        )
        self.norms = tuple(RMSNorm(width) for width in widths)
        self.outputs = (size // REDUCTION) ** 2 * widths[-1]

    def __call__(self, image: UInt8[Array, "h w c"]) -> Float[Array, " features"]:
        x = image.astype(jnp.float32) / 255.0 - 0.5
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = jax.nn.silu(norm(layer(x)))
        return x.reshape(-1)


class ImageDecoder(eqx.Module):
    """Features -> image in [0, 1], the mirror of `ImageEncoder`."""

    start: Linear
    layers: tuple[Unfold | Convolution, ...]
    norms: tuple[RMSNorm, ...]
    grid: int = eqx.field(static=True)

    def __init__(
        self, inputs: int, size: int, channels: int, *, kind: Kind, depth: int, key: PRNGKeyArray
    ):
        factors, widths = _plan(kind, depth)
        start_key, *keys = jax.random.split(key, len(factors) + 1)
        self.grid = size // REDUCTION
        self.start = Linear(inputs, self.grid**2 * widths[-1], key=start_key)
        ins, outs = widths[::-1], (*widths[:-1][::-1], channels)
        self.layers = tuple(
            Unfold(a, b, f, key=k)
            if kind == "patches"
            else Convolution(a, b, f, transpose=True, key=k)
            for a, b, f, k in zip(ins, outs, factors[::-1], keys, strict=True)
        )
        self.norms = tuple(RMSNorm(width) for width in ins)

    def __call__(self, features: Float[Array, " inputs"]) -> Float[Array, "h w c"]:
        x = self.start(features).reshape(self.grid, self.grid, -1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = layer(jax.nn.silu(norm(x)))
        return jax.nn.sigmoid(x.astype(jnp.float32))


def _plan(kind: Kind, depth: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Reduction and channels of each layer."""
    if kind == "patches":
        return PATCHES, (2 * depth, 4 * depth, 8 * depth)
    return STRIDES, (2 * depth, 3 * depth, 4 * depth, 4 * depth)

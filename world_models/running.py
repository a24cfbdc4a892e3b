"""Arrays that change by running updates rather than by gradients, and how to tell them apart."""

from typing import Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

T = TypeVar("T")


class Running(eqx.Module, Generic[T]):
    """Marks arrays as untrained: slow copies, statistics, fixed random targets."""

    value: T


def trainable(tree: PyTree) -> PyTree[bool]:
    """True at every floating array that gradients train, False elsewhere (for `eqx.partition`)."""

    def mark(leaf: PyTree) -> PyTree:
        if isinstance(leaf, Running):
            return jax.tree.map(lambda _: False, leaf)
        return eqx.is_inexact_array(leaf)

    return jax.tree.map(mark, tree, is_leaf=lambda node: isinstance(node, Running))


def cast(tree: PyTree, dtype: jnp.dtype) -> PyTree:
    """Trained floating arrays in the compute precision; running ones stay float32."""
    return jax.tree.map(
        lambda leaf, trained: leaf.astype(dtype) if trained else leaf, tree, trainable(tree)
    )


class Moments(eqx.Module):
    """Exponentially weighted mean and mean square per dimension, corrected for the start."""

    mean: Float[Array, " d"]
    square: Float[Array, " d"]
    weight: Float[Array, ""]

    def __init__(self, size: int):
        self.mean = jnp.zeros(size)
        self.square = jnp.zeros(size)
        self.weight = jnp.zeros(())

    def update(
        self, x: Float[Array, "n d"], valid: Bool[Array, " n"], rate: float = 0.01
    ) -> "Moments":
        """Moments after one more batch; rows that are not `valid` do not count."""
        count = jnp.maximum(valid.sum(), 1)
        x = jnp.where(valid[:, None], x.astype(jnp.float32), 0.0)

        def blend(old: Array, new: Array) -> Array:
            return (1 - rate) * old + rate * new

        return eqx.tree_at(
            lambda m: (m.mean, m.square, m.weight),
            self,
            (
                blend(self.mean, x.sum(0) / count),
                blend(self.square, jnp.square(x).sum(0) / count),
                blend(self.weight, jnp.ones(())),
            ),
        )

    def centre(self) -> Float[Array, " d"]:
        """The mean, 0 before the first update."""
        return self.mean / jnp.maximum(self.weight, 1e-8)

    def deviation(self) -> Float[Array, " d"]:
        """The standard deviation, at least 1e-4; 1 before the first update."""
        weight = jnp.maximum(self.weight, 1e-8)
        variance = self.square / weight - jnp.square(self.mean / weight)
        return jnp.where(self.weight > 0, jnp.sqrt(jnp.maximum(variance, 1e-8)), 1.0)

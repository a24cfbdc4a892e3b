"""Windows of consecutive steps of a batch, one from every root, and which lie in one episode."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Shaped


def spans(x: Shaped[Array, "b t *s"], roots: int, length: int) -> Shaped[Array, "b r l *s"]:
    """x[:, r : r + length] for the first `roots` steps r."""
    index = jnp.arange(roots)[:, None] + jnp.arange(length)
    return x[:, index]


def own_episode(is_first: Bool[Array, "b t"], roots: int, ahead: int) -> Bool[Array, "b r k1"]:
    """Whether step r + k, k = 0 ... ahead, belongs to the episode of root r."""
    begins = spans(is_first, roots, ahead + 1)[:, :, 1:]
    none_yet = jnp.cumsum(begins, -1) == 0
    return jnp.pad(none_yet, ((0, 0), (0, 0), (1, 0)), constant_values=True)

"""Windows of consecutive steps of a batch, ahead and back, and which lie in one episode."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from world_models.contract import Batch


def spans(x: Shaped[Array, "b t *s"], roots: int, length: int) -> Shaped[Array, "b r l *s"]:
    """x[:, r : r + length] for the first `roots` steps r."""
    index = jnp.arange(roots)[:, None] + jnp.arange(length)
    return x[:, index]


def own_episode(is_first: Bool[Array, "b t"], roots: int, ahead: int) -> Bool[Array, "b r k1"]:
    """Whether step r + k, k = 0 ... ahead, belongs to the episode of root r."""
    begins = spans(is_first, roots, ahead + 1)[:, :, 1:]
    none_yet = jnp.cumsum(begins, -1) == 0
    return jnp.pad(none_yet, ((0, 0), (0, 0), (1, 0)), constant_values=True)


def steps_before(
    x: Float[Array, "b t s"], is_first: Bool[Array, "b t"], number: int
) -> Float[Array, "b t n s"]:
    """The `number` steps before each, the last first; 0 where its episode had not begun, or the
    batch."""
    length, room = x.shape[1], ((0, 0), (number, 0))
    episode = jnp.cumsum(is_first, 1)
    padded, episodes = jnp.pad(x, (*room, (0, 0))), jnp.pad(episode, room, constant_values=-1)
    found = []
    for back in range(1, number + 1):
        there = slice(number - back, number - back + length)
        same = episodes[:, there] == episode
        found.append(jnp.where(same[..., None], padded[:, there], 0.0))
    return jnp.stack(found, 2)


def without_context(batch: Batch, context: int) -> Batch:
    """The batch without its first `context` steps; a sequence's `weight` stays."""
    if not context:
        return batch
    return {name: x if name == "weight" else x[:, context:] for name, x in batch.items()}

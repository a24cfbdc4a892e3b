"""Slow copies of learned components: targets that do not run after what learns from them."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from world_models.running import Running


class Paired(eqx.Module):
    """What a checkpoint holds of a component that has a slow copy, which belongs to it."""

    now: PyTree
    slow: Running[PyTree]


def followed(slow: Any, now: Any, rate: float) -> Any:
    """The slow copy moved by a share `rate` towards what is learned."""
    return jax.tree.map(
        lambda old, new: old + rate * (new - old) if eqx.is_inexact_array(old) else old,
        slow,
        now,
    )

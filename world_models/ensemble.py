"""An ensemble of equal networks with different starts, evaluated as one batched network."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from world_models.layers import MLP


class Ensemble(eqx.Module):
    """`heads` MLPs stacked along a leading axis of every array."""

    members: MLP

    def __init__(
        self,
        heads: int,
        inputs: int,
        outputs: int,
        *,
        width: int,
        layers: int,
        output_scale: float = 1.0,
        key: PRNGKeyArray,
    ):
        sizes: dict[str, Any] = {"width": width, "layers": layers, "output_scale": output_scale}

        def build(member_key: PRNGKeyArray) -> MLP:
            return MLP(inputs, outputs, **sizes, key=member_key)

        self.members = eqx.filter_vmap(build)(jax.random.split(key, heads))

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, "heads outputs"]:
        return eqx.filter_vmap(lambda member: member(x))(self.members)

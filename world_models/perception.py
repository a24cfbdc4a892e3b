"""What a model-free agent has in the place of a world model: an encoder, and nothing ahead."""

from typing import NoReturn

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from world_models.contract import Batch, WorldModel
from world_models.muzero import Encoder, encode
from world_models.observations import Observation


class Perception(eqx.Module):
    """State and features are the latent of one observation, encoded as MuZero's is.

    It acts like a world model (`world_models.contract.WorldModel`), but foresees nothing: whoever
    asks it to gets an error, which `pipeline.checks` prevents.
    """

    encoder: Encoder
    latent: int = eqx.field(static=True)

    def initial(self) -> Float[Array, " z"]:
        return jnp.zeros(self.latent)

    def noise(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "*s none"]:
        """No numbers."""
        return jnp.zeros((*shape, 0))

    def observe(
        self,
        state: Float[Array, " z"],
        action: Float[Array, " a"],
        observation: Observation,
        is_first: Bool[Array, ""],
        noise: Float[Array, " none"],
    ) -> Float[Array, " z"]:
        return self.encoder(observation)

    def features(self, state: Float[Array, " z"]) -> Float[Array, " z"]:
        return state

    def encode(self, batch: Batch, steps: int | None = None) -> Float[Array, "b t z"]:
        """Latents of the first `steps` steps of a batch, or of all."""
        return encode(self.encoder, batch, steps)

    def imagine(
        self, state: Float[Array, " z"], action: Float[Array, " a"], noise: Float[Array, " none"]
    ) -> NoReturn:
        raise NotImplementedError("a model-free agent does not foresee states")

    def reward(self, features: Float[Array, " z"]) -> NoReturn:
        raise NotImplementedError("a model-free agent does not foresee rewards")

    def continuation(self, features: Float[Array, " z"]) -> NoReturn:
        raise NotImplementedError("a model-free agent does not foresee ends")

    def loss(
        self,
        batch: Batch,
        start: Float[Array, "b z"],
        slow_model: WorldModel | None,
        key: PRNGKeyArray,
    ) -> tuple[dict[str, Float[Array, ""]], Float[Array, "b t z"]]:
        """No losses of its own; what acts shapes the encoder."""
        return {}, self.encode(batch)

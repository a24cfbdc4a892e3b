"""What a model-free agent has in the place of a world model: an encoder, and nothing ahead."""

from typing import NoReturn

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from world_models.contract import Batch, WorldModel
from world_models.encoder import Belief, Encoder, encode, latent_of
from world_models.observations import Observation


class Perception(eqx.Module):
    """Features are the latent of what was observed, encoded and remembered as MuZero's is.

    It acts like a world model (`world_models.contract.WorldModel`), but foresees nothing: whoever
    asks it to gets an error, which `pipeline.checks` prevents.
    """

    encoder: Encoder

    def initial(self) -> Belief:
        return self.encoder.initial()

    def noise(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "*s none"]:
        """No numbers."""
        return jnp.zeros((*shape, 0))

    def observe(
        self,
        state: Belief,
        action: Float[Array, " a"],
        observation: Observation,
        is_first: Bool[Array, ""],
        noise: Float[Array, " none"],
    ) -> Belief:
        return self.encoder.observe(state, action, observation, is_first)

    def root(self, state: Belief) -> Float[Array, " z"]:
        return latent_of(state)

    def features(self, state: Float[Array, " z"]) -> Float[Array, " z"]:
        return state

    def encode(self, batch: Batch, steps: int | None = None) -> Float[Array, "b t z"]:
        """Latents of a batch (see `world_models.encoder.encode`)."""
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
        start: Belief,
        slow_model: WorldModel | None,
        key: PRNGKeyArray,
    ) -> tuple[dict[str, Float[Array, ""]], Float[Array, "b t z"]]:
        """No losses of its own; what acts shapes the encoder."""
        return {}, self.encode(batch)

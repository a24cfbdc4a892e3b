"""A world model that is never wrong: the task's own step, where that is a pure function.

Nothing of it is learnt but how states are read: an encoder gives the latent of each state's
observation, real or simulated, to the heads that learn. So a search in it says what planning is
worth when the model is no excuse (2011.04021, section 4.4). The components hold:

| component | arrays                                                       |
|-----------|--------------------------------------------------------------|
| `encoder` | observation nets and the layer to the latent, as MuZero's    |

There is no `dynamics`, `decoder` or `reward_head`. Features are the latent and, behind it, what the
simulator told on arriving: reward and continuation. Heads read the latent alone.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from tasks.contract import PureTask
from world_models.contract import Batch, Noise, WorldModel
from world_models.encoder import Encoder, encode
from world_models.observations import Observation

TOLD = 2  # features behind the latent


class Moment(NamedTuple):
    """A state of the task, its latent, and what came on arriving in it."""

    state: Any
    latent: Float[Array, "*b z"]
    reward: Float[Array, "*b"]
    continuation: Float[Array, "*b"]


class Simulator(eqx.Module):
    """The task's step with an encoder before it (see `world_models.contract.WorldModel`)."""

    encoder: Encoder
    task: PureTask = eqx.field(static=True)
    observed: tuple[tuple[str, tuple[int, ...]], ...] = eqx.field(static=True)  # keys and shapes
    pays: bool = eqx.field(static=True)  # false while exploring, when rewards are never read

    def initial(self) -> Moment:
        blank = {name: jnp.zeros(shape) for name, shape in self.observed}
        zero, latent = jnp.zeros(()), jnp.zeros_like(self.encoder.output.bias, jnp.float32)
        return Moment(self.task.read(blank), latent, zero, zero)

    def noise(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Noise:
        """A key for each step: the task draws its chances itself. Consumes `key`."""
        return jax.random.split(key, shape)

    def observe(
        self,
        state: Moment,
        action: Float[Array, " a"],
        observation: Observation,
        is_first: Bool[Array, ""],
        noise: PRNGKeyArray,
    ) -> Moment:
        """The state that is observed; what was before does not enter."""
        zero = jnp.zeros(())
        return Moment(self.task.read(observation), self.encoder(observation), zero, zero + 1.0)

    def imagine(self, state: Moment, action: Float[Array, " a"], noise: PRNGKeyArray) -> Moment:
        """The task's step."""
        after, reward, ended = self.task.step(state.state, action, noise)
        latent = self.encoder(self.task.observe(after))
        reward = reward if self.pays else jnp.zeros_like(reward)
        return Moment(after, latent, reward, 1.0 - ended.astype(jnp.float32))

    def root(self, state: Moment) -> Moment:
        return state

    def features(self, state: Moment) -> Float[Array, " f"]:
        return jnp.concatenate([state.latent, jnp.stack([state.reward, state.continuation])])

    def reward(self, features: Float[Array, " f"]) -> Float[Array, ""]:
        return features[-2]

    def continuation(self, features: Float[Array, " f"]) -> Float[Array, ""]:
        return features[-1]

    def encode(self, batch: Batch, steps: int | None = None) -> Float[Array, "b t z"]:
        """Latents of the first `steps` steps of a batch, or of all."""
        return encode(self.encoder, batch, steps)

    def moments(self, batch: Batch, latents: Float[Array, "b t z"]) -> Moment:
        """The first steps of a batch as they came, of which these are the latents."""
        steps = latents.shape[1]
        seen = {name: batch[name][:, :steps] for name, _ in self.observed}
        goes_on = 1.0 - batch["is_terminal"][:, :steps].astype(jnp.float32)
        reward = batch["reward"][:, :steps].astype(jnp.float32)
        return Moment(jax.vmap(jax.vmap(self.task.read))(seen), latents, reward, goes_on)

    def loss(
        self,
        batch: Batch,
        start: Moment,
        slow_model: WorldModel | None,
        key: PRNGKeyArray,
    ) -> tuple[dict[str, Float[Array, ""]], Moment]:
        """No losses of its own: there is nothing that it could learn better."""
        return {}, self.moments(batch, self.encode(batch))

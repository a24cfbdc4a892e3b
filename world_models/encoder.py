"""Observations to latents: an encoder that knows one observation, or remembers the last few.

With `muzero.history = h` a latent is what the present observation shows, the h - 1 before it, and
the actions taken between them: how the MuZero family remembers (arXiv 1911.08265, appendix E, which
stacks the last 32 frames and actions of Atari games before the net). Here every observation passes
the net alone and what is put side by side are their embeddings, before the layer to the latent: so
vectors and images are remembered alike, and nothing is embedded twice.

A history lies within one episode: of steps before its beginning all numbers are 0. Who acts keeps
the embeddings of when they were made, though the net may have learnt since, as a recurrent state is
kept. Of a batch's sequences, which begin anywhere, the first h - 1 steps are context: they are
remembered, but have no latents, since their own history would be shorter than it was in acting.
"""

from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from tasks.contract import ArraySpec
from world_models.contract import Batch
from world_models.layers import Linear
from world_models.observations import Observation, ObservationEncoder
from world_models.settings import ModelSettings
from world_models.windows import steps_before

Latent = Float[Array, "*b z"]


def standardised(x: Latent) -> Latent:
    """Mean 0 and size 1 over the last axis, in float32: layer norm without gain and offset."""
    wide = x.astype(jnp.float32)
    wide = wide - wide.mean(-1, keepdims=True)
    return wide * jax.lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + 1e-5)


class Recalled(NamedTuple):
    """State of who remembers: the latent, and what the next one will need besides."""

    latent: Float[Array, "*b z"]
    embedding: Float[Array, "*b e"]  # of the present observation
    past: Float[Array, "*b n s"]  # steps before it, the last first (see `Encoder.step`)


Belief = Float[Array, "*b z"] | Recalled  # the latent alone where nothing is remembered


class Encoder(eqx.Module):
    """Component `encoder`: one observation, or the last `history` of an episode, to a latent."""

    observation: ObservationEncoder
    output: Linear
    history: int = eqx.field(static=True)
    actions: int = eqx.field(static=True)

    def __init__(
        self,
        spec: Mapping[str, ArraySpec],
        settings: ModelSettings,
        latent: int,
        history: int = 1,
        actions: int = 0,
        *,
        key: PRNGKeyArray,
    ):
        keys = jax.random.split(key)
        self.observation = ObservationEncoder(spec, settings, key=keys[0])
        self.history, self.actions = history, actions
        embedding = self.observation.outputs
        inputs = embedding + (history - 1) * (embedding + actions)
        self.output = Linear(inputs, latent, key=keys[1])

    @property
    def context(self) -> int:
        """Steps before the present one that are remembered."""
        return self.history - 1

    def __call__(self, observation: Observation) -> Float[Array, " z"]:
        """The latent of an observation that is all there is to know."""
        assert not self.context, "what was before is missing"
        return standardised(self.output(self.observation(observation)))

    def initial(self) -> Belief:
        """State before any observation."""
        latent = jnp.zeros(self.output.bias.shape)
        if not self.context:
            return latent
        embedding = self.observation.outputs
        past = jnp.zeros((self.context, embedding + self.actions))
        return Recalled(latent, jnp.zeros(embedding), past)

    def observe(
        self,
        state: Belief,
        action: Float[Array, " a"],
        observation: Observation,
        is_first: Bool[Array, ""],
    ) -> Belief:
        """State after `action` led to `observation`; `is_first` forgets what was before."""
        if not isinstance(state, Recalled):
            return self(observation)
        embedding = self.observation(observation).astype(jnp.float32)
        last = self.step(state.embedding, action)
        past = jnp.concatenate([last[None], state.past[:-1]])
        past = jnp.where(is_first, 0.0, past)
        return Recalled(self.recalling(embedding, past), embedding, past)

    def step(self, embedding: Float[Array, " e"], action: Float[Array, " a"]) -> Float[Array, " s"]:
        """What is remembered of a step: what was seen, and what was done then."""
        # An action of a few numbers would be drowned by the embedding's many.
        scale = (embedding.shape[0] / action.shape[0]) ** 0.5
        return jnp.concatenate([embedding, scale * action.astype(embedding.dtype)])

    def recalling(
        self, embedding: Float[Array, " e"], past: Float[Array, "n s"]
    ) -> Float[Array, " z"]:
        """The latent of what is seen now and of the steps before."""
        return standardised(self.output(jnp.concatenate([embedding, past.reshape(-1)])))


def latent_of(state: Belief) -> Latent:
    """The latent of a state, without what only the next observation needs."""
    return state.latent if isinstance(state, Recalled) else state


def encode(encoder: Encoder, batch: Batch, steps: int | None = None) -> Float[Array, "b t z"]:
    """Latents of a batch's steps but for the `encoder.context` first, or of the first `steps` of
    those."""
    net, context = encoder.observation, encoder.context
    end = None if steps is None else context + steps
    seen = {name: batch[name][:, :end] for name in (*net.images, *net.vector_keys)}
    if not context:
        return jax.vmap(jax.vmap(encoder))(seen)
    embeddings = jax.vmap(jax.vmap(net))(seen)
    done = jax.vmap(jax.vmap(encoder.step))(embeddings, batch["action"][:, :end])
    past = steps_before(done, batch["is_first"][:, :end], context)
    return jax.vmap(jax.vmap(encoder.recalling))(embeddings[:, context:], past[:, context:])

"""Recurrent state-space model at the level of DreamerV3 (arXiv 2301.04104, section 3).

A state is a deterministic recurrent vector and a sample of discrete latents. The recurrent core
serves state estimation and prediction alike, so the components hold:

| component     | arrays                                                                         |
|---------------|--------------------------------------------------------------------------------|
| `encoder`     | observation nets, recurrent core, posterior head: what turns history into state |
| `dynamics`    | prior head: what predicts the next latents when there is no observation        |
| `decoder`     | reconstruction nets                                                            |
| `reward_head` | reward and continuation heads                                                  |
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from tasks.contract import ArraySpec
from world_models.contract import Batch, WorldModel
from world_models.distributions import (
    TwoHot,
    categorical_entropy,
    categorical_kl,
    mix_uniform,
    sample_one_hot,
)
from world_models.layers import (
    MLP,
    BlockLinear,
    Dense,
    Linear,
    RMSNorm,
    each,
    normed_silu,
    recomputed,
)
from world_models.observations import ObservationDecoder, ObservationEncoder
from world_models.settings import ModelSettings
from world_models.time_scan import scan_over_time

LOSSES = ("reconstruction", "reward", "continue", "dynamics", "representation")


class State(NamedTuple):
    """`recurrent` [R] and one-hot `latent` [latents, classes]."""

    recurrent: Float[Array, "*b r"]
    latent: Float[Array, "*b latents classes"]


class CoreInput(eqx.Module):
    """One input of the recurrent core: embedded and normed, then mapped to all recurrent units."""

    embed: Dense
    spread: Linear

    def __init__(self, inputs: int, settings: ModelSettings, fan_in: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key)
        width, recurrent = settings.width, settings.recurrent
        self.embed = Dense(inputs, width, key=keys[0])
        self.spread = Linear(width, recurrent, fan_in=fan_in, key=keys[1])

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " r"]:
        return self.spread(self.embed(x))


class RecurrentCore(eqx.Module):
    """Gated recurrent unit with block-diagonal weights.

    A block reads its own part of the recurrent vector, and what all blocks share: the latents, the
    action, and, where there are several blocks, the recurrent vector as a whole.
    """

    latent: CoreInput
    action: CoreInput
    recurrent: CoreInput | None
    own: BlockLinear
    norm: RMSNorm
    gates: BlockLinear
    gate_bias: Float[Array, "three blocks block"]
    blocks: int = eqx.field(static=True)

    def __init__(self, settings: ModelSettings, actions: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 5)
        recurrent, blocks = settings.recurrent, settings.blocks
        block, several = recurrent // blocks, blocks > 1
        self.blocks = blocks
        fan_in = block + (3 if several else 2) * settings.width
        latents = settings.latents * settings.classes
        self.latent = CoreInput(latents, settings, fan_in, key=keys[0])
        self.action = CoreInput(actions, settings, fan_in, key=keys[1])
        self.recurrent = CoreInput(recurrent, settings, fan_in, key=keys[2]) if several else None
        self.own = BlockLinear(block, block, blocks, fan_in=fan_in, key=keys[3])
        self.norm = RMSNorm(recurrent)
        self.gates = BlockLinear(block, 3 * block, blocks, fan_in=block, key=keys[4])
        self.gate_bias = jnp.zeros((3, blocks, block))

    def __call__(self, state: State, action: Float[Array, " a"]) -> Float[Array, " r"]:
        """The next recurrent vector."""
        return self.advance(state, self.action(action))

    def advance(self, state: State, acted: Float[Array, " r"]) -> Float[Array, " r"]:
        """The next recurrent vector, of what `self.action` makes of the action."""
        before = state.recurrent.reshape(self.blocks, -1)
        x = self.own(before).reshape(-1) + self.latent(state.latent.reshape(-1)) + acted
        if self.recurrent is not None:
            x = x + self.recurrent(state.recurrent)
        gates = self.gates(normed_silu(self.norm, x).reshape(self.blocks, -1))
        return gated(gates, self.gate_bias, before).reshape(-1)


@recomputed
def gated(
    gates: Float[Array, "blocks block3"],
    bias: Float[Array, "three blocks block"],
    before: Float[Array, "blocks block"],
) -> Float[Array, "blocks block"]:
    """Gated update of a recurrent vector; the update gate starts nearly closed (bias -1)."""
    reset, candidate, update = (g + b for g, b in zip(jnp.split(gates, 3, -1), bias, strict=True))
    candidate = jnp.tanh(jax.nn.sigmoid(reset) * candidate)
    update = jax.nn.sigmoid(update - 1.0)
    return update * candidate + (1 - update) * before


class LatentHead(eqx.Module):
    """Log-probabilities of the discrete latents by a net of one hidden layer, with a share of
    uniform mixed in. `enter` holds the hidden layer's weights for each of its inputs."""

    enter: tuple[Linear, ...]
    norm: RMSNorm
    output: Linear
    shape: tuple[int, int] = eqx.field(static=True)
    unimix: float = eqx.field(static=True)

    def __init__(self, inputs: tuple[int, ...], settings: ModelSettings, *, key: PRNGKeyArray):
        self.shape = (settings.latents, settings.classes)
        self.unimix = settings.unimix
        *enter, output = jax.random.split(key, len(inputs) + 1)
        self.enter = tuple(
            Linear(size, settings.width, fan_in=sum(inputs), key=k)
            for size, k in zip(inputs, enter, strict=True)
        )
        self.norm = RMSNorm(settings.width)
        self.output = Linear(settings.width, settings.latents * settings.classes, key=output)

    def __call__(self, hidden: Float[Array, " width"]) -> Float[Array, "latents classes"]:
        """Log-probabilities, of the sum of what `enter` makes of the inputs."""
        mix = recomputed(functools.partial(mix_uniform, share=self.unimix))
        return mix(self.output(normed_silu(self.norm, hidden)).reshape(self.shape))


class Reading(NamedTuple):
    """What a step's action and observation add to a state; `keep` is 0 where an episode begins."""

    acted: Float[Array, "*b r"]
    seen: Float[Array, "*b width"]
    keep: Float[Array, "*b"]


class Encoder(eqx.Module):
    """Component `encoder`: history to state."""

    observation: ObservationEncoder
    core: RecurrentCore
    posterior: LatentHead

    def __init__(
        self,
        spec: Mapping[str, ArraySpec],
        actions: int,
        settings: ModelSettings,
        *,
        key: PRNGKeyArray,
    ):
        keys = jax.random.split(key, 3)
        self.observation = ObservationEncoder(spec, settings, key=keys[0])
        self.core = RecurrentCore(settings, actions, key=keys[1])
        inputs = (settings.recurrent, self.observation.outputs)
        self.posterior = LatentHead(inputs, settings, key=keys[2])

    def read(
        self,
        action: Float[Array, " a"],
        observation: Mapping[str, Array],
        is_first: Bool[Array, ""],
    ) -> Reading:
        """All of a step that can be computed before the state is known."""
        keep = 1.0 - is_first.astype(jnp.float32)
        seen = self.posterior.enter[1](self.observation(observation))
        return Reading(self.core.action(action * keep), seen, keep)

    def advance(
        self, state: State, reading: Reading, noise: Float[Array, "latents classes"]
    ) -> tuple[State, Float[Array, "latents classes"]]:
        """Next state and the posterior's log-probabilities."""
        state = jax.tree.map(lambda x: x * reading.keep, state)
        recurrent = self.core.advance(state, reading.acted).astype(jnp.float32)
        posterior = self.posterior(self.posterior.enter[0](recurrent) + reading.seen)
        return State(recurrent, recomputed(sample_one_hot)(posterior, noise)), posterior


class Dynamics(eqx.Module):
    """Component `dynamics`: the next latents without an observation."""

    prior: LatentHead

    def __init__(self, settings: ModelSettings, *, key: PRNGKeyArray):
        self.prior = LatentHead((settings.recurrent,), settings, key=key)

    def __call__(self, recurrent: Float[Array, " r"]) -> Float[Array, "latents classes"]:
        """Log-probabilities of the latents."""
        return self.prior(self.prior.enter[0](recurrent))


class RewardHead(eqx.Module):
    """Component `reward_head`: reward (two-hot) and continuation (Bernoulli)."""

    reward: MLP
    continuation: MLP

    def __init__(self, features: int, settings: ModelSettings, *, key: PRNGKeyArray):
        keys = jax.random.split(key)
        # A zero last layer predicts zero reward at first, instead of noise that is acted upon.
        self.reward = MLP(
            features,
            settings.bins,
            width=settings.width,
            layers=settings.layers,
            output_scale=0.0,
            key=keys[0],
        )
        self.continuation = MLP(features, 1, width=settings.width, layers=1, key=keys[1])


def features_size(settings: ModelSettings) -> int:
    """Length of `RSSM.features`."""
    return settings.recurrent + settings.latents * settings.classes


class RSSM(eqx.Module):
    """The four components as one world model (see `world_models.contract.WorldModel`)."""

    encoder: Encoder
    dynamics: Dynamics
    decoder: ObservationDecoder
    reward_head: RewardHead
    settings: ModelSettings = eqx.field(static=True)

    def initial(self) -> State:
        s = self.settings
        return State(jnp.zeros(s.recurrent), jnp.zeros((s.latents, s.classes)))

    def noise(
        self, key: PRNGKeyArray, shape: tuple[int, ...] = ()
    ) -> Float[Array, "*s latents classes"]:
        """Gumbel noise of the latents."""
        s = self.settings
        return jax.random.gumbel(key, (*shape, s.latents, s.classes))

    def observe(
        self,
        state: State,
        action: Float[Array, " a"],
        observation: Mapping[str, Array],
        is_first: Bool[Array, ""],
        noise: Float[Array, "latents classes"],
    ) -> State:
        reading = self.encoder.read(action, observation, is_first)
        return self.encoder.advance(state, reading, noise)[0]

    def imagine(
        self, state: State, action: Float[Array, " a"], noise: Float[Array, "latents classes"]
    ) -> State:
        recurrent = self.encoder.core(state, action).astype(jnp.float32)
        prior = self.dynamics(recurrent)
        return State(recurrent, recomputed(sample_one_hot)(prior, noise))

    def root(self, state: State) -> State:
        return state

    def features(self, state: State) -> Float[Array, " f"]:
        return jnp.concatenate([state.recurrent, state.latent.reshape(-1)])

    def reward(self, features: Float[Array, " f"]) -> Float[Array, ""]:
        return TwoHot(self.reward_head.reward(features), self.settings.bin_reach).mean()

    def continuation(self, features: Float[Array, " f"]) -> Float[Array, ""]:
        return jax.nn.sigmoid(self.reward_head.continuation(features)[0].astype(jnp.float32))

    def loss(
        self, batch: Batch, start: State, slow_model: WorldModel | None, key: PRNGKeyArray
    ) -> tuple[dict[str, Float[Array, ""]], State]:
        """Mean losses over the batch by the names in `LOSSES`, and the posterior states [B, T].

        `batch["action"][t]` follows observation t. Where `reward_known` is given and false, the
        row's reward is not learnt. `slow_model` is not used: an RSSM needs no slow copy.
        """
        # By time first, as the scan goes: what it reads and leaves need not be turned.
        batch = {name: jnp.moveaxis(x, 1, 0) for name, x in batch.items() if x.ndim > 1}
        actions = batch["action"]
        previous = jnp.concatenate([jnp.zeros_like(actions[:1]), actions[:-1]])
        observation = {name: batch[name] for name in self._observed()}
        readings = each(self.encoder.read)(previous, observation, batch["is_first"])
        noise = self.noise(key, batch["is_first"].shape)

        def step(encoder: Encoder, state: State, row: tuple) -> tuple[State, tuple]:
            state, posterior = encoder.advance(state, *row)
            return state, (state, posterior)

        rows = (readings, noise)
        _, (states, posterior) = scan_over_time(step, self.encoder, start, rows)
        losses = self._kl_losses(posterior, each(self.dynamics)(states.recurrent))
        losses |= self._head_losses(batch, observation, each(self.features)(states))
        return losses, jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), states)

    def _observed(self) -> tuple[str, ...]:
        return (*self.encoder.observation.images, *self.encoder.observation.vector_keys)

    def _kl_losses(self, posterior: Array, prior: Array) -> dict[str, Array]:
        """KL balancing with free nats, each side trained towards the other held still (eq. 3)."""
        still = jax.lax.stop_gradient
        free = self.settings.free_nats
        return {
            "dynamics": jnp.maximum(categorical_kl(still(posterior), prior), free).mean(),
            "representation": jnp.maximum(categorical_kl(posterior, still(prior)), free).mean(),
        }

    def _head_losses(
        self, batch: Batch, observation: Batch, features: Float[Array, "t b f"]
    ) -> dict[str, Array]:
        reconstruction = each(self.decoder.loss)(features, observation)
        reward_logits = each(self.reward_head.reward)(features)
        reward = -TwoHot(reward_logits, self.settings.bin_reach).log_prob(batch["reward"])
        known = batch.get("reward_known", jnp.ones_like(batch["is_first"]))
        logit = each(self.reward_head.continuation)(features)[..., 0]
        goes_on = 1.0 - batch["is_terminal"].astype(jnp.float32)
        logit = logit.astype(jnp.float32)
        cross_entropy = (
            jnp.maximum(logit, 0) - logit * goes_on + jnp.log1p(jnp.exp(-jnp.abs(logit)))
        )
        return {
            "reconstruction": reconstruction.mean(),
            "reward": (reward * known).sum() / jnp.maximum(known.sum(), 1),
            "continue": cross_entropy.mean(),
        }


def build_rssm(
    spec: Mapping[str, ArraySpec],
    actions: int,
    settings: ModelSettings,
    keys: Mapping[str, PRNGKeyArray],
) -> RSSM:
    """A fresh RSSM; `keys` has one random key per component."""
    features = features_size(settings)
    return RSSM(
        encoder=Encoder(spec, actions, settings, key=keys["encoder"]),
        dynamics=Dynamics(settings, key=keys["dynamics"]),
        decoder=ObservationDecoder(features, spec, settings, key=keys["decoder"]),
        reward_head=RewardHead(features, settings, key=keys["reward_head"]),
        settings=settings,
    )


def latent_entropy(model: RSSM, states: State) -> Float[Array, ""]:
    """Mean prior entropy per latent in nats: near zero means a collapsed or memorised model."""
    prior = jax.vmap(model.dynamics)(states.recurrent.reshape(-1, model.settings.recurrent))
    return categorical_entropy(prior).mean()

"""MuZero-style world model: a latent that is encoded once and then predicted (arXiv 1911.08265).

There is no recurrent state: a latent is what one observation shows, or the last `muzero.history` of
them (`world_models.encoder`). Latents are normalised to mean 0 and size 1 over their numbers, after
encoding and after every predicted step, so that steps can be chained and no loss is won by
shrinking them. The components hold:

| component     | arrays                                                                         |
|---------------|--------------------------------------------------------------------------------|
| `encoder`     | observation nets and the layer to the latent: what turns observations into one |
| `dynamics`    | what predicts the next latent from a latent and an action                      |
| `decoder`     | reconstruction nets; projector and predictor of `spr` and `contrastive`        |
| `reward_head` | reward (two-hot on the value transform) and continuation                       |

`actor` and `critic` (`policies.muzero`) read latents. Slow copies belong to the component that they
copy, see there.
"""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from tasks.contract import ArraySpec
from world_models.contract import Batch, WorldModel
from world_models.distributions import RootTwoHot, begun_at_zero
from world_models.encoder import Belief, Encoder, Latent, encode, latent_of, standardised
from world_models.layers import MLP
from world_models.observations import Observation, ObservationDecoder
from world_models.self_supervision import Projector, consistency, contrast
from world_models.settings import ModelSettings, MuZeroSettings
from world_models.windows import own_episode, spans, without_context

LOSSES = ("reward", "continue", "spr", "contrastive", "reconstruction")


def halved(x: Latent) -> Latent:
    """The same, with half of its gradient (1911.08265 appendix G)."""
    return 0.5 * x + 0.5 * jax.lax.stop_gradient(x)


class Dynamics(eqx.Module):
    """Component `dynamics`: the change that an action makes in a latent."""

    net: MLP
    action_scale: float = eqx.field(static=True)

    def __init__(self, actions: int, settings: ModelSettings, latent: int, *, key: PRNGKeyArray):
        sizes = {"width": settings.width, "layers": settings.layers}
        self.net = MLP(latent + actions, latent, **sizes, key=key)
        # An action of a few numbers would be drowned by the latent's many.
        self.action_scale = (latent / actions) ** 0.5

    def __call__(self, latent: Float[Array, " z"], action: Float[Array, " a"]) -> Latent:
        inputs = jnp.concatenate([latent, self.action_scale * action.astype(latent.dtype)])
        return standardised(latent + self.net(inputs).astype(jnp.float32))


class Decoder(eqx.Module):
    """Component `decoder`: what the self-supervised losses need and acting does not."""

    observation: ObservationDecoder
    projector: Projector

    def __init__(
        self,
        spec: Mapping[str, ArraySpec],
        settings: ModelSettings,
        muzero: MuZeroSettings,
        *,
        key: PRNGKeyArray,
    ):
        keys = jax.random.split(key)
        self.observation = ObservationDecoder(muzero.latent, spec, settings, key=keys[0])
        self.projector = Projector(muzero.latent, muzero.projection, settings.width, key=keys[1])

    def __call__(self, features: Float[Array, " z"]) -> dict[str, Array]:
        """Predicted observation."""
        return self.observation(features)


class RewardHead(eqx.Module):
    """Component `reward_head`: reward and continuation on arriving in a predicted latent."""

    reward: MLP
    continuation: MLP

    def __init__(self, latent: int, settings: ModelSettings, *, key: PRNGKeyArray):
        keys = jax.random.split(key)
        sizes = {"width": settings.width, "layers": 1}
        reward = MLP(latent, settings.bins, **sizes, output_scale=0.0, key=keys[0])
        self.reward = begun_at_zero(reward)
        self.continuation = MLP(latent, 1, **sizes, key=keys[1])


class MuZero(eqx.Module):
    """The four components as one world model (see `world_models.contract.WorldModel`)."""

    encoder: Encoder
    dynamics: Dynamics
    decoder: Decoder
    reward_head: RewardHead
    settings: ModelSettings = eqx.field(static=True)
    muzero: MuZeroSettings = eqx.field(static=True)

    def initial(self) -> Belief:
        return self.encoder.initial()

    def noise(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "*s none"]:
        """No numbers: nothing in this model is random."""
        return jnp.zeros((*shape, 0))

    def observe(
        self,
        state: Belief,
        action: Float[Array, " a"],
        observation: Observation,
        is_first: Bool[Array, ""],
        noise: Float[Array, " none"],
    ) -> Belief:
        """The observation's latent, with what is remembered of those before."""
        return self.encoder.observe(state, action, observation, is_first)

    def imagine(
        self, state: Float[Array, " z"], action: Float[Array, " a"], noise: Float[Array, " none"]
    ) -> Float[Array, " z"]:
        return self.dynamics(state, action)

    def root(self, state: Belief) -> Float[Array, " z"]:
        return latent_of(state)

    def features(self, state: Float[Array, " z"]) -> Float[Array, " z"]:
        return state

    def reward(self, features: Float[Array, " z"]) -> Float[Array, ""]:
        return RootTwoHot(self.reward_head.reward(features), self.settings.bin_reach).mean()

    def continuation(self, features: Float[Array, " z"]) -> Float[Array, ""]:
        return jax.nn.sigmoid(self.reward_head.continuation(features)[0].astype(jnp.float32))

    def loss(
        self, batch: Batch, start: Belief, slow_model: WorldModel | None, key: PRNGKeyArray
    ) -> tuple[dict[str, Float[Array, ""]], Float[Array, "b t z"]]:
        """Mean losses over the batch by the names of their weights, and all latents.

        Every step that has a latent and leaves room for the unroll is a root. Without a
        `slow_model` targets of the self-supervised losses are this model's own, held still.
        """
        slow = slow_model if isinstance(slow_model, MuZero) else self
        states = self.encode(batch)
        seen = states if slow is self else slow.encode(batch)
        batch = without_context(batch, self.encoder.context)
        roots = states[:, : states.shape[1] - self.muzero.unroll]
        unrolled = self.unroll(roots, batch["action"])
        return self.losses(batch, unrolled, seen, slow.decoder.projector), states

    def encode(self, batch: Batch, steps: int | None = None) -> Float[Array, "b t z"]:
        """Latents of a batch (see `world_models.encoder.encode`)."""
        return encode(self.encoder, batch, steps)

    def unroll(
        self, roots: Float[Array, "b r z"], actions: Float[Array, "b t a"]
    ) -> Float[Array, "b r k1 z"]:
        """Latents at t ... t+K from every root t by the actions that were taken; with each step
        half of the gradient is left."""
        taken = spans(actions, roots.shape[1], self.muzero.unroll)

        def step(latent: Array, action: Array) -> tuple[Array, Array]:
            latent = jax.vmap(jax.vmap(self.dynamics))(halved(latent), action)
            return latent, latent

        _, later = jax.lax.scan(step, roots, jnp.moveaxis(taken, 2, 0))
        return jnp.concatenate([roots[:, :, None], jnp.moveaxis(later, 0, 2)], 2)

    def losses(
        self,
        batch: Batch,
        unrolled: Float[Array, "b r k1 z"],
        seen: Float[Array, "b t z"],
        slow: Projector,
    ) -> dict[str, Float[Array, ""]]:
        """Mean losses of an unroll from steps of a batch `without_context`; `seen` are the slow
        model's latents of what really came, and of all that was remembered then.

        Steps beyond an episode's end do not count. Losses of weight 0 are left out, but for the
        reconstruction, whose decoder then learns from latents that it does not shape: it is what
        shows a person, and the report, what the model foresees.
        """
        roots, ahead = unrolled.shape[1], self.muzero.unroll
        valid = own_episode(batch["is_first"], roots, ahead)
        arrived = unrolled[:, :, 1:].reshape(-1, self.muzero.latent)
        counts = valid[:, :, 1:].reshape(-1).astype(jnp.float32)

        def later(name: str) -> Array:
            return spans(batch[name], roots, ahead + 1)[:, :, 1:].reshape(-1)

        logits = jax.vmap(self.reward_head.reward)(arrived)
        reward = -RootTwoHot(logits, self.settings.bin_reach).log_prob(later("reward"))
        known = counts * (later("reward_known") if "reward_known" in batch else 1.0)
        logit = jax.vmap(self.reward_head.continuation)(arrived)[:, 0].astype(jnp.float32)
        ended = later("is_terminal").astype(jnp.float32)
        going_on = jax.nn.softplus(logit) - logit * (1.0 - ended)
        weight = batch.get("weight")
        out = {
            "reward": mean_of(corrected(reward, weight), known),
            "continue": mean_of(corrected(going_on, weight), counts),
        }
        if self.muzero.spr_scale or self.muzero.contrastive_scale:
            out |= self._embedding_losses(arrived, counts, seen, slow, roots, weight)
        out["reconstruction"] = self._reconstruction(batch, unrolled, valid)
        return out

    def _embedding_losses(
        self,
        arrived: Float[Array, "n z"],
        counts: Float[Array, " n"],
        seen: Float[Array, "b t z"],
        slow: Projector,
        roots: int,
        weight: Float[Array, " b"] | None,
    ) -> dict[str, Float[Array, ""]]:
        """Losses of the embeddings foreseen, towards those of what was seen."""
        ahead = self.muzero.unroll
        predicted = jax.vmap(self.decoder.projector.prediction)(arrived)
        targets = jax.vmap(slow.target)(seen.reshape(-1, seen.shape[-1]))
        places = jnp.arange(targets.shape[0]).reshape(seen.shape[:2])
        own = spans(places, roots, ahead + 1)[:, :, 1:].reshape(-1)
        out = {}
        if self.muzero.spr_scale:
            spr = consistency(predicted, targets[own])
            out["spr"] = mean_of(corrected(spr, weight), counts)
        if self.muzero.contrastive_scale:
            contrastive = contrast(predicted, targets, own)
            out["contrastive"] = mean_of(corrected(contrastive, weight), counts)
        return out

    def _reconstruction(
        self, batch: Batch, unrolled: Float[Array, "b r k1 z"], valid: Bool[Array, "b r k1"]
    ) -> Float[Array, ""]:
        ahead = self.muzero.unroll
        every = 1
        if not self.muzero.reconstruction_scale:
            unrolled, every = jax.lax.stop_gradient(unrolled), ahead  # the first and the last
        net, roots = self.encoder.observation, unrolled.shape[1]
        names = (*net.images, *net.vector_keys)
        seen = {n: spans(batch[n], roots, ahead + 1)[:, :, ::every] for n in names}
        each = jax.vmap(jax.vmap(jax.vmap(self.decoder.observation.loss)))
        losses = corrected(each(unrolled[:, :, ::every], seen), batch.get("weight"))
        return mean_of(losses, valid[:, :, ::every].astype(jnp.float32))


def mean_of(x: Float[Array, "*s"], weight: Float[Array, "*s"]) -> Float[Array, ""]:
    """Weighted mean, 0 where nothing counts."""
    return (x * weight).sum() / jnp.maximum(weight.sum(), 1.0)


def corrected(x: Float[Array, "*s"], weight: Float[Array, " b"] | None) -> Float[Array, "*s"]:
    """Losses [b ...], or those flattened, times what the sequences that they are of weigh; replay
    gives a `weight` where it draws some sequences more often than others."""
    if weight is None:
        return x
    return (x.reshape(weight.shape[0], -1) * weight[:, None]).reshape(x.shape)


def spread(latents: Float[Array, "*b z"]) -> Float[Array, ""]:
    """Distance between two latents of the batch, root mean square, in that of unrelated ones: near
    1 where different observations are told apart, near 0 where they have collapsed into one."""
    return jnp.sqrt(latents.reshape(-1, latents.shape[-1]).var(0).mean())


def build_muzero(
    spec: Mapping[str, ArraySpec],
    actions: int,
    settings: ModelSettings,
    muzero: MuZeroSettings,
    keys: Mapping[str, PRNGKeyArray],
) -> MuZero:
    """A fresh model; `keys` has one random key per component."""
    return MuZero(
        encoder=Encoder(
            spec, settings, muzero.latent, muzero.history, actions, key=keys["encoder"]
        ),
        dynamics=Dynamics(actions, settings, muzero.latent, key=keys["dynamics"]),
        decoder=Decoder(spec, settings, muzero, key=keys["decoder"]),
        reward_head=RewardHead(muzero.latent, settings, key=keys["reward_head"]),
        settings=settings,
        muzero=muzero,
    )

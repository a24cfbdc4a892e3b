"""The MuZero-style agent: searches in its model give the targets that policy and values learn.

Components are those of `world_models.muzero`, with `actor` and `critic` (a two-hot value head) that
read latents. Each has a slow copy, which belongs to the component that it copies: it gives the
embeddings of self-supervision, the bootstrap values, and the model in which states of the replay
are searched again (reanalyse, arXiv 2104.06294).

    roots     the first T - K - n steps of a sequence, unrolled K steps by the actions taken
    values    n-step returns of the rewards that came, for every step of the unroll
    policy    the search's weights over the actions it tried, where an unroll meets a searched step

Exploring, the reward of a real step is its bonus, and searches want the bonus alone.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from policies.actor import Actor
from policies.components import (
    LossAux,
    build_explorer,
    learn_curiosity,
    objective_of,
    real_steps,
)
from policies.returns import n_step_returns
from policies.search import Found, look_ahead, search
from policies.settings import (
    AgentSettings,
    BehaviourSettings,
    CuriositySettings,
    LearningSettings,
    PlanningSettings,
)
from policies.slow import SlowAgent
from policies.values import ValueHead
from tasks.contract import MASK, TaskSpec
from world_models.contract import Batch
from world_models.muzero import (
    LOSSES,
    Decoder,
    Dynamics,
    Encoder,
    MuZero,
    RewardHead,
    build_muzero,
    mean_of,
    spread,
)
from world_models.running import Running, cast
from world_models.settings import ModelSettings, MuZeroSettings
from world_models.windows import own_episode, spans


class Targets(NamedTuple):
    """What the heads learn: `value` of every step that an unroll may reach, and of the M sequences
    that were searched the `actions` tried at the first R steps and their `weights`."""

    value: Float[Array, "b rk"]
    actions: Float[Array, "m r n a"]
    weights: Float[Array, "m r n"]


class MuZeroAgent(SlowAgent):
    """Components of the model, actor, critic, and the slow copies of all of them."""

    encoder: Encoder
    dynamics: Dynamics
    decoder: Decoder
    reward_head: RewardHead
    critic: ValueHead
    muzero: MuZeroSettings = eqx.field(static=True)
    planning: PlanningSettings = eqx.field(static=True)

    @property
    def model(self) -> MuZero:
        parts = (self.encoder, self.dynamics, self.decoder, self.reward_head)
        return MuZero(*parts, self.model_settings, self.muzero)

    def loss(
        self,
        batch: Batch,
        key: PRNGKeyArray,
        *,
        stage: str,
        dtype: jnp.dtype,
        bonus_weight: float | Float[Array, ""],
    ) -> tuple[Float[Array, ""], LossAux]:
        agent, exploring = cast(self, dtype), stage == "explore"
        model, slow = agent.model, agent.slowly.model
        roots = batch["is_first"].shape[1] - self.muzero.unroll - self.learning.n_steps
        seen = jax.lax.stop_gradient(slow.encode(batch))
        first = model.encode(batch, roots)
        unrolled = model.unroll(first, batch["action"])
        losses = model.losses(batch, unrolled, seen, slow.decoder.projector)
        weights = self.loss_weights(stage)
        metrics = {f"loss/{name}": value for name, value in losses.items()}
        metrics["latent/spread"] = spread(first)
        metrics["latent/spread_unrolled"] = spread(unrolled[:, :, -1])
        total = jnp.asarray(sum(weights[name] * losses[name] for name in losses))

        explorer, curiosity = None, self.explorer
        if curiosity is not None:
            steps = real_steps(model.encoder.observation, batch, seen)
            loss, explorer, more = learn_curiosity(curiosity, steps, dtype)
            metrics |= more
            total = total + loss
        if exploring and curiosity is None:
            return total, LossAux(metrics | {"loss/total": total}, None, None)

        weight = None if exploring else bonus_weight
        targets = jax.lax.stop_gradient(agent.slowly.targets(batch, seen, roots, weight, key))
        heads, more = self.head_losses(agent, batch, unrolled, targets, exploring)
        s, b = self.learning, self.behaviour
        metrics |= {f"loss/{name}": value for name, value in heads.items()} | more
        total = total + s.value_scale * heads["value"] + s.policy_scale * heads["policy"]
        total = total - b.entropy * more["actor/entropy"] + b.strain * more["actor/strain"]
        return total, LossAux(metrics | {"loss/total": total}, None, explorer)

    def targets(
        self,
        batch: Batch,
        seen: Float[Array, "b t z"],
        roots: int,
        bonus_weight: float | Float[Array, ""] | None,
        key: PRNGKeyArray,
    ) -> Targets:
        """Targets by this agent, usually the slow one, whose latents `seen` are.

        The search's value takes the place of the head's where a searched step is bootstrapped from.
        """
        objective = objective_of(self, bonus_weight)
        share = max(1, round(self.learning.reanalyse * seen.shape[0]))
        states = seen[:share, :roots].reshape(-1, seen.shape[-1])
        mask = batch.get(MASK)
        invalid = None if mask is None else ~mask[:share, :roots].reshape(-1, mask.shape[-1])
        found = self.find(states, objective, key, invalid)

        def folded(x: Array) -> Array:
            return x.reshape(share, roots, *x.shape[1:])

        values = jax.vmap(jax.vmap(self.critic))(seen).mean()
        if self.planning.learn != "none":
            values = values.at[:share, :roots].set(folded(found.value))
        returns = n_step_returns(
            self.paid(batch, seen, bonus_weight),
            values,
            batch["is_first"],
            batch["is_terminal"],
            self.behaviour.discount,
            self.learning.n_steps,
        )
        return Targets(returns, folded(found.actions), folded(found.weights))

    def find(
        self,
        states: Array,
        objective: Any,
        key: PRNGKeyArray,
        invalid: Bool[Array, "b a"] | None = None,
    ) -> Found:
        """Search these states, or look one step ahead where learning does without planning."""
        arguments = (self.model, self.actor, objective, states, key, self.planning.search)
        if self.planning.learn == "none":
            return look_ahead(*arguments, invalid)
        return search(*arguments, greedy=False, invalid=invalid)

    @staticmethod
    def head_losses(
        agent: "MuZeroAgent",
        batch: Batch,
        unrolled: Float[Array, "b r k1 z"],
        targets: Targets,
        exploring: bool,
    ) -> tuple[dict[str, Float[Array, ""]], dict[str, Float[Array, ""]]]:
        """Losses of value and policy along the unroll, and what to tell of them.

        The value of a sequence whose rewards are not known (`reward_known`) is not learnt.
        """
        roots, ahead = unrolled.shape[1], agent.muzero.unroll
        valid = own_episode(batch["is_first"], roots, ahead)
        values = jax.vmap(jax.vmap(jax.vmap(agent.critic)))(unrolled)
        wanted = spans(targets.value, roots, ahead + 1)
        counts = valid.astype(jnp.float32)
        if "reward_known" in batch and not exploring:
            counts *= batch["reward_known"][:, :1, None]
        value = mean_of(-values.log_prob(wanted), counts)

        near = min(ahead, roots - 1) + 1  # steps of an unroll that were searched
        searched = targets.weights.shape[0]
        policy = jax.vmap(jax.vmap(jax.vmap(agent.actor)))(unrolled[:searched, :, :near])
        room = ((0, 0), (0, near - 1))
        actions = spans(jnp.pad(targets.actions, (*room, (0, 0), (0, 0))), roots, near)
        weights = spans(jnp.pad(targets.weights, (*room, (0, 0))), roots, near)
        ended = spans(batch["is_terminal"], roots, near)[:searched]
        inside = jnp.arange(roots)[:, None] + jnp.arange(near) < roots
        counts = (valid[:searched, :, :near] & ~ended & inside).astype(jnp.float32)
        likely = jax.vmap(lambda a: policy.log_prob(a), -2, -1)(actions)
        metrics = {
            "actor/entropy": mean_of(policy.entropy(), counts),
            "actor/strain": mean_of(policy.strain(), counts),
            "value/mean": values.mean().mean(),
            "return/mean": targets.value.mean(),
            "search/weight": targets.weights.max(-1).mean(),
        }
        losses = {"value": value, "policy": mean_of(-(weights * likely).sum(-1), counts)}
        return losses, metrics

    def loss_weights(self, stage: str) -> dict[str, float]:
        """Weights by the names of the model's losses; exploration reads no rewards.

        A decoder that only looks on learns at weight 1.
        """
        m, z = self.model_settings, self.muzero
        weights = {
            "reward": 0.0 if stage == "explore" else m.reward_scale,
            "continue": m.continue_scale,
            "spr": z.spr_scale,
            "contrastive": z.contrastive_scale,
            "reconstruction": z.reconstruction_scale or 1.0,
        }
        assert set(weights) == set(LOSSES)
        return weights


def build_muzero_agent(
    spec: TaskSpec,
    agent: AgentSettings,
    model: ModelSettings,
    behaviour: BehaviourSettings,
    curiosity: CuriositySettings,
    muzero: MuZeroSettings,
    learning: LearningSettings,
    planning: PlanningSettings,
    keys: Mapping[str, PRNGKeyArray],
    *,
    curious: bool,
) -> MuZeroAgent:
    """A fresh agent; `keys` has one random key per component."""
    world = build_muzero(spec.observation, spec.action.size, model, muzero, keys)
    explorer = None
    if curious:
        explorer = build_explorer(spec, agent, curiosity, muzero.latent, keys["explorer"])
    parts = {
        "encoder": world.encoder,
        "dynamics": world.dynamics,
        "decoder": world.decoder,
        "reward_head": world.reward_head,
        "actor": Actor(muzero.latent, spec.action, behaviour, key=keys["actor"]),
        "critic": ValueHead(muzero.latent, behaviour, key=keys["critic"]),
    }
    return MuZeroAgent(
        **parts,
        explorer=explorer,
        model_settings=model,
        behaviour=behaviour,
        slow=Running(parts),
        muzero=muzero,
        learning=learning,
        planning=planning,
    )

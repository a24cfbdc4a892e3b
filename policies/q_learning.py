"""The model-free control: Q-learning that differs from the MuZero-style agent in the model alone.

Encoder, policy, n-step targets, candidates of sampled actions, slow copies, bonuses and optimiser
are the same (arXiv 2302.04009, the controlled Q-learner). Where the other asks its model what the
actions tried are worth, this one asks a value of state and action:

    q_i       slow Q of the candidates; the improved policy is softmax(prior + sigma(q))
    policy    cross-entropy to the improved policy
    Q         n-step returns, bootstrapped with the improved policy's mean of q

The components hold: `encoder` the observation nets, `actor` the policy, `critic` Q, each with its
slow copy. There is no `dynamics`, `decoder` or `reward_head`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from policies import candidates
from policies.actor import Actor
from policies.components import build_explorer
from policies.imagination import still
from policies.returns import n_step_returns
from policies.search import improved
from policies.settings import (
    AgentSettings,
    BehaviourSettings,
    CuriositySettings,
    LearningSettings,
    SearchSettings,
)
from policies.slow import Behaviour, SlowAgent, View
from policies.values import ValueHead
from tasks.contract import MASK, TaskSpec
from world_models.contract import Batch
from world_models.distributions import RootTwoHot
from world_models.encoder import Encoder
from world_models.muzero import corrected, mean_of, spread
from world_models.perception import Perception
from world_models.running import Running
from world_models.settings import ModelSettings, MuZeroSettings


class ActionValue(eqx.Module):
    """Component `critic`: what an action in a latent is worth."""

    head: ValueHead
    action_scale: float = eqx.field(static=True)

    def __init__(
        self, latent: int, actions: int, settings: BehaviourSettings, *, key: PRNGKeyArray
    ):
        self.head = ValueHead(latent + actions, settings, key=key)
        self.action_scale = (latent / actions) ** 0.5  # as in MuZero's dynamics

    def __call__(self, latent: Float[Array, " z"], action: Float[Array, " a"]) -> RootTwoHot:
        return self.head(jnp.concatenate([latent, self.action_scale * action]))


class Asked(NamedTuple):
    """Candidates of every step, what the policy should be among them, and its value."""

    actions: Float[Array, "b t k a"]
    weights: Float[Array, "b t k"]
    value: Float[Array, "b t"]


class QAgent(SlowAgent):
    """An encoder, a policy, and values of actions."""

    encoder: Encoder
    critic: ActionValue
    search: SearchSettings = eqx.field(static=True)

    @property
    def model(self) -> Perception:
        return Perception(self.encoder)

    def view(self, batch: Batch, stage: str) -> View:
        seen = jax.lax.stop_gradient(self.slowly.model.encode(batch))
        latents = self.model.encode(batch, seen.shape[1] - self.learning.n_steps)
        metrics = {"latent/spread": spread(latents)}
        return View(latents, seen, seen, jnp.zeros(()), metrics)

    def behaviour_losses(
        self,
        batch: Batch,
        view: View,
        bonus_weight: float | Float[Array, ""] | None,
        key: PRNGKeyArray,
    ) -> Behaviour:
        latents, number = view.latents, view.latents.shape[1]
        asked = still(self.slowly.ask(view.seen, key, batch.get(MASK)))
        returns = n_step_returns(
            jax.lax.stop_gradient(self.paid(batch, view.seen, bonus_weight)),
            asked.value,
            batch["is_first"],
            batch["is_terminal"],
            self.behaviour.discount,
            self.learning.n_steps,
        )
        acted = ~(batch["is_first"][:, 1 : number + 1] | batch["is_terminal"][:, :number])
        counts = acted.astype(jnp.float32)
        paid = "reward_known" in batch and bonus_weight is not None
        known = batch["reward_known"][:, :1] if paid else 1.0
        value = jax.vmap(jax.vmap(self.critic))(latents, batch["action"][:, :number])
        policy = jax.vmap(jax.vmap(self.actor))(latents)
        likely = jax.vmap(lambda a: policy.log_prob(a), -2, -1)(asked.actions[:, :number])

        def mean(x: Float[Array, "b r"], counts: Float[Array, "b r"]) -> Float[Array, ""]:
            return mean_of(corrected(x, batch.get("weight")), counts)

        losses = {
            "value": mean(-value.log_prob(returns), counts * known),
            "policy": mean(-(asked.weights[:, :number] * likely).sum(-1), counts),
        }
        metrics = {
            "actor/entropy": mean(policy.entropy(), counts),
            "actor/strain": mean(policy.strain(), counts),
            "value/mean": value.mean().mean(),
            "return/mean": returns.mean(),
        }
        errors = counts * jnp.abs(value.mean() - returns)
        return Behaviour(losses, metrics, errors.sum(-1) / jnp.maximum(counts.sum(-1), 1.0))

    def ask(
        self,
        seen: Float[Array, "b t z"],
        key: PRNGKeyArray,
        mask: Bool[Array, "b t a"] | None = None,
    ) -> Asked:
        """What this agent thinks of the candidates at every step, of those that `mask` allows.
        Consumes `key`."""
        noise = candidates.draw(self.actor, self.search, key, seen.shape[:2])

        def one(latent: Array, noise: Array, mask: Array | None) -> tuple[Array, Array, Array]:
            tried = candidates.propose(self.actor(latent), noise, self.search)
            values = jax.vmap(lambda action: self.critic(latent, action).mean())(tried.actions)
            invalid = None if mask is None else ~mask
            weights = improved(tried.prior, values, self.search, invalid)
            return tried.actions, weights, (weights * values).sum(-1)

        return Asked(*jax.vmap(jax.vmap(one))(seen, noise, mask))


def build_q_agent(
    spec: TaskSpec,
    agent: AgentSettings,
    model: ModelSettings,
    behaviour: BehaviourSettings,
    curiosity: CuriositySettings,
    muzero: MuZeroSettings,
    learning: LearningSettings,
    search: SearchSettings,
    keys: Mapping[str, PRNGKeyArray],
    *,
    curious: bool,
) -> QAgent:
    """A fresh agent; `keys` has one random key per component."""
    explorer, latent = None, muzero.latent
    if curious:
        explorer = build_explorer(spec, agent, curiosity, latent, keys["explorer"])
    parts: dict[str, Any] = {
        "encoder": Encoder(
            spec.observation,
            model,
            latent,
            muzero.history,
            spec.action.size,
            key=keys["encoder"],
        ),
        "actor": Actor(latent, spec.action, behaviour, key=keys["actor"]),
        "critic": ActionValue(latent, spec.action.size, behaviour, key=keys["critic"]),
    }
    return QAgent(
        **parts,
        dynamics=None,
        decoder=None,
        reward_head=None,
        explorer=explorer,
        model_settings=model,
        behaviour=behaviour,
        slow=Running(parts),
        learning=learning,
        search=search,
    )

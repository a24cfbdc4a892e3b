"""The Dreamer-style agent: an RSSM, and an actor-critic learnt in its imagination.

Stop-gradients keep the groups apart, so one gradient serves world model, actor, critic and
explorer. With `planning.learn` the actor also learns what that planner finds from a share of the
states in which imagination starts (`policies.distillation`), beside what imagination teaches.
"""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from policies.actor import Actor
from policies.components import (
    Agent,
    LossAux,
    build_explorer,
    learn_curiosity,
    objective_of,
    real_steps,
)
from policies.critic import Critic
from policies.distillation import distillation_loss
from policies.imagination import behaviour_losses, still
from policies.settings import (
    AgentSettings,
    BehaviourSettings,
    CuriositySettings,
    PlanningSettings,
)
from policies.starts import imagination_starts
from tasks.contract import TaskSpec
from world_models.contract import Batch
from world_models.layers import each
from world_models.observations import ObservationDecoder
from world_models.rssm import (
    LOSSES,
    RSSM,
    Dynamics,
    Encoder,
    RewardHead,
    build_rssm,
    features_size,
)
from world_models.running import cast
from world_models.settings import ModelSettings


class DreamerAgent(Agent):
    """Components of the RSSM, actor and critic."""

    encoder: Encoder
    dynamics: Dynamics
    decoder: ObservationDecoder
    reward_head: RewardHead
    critic: Critic
    planning: PlanningSettings | None = eqx.field(static=True)  # where plans are learnt from

    @property
    def model(self) -> RSSM:
        return RSSM(
            self.encoder, self.dynamics, self.decoder, self.reward_head, self.model_settings
        )

    @property
    def unit(self) -> float:
        b = self.behaviour
        return 1.0 - b.discount if b.reward_unit == "1-discount" else 1.0

    def loss(
        self,
        batch: Batch,
        key: PRNGKeyArray,
        *,
        stage: str,
        dtype: jnp.dtype,
        bonus_weight: float | Float[Array, ""],
    ) -> tuple[Float[Array, ""], LossAux]:
        agent = cast(self, dtype)
        model_key, start_key, dream_key = jax.random.split(key, 3)
        number = batch["is_first"].shape[0]
        model = agent.model
        start = jax.tree.map(lambda x: jnp.broadcast_to(x, (number, *x.shape)), model.initial())
        losses, states = model.loss(batch, start, None, model_key)
        weights = loss_weights(agent.model_settings, stage)
        metrics = {f"loss/{name}": value for name, value in losses.items()}
        total = jnp.asarray(sum(weights[name] * losses[name] for name in losses))

        explorer = None
        if self.explorer is not None:
            features = each(model.features)(still(states))
            steps = real_steps(model.encoder.observation, batch, features)
            loss, explorer, more = learn_curiosity(self.explorer, steps, dtype)
            metrics |= more
            total = total + loss
        if stage == "explore" and agent.explorer is None:
            return total, LossAux(metrics | {"loss/total": total}, None, None)

        exploring = stage == "explore"
        starts, weight = imagination_starts(
            states, batch, agent.behaviour, start_key, by_reward=not exploring
        )
        objective = objective_of(agent, None if exploring else bonus_weight)
        behaviour, aux = behaviour_losses(
            agent.actor, agent.critic, model, objective, starts, weight, agent.behaviour, dream_key
        )
        metrics |= {f"loss/{name}": value for name, value in behaviour.items()} | aux.metrics
        if exploring:
            metrics["bonus/mean"] = aux.metrics["reward/imagined"] / agent.unit
        total = total + behaviour["actor"] + behaviour["critic"]
        if self.planning is not None:
            wanted = (agent.actor, model, objective, starts, weight)
            plan_key = jax.random.fold_in(key, 3)  # none of the three above
            loss = distillation_loss(*wanted, self.planning, plan_key)
            metrics["loss/distillation"] = loss
            total = total + self.planning.learn_scale * loss
        return total, LossAux(metrics | {"loss/total": total}, aux.range, explorer)

    def settle(self, aux: LossAux) -> Agent:
        """The return range, the slow critic and the explorer's moments move on."""
        agent: Agent = self
        if aux.range is not None:
            critic = eqx.tree_at(lambda c: c.range.value, self.critic, aux.range)
            agent = agent.replace({"critic": critic.follow(self.behaviour.slow_critic)})
        return agent if aux.explorer is None else agent.with_statistics(aux.explorer)


def loss_weights(settings: ModelSettings, stage: str) -> dict[str, float]:
    """Weights by the names of the losses; exploration reads no rewards."""
    weights = {name: getattr(settings, f"{name}_scale") for name in LOSSES}
    return weights | ({"reward": 0.0} if stage == "explore" else {})


def build_dreamer(
    spec: TaskSpec,
    agent: AgentSettings,
    model: ModelSettings,
    behaviour: BehaviourSettings,
    curiosity: CuriositySettings,
    planning: PlanningSettings,
    keys: Mapping[str, PRNGKeyArray],
    *,
    curious: bool,
) -> DreamerAgent:
    """A fresh agent; `keys` has one random key per component."""
    rssm = build_rssm(spec.observation, spec.action.size, model, keys)
    features = features_size(model)
    explorer = None
    if curious:
        explorer = build_explorer(spec, agent, curiosity, features, keys["explorer"])
    return DreamerAgent(
        encoder=rssm.encoder,
        dynamics=rssm.dynamics,
        decoder=rssm.decoder,
        reward_head=rssm.reward_head,
        actor=Actor(features, spec.action, behaviour, key=keys["actor"]),
        critic=Critic(features, behaviour, key=keys["critic"]),
        explorer=explorer,
        model_settings=model,
        behaviour=behaviour,
        planning=planning if planning.learn != "none" else None,
    )

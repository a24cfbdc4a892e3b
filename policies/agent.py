"""The Dreamer-style agent: its components, how it acts, and its loss over a batch.

Every learned or running array belongs to exactly one component, which is a field of `Agent`.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from policies.actor import Actor
from policies.critic import Critic, ReturnRange
from policies.curiosity import (
    Disagreement,
    RandomNetworkDistillation,
    Steps,
    build_curiosity,
)
from policies.imagination import behaviour_losses, still
from policies.objectives import (
    CuriosityObjective,
    CuriousTaskObjective,
    Objective,
    TaskObjective,
)
from policies.plan import Planner, PlannerMemory
from policies.planners import NoPlanner
from policies.settings import AgentSettings, BehaviourSettings, CuriositySettings
from policies.starts import imagination_starts
from tasks.contract import TaskSpec
from world_models.contract import Batch
from world_models.distributions import symlog
from world_models.observations import ObservationDecoder
from world_models.rssm import (
    LOSSES,
    RSSM,
    Dynamics,
    Encoder,
    RewardHead,
    State,
    build_rssm,
    features_size,
)
from world_models.running import cast
from world_models.settings import ModelSettings

COMPONENTS = ("encoder", "dynamics", "decoder", "reward_head", "actor", "critic", "explorer")


class Agent(eqx.Module):
    """One field per component; `explorer` is None where no curiosity is at work."""

    encoder: Encoder
    dynamics: Dynamics
    decoder: ObservationDecoder
    reward_head: RewardHead
    actor: Actor
    critic: Critic
    explorer: Disagreement | RandomNetworkDistillation | None
    model_settings: ModelSettings = eqx.field(static=True)
    behaviour: BehaviourSettings = eqx.field(static=True)

    @property
    def model(self) -> RSSM:
        """The world-model components as one model."""
        return RSSM(
            self.encoder, self.dynamics, self.decoder, self.reward_head, self.model_settings
        )

    def components(self) -> dict[str, Any]:
        """Component name to its module, those the agent has."""
        parts = {name: getattr(self, name) for name in COMPONENTS}
        return {name: part for name, part in parts.items() if part is not None}

    def replace(self, parts: Mapping[str, Any]) -> "Agent":
        """The agent with some components exchanged."""
        names = tuple(parts)
        return eqx.tree_at(
            lambda agent: tuple(getattr(agent, name) for name in names),
            self,
            tuple(parts[name] for name in names),
        )


def component_key(seed: int, stage: str, component: str) -> PRNGKeyArray:
    """Key of a fresh component: a function of (seed, stage, component) alone, so that a fresh part
    is the same in every arm and never equals the exploration's."""
    digest = hashlib.sha256(f"{seed}/{stage}/{component}".encode()).digest()
    return jax.random.key(int.from_bytes(digest[:4], "big"))


def build_agent(
    spec: TaskSpec,
    agent: AgentSettings,
    model: ModelSettings,
    behaviour: BehaviourSettings,
    curiosity: CuriositySettings,
    *,
    seed: int,
    stage: str,
    curious: bool,
) -> Agent:
    """A fresh agent for a task; `curious` ones have an explorer (if there is a curiosity)."""
    keys = {name: component_key(seed, stage, name) for name in COMPONENTS}
    rssm = build_rssm(spec.observation, spec.action.size, model, keys)
    features = features_size(model)
    explorer = None
    if curious:
        explorer = build_curiosity(
            agent,
            curiosity,
            features=features,
            actions=spec.action.size,
            changes=_change_size(rssm),
            key=keys["explorer"],
        )
    return Agent(
        encoder=rssm.encoder,
        dynamics=rssm.dynamics,
        decoder=rssm.decoder,
        reward_head=rssm.reward_head,
        actor=Actor(features, spec.action, behaviour, key=keys["actor"]),
        critic=Critic(features, behaviour, key=keys["critic"]),
        explorer=explorer,
        model_settings=model,
        behaviour=behaviour,
    )


class Memory(NamedTuple):
    """What the agent remembers between steps, per environment: its state, its last action, and what
    its planner begins the next plan from."""

    state: State
    action: Float[Array, "n a"]
    plan: PlannerMemory


def fresh_memory(agent: Agent, number: int, planner: Planner | None = None) -> Memory:
    """Memory before the first observation of `number` environments."""
    one = (agent.model.initial(), (planner or NoPlanner()).initial(agent.actor))
    state, plan = jax.tree.map(lambda x: jnp.broadcast_to(x, (number, *x.shape)), one)
    return Memory(state, jnp.zeros((number, agent.actor.action.size)), plan)


def act(
    agent: Agent,
    memory: Memory,
    observation: Mapping[str, Array],
    is_first: Bool[Array, " n"],
    key: PRNGKeyArray,
    *,
    planner: Planner,
    greedy: bool,
    bonus_weight: float | Float[Array, ""] | None = 0.0,
) -> tuple[Float[Array, "n a"], Memory]:
    """Actions [N, A] for a batch of observations, and the memory after them. Consumes `key`.

    A planner wants what the agent learns to want at that `bonus_weight` (see `objective_of`).
    """
    model = agent.model
    number = is_first.shape[0]
    observe_key, plan_key = jax.random.split(key)
    noise = model.noise(observe_key, (number,))
    state = jax.vmap(model.observe)(memory.state, memory.action, observation, is_first, noise)
    objective = objective_of(agent, bonus_weight)

    def plan(
        one: State, first: Array, remembered: PlannerMemory, plan_key: PRNGKeyArray
    ) -> tuple[Array, PlannerMemory]:
        fresh = planner.initial(agent.actor)
        begun = jax.tree.map(lambda new, old: jnp.where(first, new, old), fresh, remembered)
        made = planner(model, agent.actor, objective, one, begun, plan_key, greedy=greedy)
        return made.action, made.memory

    keys = jax.random.split(plan_key, number)
    action, remembered = jax.vmap(plan)(state, is_first, memory.plan, keys)
    return action, Memory(state, action, remembered)


def task_objective(agent: Agent) -> TaskObjective:
    """What the agent wants with a task's rewards."""
    b = agent.behaviour
    return TaskObjective(agent.model, agent.critic, b.discount, _unit(b))


def objective_of(agent: Agent, bonus_weight: float | Array | None) -> Objective:
    """What the agent is to want: without a weight, the bonus alone; without an explorer, or with a
    weight of plain 0.0, the task's reward alone."""
    if agent.explorer is None or (isinstance(bonus_weight, float) and bonus_weight == 0.0):
        return task_objective(agent)
    b = agent.behaviour
    shared = (agent.model, agent.critic, b.discount, _unit(b), agent.explorer)
    if bonus_weight is None:
        return CuriosityObjective(*shared)
    return CuriousTaskObjective(*shared, jnp.asarray(bonus_weight))


class LossAux(NamedTuple):
    """What one loss leaves behind: metrics, and running statistics to be kept."""

    metrics: dict[str, Float[Array, ""]]
    range: ReturnRange | None
    explorer: Disagreement | RandomNetworkDistillation | None


def agent_loss(
    agent: Agent,
    batch: Batch,
    key: PRNGKeyArray,
    *,
    stage: str,
    dtype: jnp.dtype,
    bonus_weight: float | Float[Array, ""] = 0.0,
) -> tuple[Float[Array, ""], LossAux]:
    """Sum of all weighted losses of a batch [B, T]. Consumes `key`.

    Stop-gradients keep the groups apart, so one gradient serves world model, actor, critic and
    explorer. While exploring, the reward head learns nothing (rewards are never read) and the
    behaviour wants the bonus alone; without a curiosity there is no behaviour to learn. Later the
    bonus of a carried explorer counts `bonus_weight` beside the task's reward.
    """
    full = agent
    agent = cast(agent, dtype)
    model_key, start_key, dream_key = jax.random.split(key, 3)
    number = batch["is_first"].shape[0]
    start = fresh_memory(agent, number).state
    model = agent.model
    losses, states = model.loss(batch, start, None, model_key)
    weights = loss_weights(agent.model_settings, stage)
    metrics = {f"loss/{name}": value for name, value in losses.items()}
    total = jnp.asarray(sum(weights[name] * losses[name] for name in losses))

    explorer = None
    if agent.explorer is not None:
        steps = real_steps(model, batch, still(states))
        curiosity_loss = agent.explorer.loss(steps)
        explorer = still(full.explorer).follow(steps)
        metrics["loss/explorer"] = curiosity_loss
        metrics["bonus/size"] = explorer.size.value.centre()[0]
        total = total + curiosity_loss
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
        metrics["bonus/mean"] = aux.metrics["reward/imagined"] / _unit(agent.behaviour)
    total = total + behaviour["actor"] + behaviour["critic"]
    return total, LossAux(metrics | {"loss/total": total}, aux.range, explorer)


def settle(agent: Agent, aux: LossAux) -> Agent:
    """Running parts after an update: the return range, the slow critic, the explorer's moments."""
    if aux.range is not None:
        critic = eqx.tree_at(lambda c: c.range.value, agent.critic, aux.range)
        agent = agent.replace({"critic": critic.follow(agent.behaviour.slow_critic)})
    if aux.explorer is not None:
        explorer = eqx.tree_at(_statistics, agent.explorer, _statistics(aux.explorer))
        agent = agent.replace({"explorer": explorer})
    return agent


def loss_weights(settings: ModelSettings, stage: str) -> dict[str, float]:
    """Weights by the names of the losses; exploration reads no rewards."""
    weights = {name: getattr(settings, f"{name}_scale") for name in LOSSES}
    return weights | ({"reward": 0.0} if stage == "explore" else {})


def real_steps(model: RSSM, batch: Batch, states: State) -> Steps:
    """The batch's steps t -> t + 1, flattened, for the explorer."""
    features = jax.vmap(jax.vmap(model.features))(states)
    if model.encoder.observation.images:
        seen = features
    else:
        keys = model.encoder.observation.vector_keys
        seen = jnp.concatenate([symlog(batch[name]) for name in keys], -1)

    def flat(x: Array) -> Array:
        return x.reshape(-1, *x.shape[2:])

    return Steps(
        features=flat(features[:, :-1]),
        action=flat(batch["action"][:, :-1]),
        following=flat(features[:, 1:]),
        change=flat(seen[:, 1:] - seen[:, :-1]),
        valid=flat(~batch["is_first"][:, 1:]),
    )


def _change_size(model: RSSM) -> int:
    """Length of `Steps.change`: the observed vector, or the features where there are images."""
    if model.encoder.observation.images:
        return features_size(model.settings)
    return sum(net.output.bias.shape[0] for net in model.decoder.vectors.values())


def _unit(behaviour: BehaviourSettings) -> float:
    return 1.0 - behaviour.discount if behaviour.reward_unit == "1-discount" else 1.0


def _statistics(explorer: Disagreement | RandomNetworkDistillation) -> tuple[PyTree, PyTree]:
    return explorer.size, explorer.moments

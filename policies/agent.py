"""Agents of all families by one name: how they are built, act, and learn from a batch."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from policies.components import (
    COMPONENTS,
    Agent,
    LossAux,
    component_key,
    objective_of,
    task_objective,
)
from policies.dreamer import build_dreamer
from policies.goals import GoalObjective
from policies.muzero import build_muzero_agent
from policies.objectives import Objective
from policies.plan import Planner, PlannerMemory
from policies.planners import NoPlanner
from policies.q_learning import QAgent, build_q_agent
from policies.settings import (
    AgentSettings,
    BehaviourSettings,
    CuriositySettings,
    LearningSettings,
    PlanningSettings,
)
from policies.simulated import build_simulator_agent
from tasks.contract import TaskSpec
from world_models.contract import Batch, State
from world_models.settings import ModelSettings, MuZeroSettings

__all__ = [
    "COMPONENTS",
    "Agent",
    "LossAux",
    "Memory",
    "act",
    "agent_loss",
    "build_agent",
    "component_key",
    "fresh_memory",
    "objective_of",
    "settle",
    "task_objective",
]


def build_agent(
    spec: TaskSpec,
    agent: AgentSettings,
    model: ModelSettings,
    behaviour: BehaviourSettings,
    curiosity: CuriositySettings,
    muzero: MuZeroSettings = MuZeroSettings(),
    learning: LearningSettings = LearningSettings(),
    planning: PlanningSettings = PlanningSettings(),
    *,
    seed: int,
    stage: str,
    curious: bool,
) -> Agent:
    """A fresh agent for a task; `curious` ones have an explorer (if there is a curiosity)."""
    keys = {name: component_key(seed, stage, name) for name in COMPONENTS}
    shared = (spec, agent, model, behaviour, curiosity)
    match agent.world_model:
        case "rssm":
            return build_dreamer(*shared, planning, keys, curious=curious)
        case "muzero":
            return build_muzero_agent(*shared, muzero, learning, planning, keys, curious=curious)
        case "simulator":
            parts = (muzero, learning, planning, keys)
            return build_simulator_agent(*shared, *parts, stage=stage, curious=curious)
        case "none":
            return build_q_agent(*shared, muzero, learning, planning.search, keys, curious=curious)


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
    mask: Bool[Array, "n a"] | None = None,
    goal: Float[Array, " f"] | None = None,
) -> tuple[Float[Array, "n a"], Memory]:
    """Actions [N, A] for a batch of observations, and the memory after them. Consumes `key`.

    A planner wants what the agent learns to want at that `bonus_weight` (see `objective_of`), or to
    come to the `goal` whose features are given. Choices that `mask` rules out are not taken.
    """
    action, memory, _ = decide(
        agent,
        memory,
        observation,
        is_first,
        key,
        planner=planner,
        greedy=greedy,
        bonus_weight=bonus_weight,
        mask=mask,
        goal=goal,
    )
    return action, memory


def decide(
    agent: Agent,
    memory: Memory,
    observation: Mapping[str, Array],
    is_first: Bool[Array, " n"],
    key: PRNGKeyArray,
    *,
    planner: Planner,
    greedy: bool,
    bonus_weight: float | Float[Array, ""] | None = 0.0,
    mask: Bool[Array, "n a"] | None = None,
    goal: Float[Array, " f"] | None = None,
) -> tuple[Float[Array, "n a"], Memory, Float[Array, " n"]]:
    """As `act`, and with it the value [N] that who acted expects from here on, in the agent's unit:
    the plan's, or the critic's where nobody planned."""
    model = agent.model
    number = is_first.shape[0]
    observe_key, plan_key = jax.random.split(key)
    noise = model.noise(observe_key, (number,))
    state = jax.vmap(model.observe)(memory.state, memory.action, observation, is_first, noise)
    roots = jax.vmap(model.root)(state)
    objective: Objective = objective_of(agent, bonus_weight)
    if goal is not None:
        objective = GoalObjective(goal, agent.behaviour.discount)

    def plan(
        one: State,
        first: Array,
        remembered: PlannerMemory,
        plan_key: PRNGKeyArray,
        allowed: Array | None,
    ) -> tuple[Array, PlannerMemory, Array]:
        fresh = planner.initial(agent.actor)
        begun = jax.tree.map(lambda new, old: jnp.where(first, new, old), fresh, remembered)
        arguments = (model, agent.actor, objective, one, begun, plan_key)
        made = planner(*arguments, greedy=greedy, mask=allowed)
        value = made.value
        if value is None:
            value = _judged(agent, model.features(one), made.action)
        return made.action, made.memory, value

    keys = jax.random.split(plan_key, number)
    action, remembered, value = jax.vmap(plan)(roots, is_first, memory.plan, keys, mask)
    return action, Memory(state, action, remembered), value


def _judged(
    agent: Agent, features: Float[Array, " f"], action: Float[Array, " a"]
) -> Float[Array, ""]:
    """What the critic thinks of a state, or of the action in it where values are of both."""
    asked = (features, action) if isinstance(agent, QAgent) else (features,)
    return agent.critic(*asked).mean()


def agent_loss(
    agent: Agent,
    batch: Batch,
    key: PRNGKeyArray,
    *,
    stage: str,
    dtype: jnp.dtype,
    bonus_weight: float | Float[Array, ""] = 0.0,
) -> tuple[Float[Array, ""], LossAux]:
    """Sum of all weighted losses of a batch [B, T] (see `Agent.loss`). Consumes `key`."""
    return agent.loss(batch, key, stage=stage, dtype=dtype, bonus_weight=bonus_weight)


def settle(agent: Agent, aux: LossAux) -> Agent:
    """Running parts after an update: slow copies, the return range, the explorer's moments."""
    return agent.settle(aux)

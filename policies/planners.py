"""Who chooses the action: the policy itself, or a planner that looks ahead with the model.

Every planner is used alike, set apart for collecting, learning and evaluating.
"""

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from policies.actor import Actor, masked
from policies.cem import CEM
from policies.mppi import MPPI
from policies.objectives import Objective
from policies.plan import Plan, Planner, PlannerMemory, Tried
from policies.search import search
from policies.settings import Planner as PlannerName
from policies.settings import PlanningSettings, SearchSettings
from world_models.contract import State, WorldModel


class NoPlanner(eqx.Module):
    """The policy's own action: its mode when `greedy`, a sample otherwise.

    It may act in the place of a planner that is `waiting` for its turn, whose memory it keeps.
    """

    waiting: Planner | None = None

    def initial(self, actor: Actor) -> PlannerMemory:
        return self.waiting.initial(actor) if self.waiting else ()

    def __call__(
        self,
        model: WorldModel,
        actor: Actor,
        objective: Objective,
        state: State,
        memory: PlannerMemory,
        key: PRNGKeyArray,
        *,
        greedy: bool,
        mask: Bool[Array, " a"] | None = None,
    ) -> Plan:
        distribution = masked(actor(model.features(state)), mask)
        action = distribution.mode() if greedy else distribution.sample(actor.noise(key))
        return Plan(action, memory)


class TreeSearch(eqx.Module):
    """The planner `mcts`: one tree for the state; mapped over states they grow side by side."""

    settings: SearchSettings = eqx.field(static=True)
    temperature: Float[Array, ""] | None = None  # in the place of the settings' one

    def initial(self, actor: Actor) -> PlannerMemory:
        return ()

    def __call__(
        self,
        model: WorldModel,
        actor: Actor,
        objective: Objective,
        state: State,
        memory: PlannerMemory,
        key: PRNGKeyArray,
        *,
        greedy: bool,
        mask: Bool[Array, " a"] | None = None,
    ) -> Plan:
        states = jax.tree.map(lambda x: x[None], state)
        invalid = None if mask is None else ~mask[None]
        arguments = (model, actor, objective, states, key, self.settings)
        heat = self.temperature
        found = search(*arguments, greedy=greedy, invalid=invalid, temperature=heat)
        tried = Tried(found.actions[0], found.weights[0])
        return Plan(found.action[0], memory, found.value[0], tried)


def build_planner(name: PlannerName, settings: PlanningSettings) -> Planner:
    """The planner of a role."""
    match name:
        case "none":
            return NoPlanner()
        case "cem":
            return CEM(settings)
        case "mppi":
            return MPPI(settings)
        case "mcts":
            return TreeSearch(settings.search)

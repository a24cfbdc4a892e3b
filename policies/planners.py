"""Who chooses the action: the policy itself, or a planner that looks ahead with the model.

Every planner is used alike, set apart for collecting, learning and evaluating.
"""

import equinox as eqx
from jaxtyping import PRNGKeyArray

from policies.actor import Actor
from policies.cem import CEM
from policies.mppi import MPPI
from policies.objectives import Objective
from policies.plan import Plan, Planner, PlannerMemory
from policies.settings import Planner as PlannerName
from policies.settings import PlanningSettings
from world_models.contract import State, WorldModel

AVAILABLE: tuple[PlannerName, ...] = ("none", "cem", "mppi")


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
    ) -> Plan:
        distribution = actor(model.features(state))
        action = distribution.mode() if greedy else distribution.sample(actor.noise(key))
        return Plan(action, memory)


def build_planner(name: PlannerName, settings: PlanningSettings) -> Planner:
    """The planner of a role.

    Raises:
        ValueError: this version has no planner of that name.
    """
    match name:
        case "none":
            return NoPlanner()
        case "cem":
            return CEM(settings)
        case "mppi":
            return MPPI(settings)
        case _:
            raise ValueError(f"planner {name!r} is not available; this version has {AVAILABLE}")

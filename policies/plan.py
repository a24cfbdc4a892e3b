"""What a planner is: who asks for an action gets a plan, and what the next plan may begin from.

It knows the model through `imagine`, `features` and `noise`, the behaviour through its action
distribution, and what it is to want through an `Objective`.
"""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from policies.actor import Actor
from policies.objectives import Objective
from world_models.contract import State, WorldModel

PlannerMemory = PyTree[Array]


class Tried(NamedTuple):
    """Actions that a planner tried at first, and how much it makes of each; it adds up to 1. A
    policy may learn it (`policies.distillation`)."""

    actions: Float[Array, "*b k a"]
    weights: Float[Array, "*b k"]


class Plan(NamedTuple):
    """The action taken, what the next step's planning may begin from, the `value` that the planner
    expects from here on, in the objective's unit, and what it `tried` (None: it did not plan)."""

    action: Float[Array, " a"]
    memory: PlannerMemory
    value: Float[Array, ""] | None = None
    tried: Tried | None = None


@runtime_checkable
class Planner(Protocol):
    """Plans for one unbatched state; the caller maps over environments."""

    def initial(self, actor: Actor) -> PlannerMemory:
        """Memory before the first step of an episode."""
        ...

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
        """The plan from a state; without exploring noise when `greedy`. Consumes `key`.

        A choice that `mask` rules out is not taken. It holds for the present step alone: of states
        that are only imagined no mask is known, and there a model has to tell that such a choice
        does nothing.
        """
        ...

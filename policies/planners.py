"""Who chooses the action: the policy itself, or a planner that looks ahead with the model.

Every planner is used alike, set apart for collecting, learning and evaluating. It knows the model
through `imagine` and `features`, the behaviour through its action distribution, and what it is to
want through an `Objective`.
"""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, PRNGKeyArray

from policies.actor import Actor
from policies.objectives import Objective
from policies.settings import Planner as PlannerName
from world_models.contract import State, WorldModel

AVAILABLE: tuple[PlannerName, ...] = ("none",)


class Plan(NamedTuple):
    """The action taken, and what the policy is to be trained towards (None: nothing new)."""

    action: Float[Array, " a"]
    policy_target: Float[Array, "..."] | None = None
    value_target: Float[Array, ""] | None = None


@runtime_checkable
class Planner(Protocol):
    """Plans for one unbatched state; the caller maps over environments. Consumes `key`."""

    def __call__(
        self,
        model: WorldModel,
        actor: Actor,
        objective: Objective | None,
        state: State,
        key: PRNGKeyArray,
        *,
        greedy: bool,
    ) -> Plan: ...


def no_planner(
    model: WorldModel,
    actor: Actor,
    objective: Objective | None,
    state: State,
    key: PRNGKeyArray,
    *,
    greedy: bool,
) -> Plan:
    """The policy's own action: its mode when `greedy`, a sample otherwise."""
    distribution = actor(model.features(state))
    return Plan(distribution.mode() if greedy else distribution.sample(actor.noise(key)))


def build_planner(name: PlannerName) -> Planner:
    """The planner of a role.

    Raises:
        ValueError: this version has no planner of that name.
    """
    if name not in AVAILABLE:
        raise ValueError(f"planner {name!r} is not available; this version has {AVAILABLE}")
    return no_planner

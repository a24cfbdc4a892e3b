"""What an actor or a planner is to want: the task's reward, or curiosity.

Both read features only, so any planner runs on any world model.
"""

from typing import Protocol, runtime_checkable

import equinox as eqx
from jaxtyping import Array, Float

from policies.critic import Critic
from policies.curiosity import Curiosity
from world_models.contract import WorldModel


@runtime_checkable
class Objective(Protocol):
    """Reward of a step, discount after it, value at the end; all of one unbatched step."""

    def reward(
        self,
        features: Float[Array, " f"],
        action: Float[Array, " a"],
        following: Float[Array, " f"],
    ) -> Float[Array, ""]: ...
    def discount(self, following: Float[Array, " f"]) -> Float[Array, ""]: ...
    def value(self, following: Float[Array, " f"]) -> Float[Array, ""]: ...


class TaskObjective(eqx.Module):
    """The task's own reward, as the model predicts it, times `unit`."""

    model: WorldModel
    critic: Critic
    discount_factor: float = eqx.field(static=True)
    unit: float = eqx.field(static=True)

    def reward(
        self,
        features: Float[Array, " f"],
        action: Float[Array, " a"],
        following: Float[Array, " f"],
    ) -> Float[Array, ""]:
        return self.unit * self.model.reward(following)

    def discount(self, following: Float[Array, " f"]) -> Float[Array, ""]:
        return self.discount_factor * self.model.continuation(following)

    def value(self, following: Float[Array, " f"]) -> Float[Array, ""]:
        return self.critic(following).mean()


class CuriosityObjective(eqx.Module):
    """The exploration bonus of a step, times `unit`; no task reward enters."""

    model: WorldModel
    critic: Critic
    curiosity: Curiosity
    discount_factor: float = eqx.field(static=True)
    unit: float = eqx.field(static=True)

    def reward(
        self,
        features: Float[Array, " f"],
        action: Float[Array, " a"],
        following: Float[Array, " f"],
    ) -> Float[Array, ""]:
        return self.unit * self.curiosity.bonus(features, action, following)

    def discount(self, following: Float[Array, " f"]) -> Float[Array, ""]:
        return self.discount_factor * self.model.continuation(following)

    def value(self, following: Float[Array, " f"]) -> Float[Array, ""]:
        return self.critic(following).mean()

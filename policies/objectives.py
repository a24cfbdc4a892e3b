"""What an actor or a planner is to want: the task's reward, curiosity, or the sum of both.

Both read features only, so any planner runs on any world model.
"""

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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


@runtime_checkable
class Value(Protocol):
    """A value head: features to a distribution over what is still to come, of which it has the
    mean."""

    def __call__(self, features: Float[Array, " f"]) -> Any: ...


class _Discounted(eqx.Module):
    """Discount and value, which task and curiosity share."""

    model: WorldModel
    critic: Value
    discount_factor: float = eqx.field(static=True)
    unit: float = eqx.field(static=True)

    def discount(self, following: Float[Array, " f"]) -> Float[Array, ""]:
        return self.discount_factor * self.model.continuation(following)

    def value(self, following: Float[Array, " f"]) -> Float[Array, ""]:
        return self.critic(following).mean()


class TaskObjective(_Discounted):
    """The task's own reward, as the model predicts it, times `unit`."""

    def reward(
        self,
        features: Float[Array, " f"],
        action: Float[Array, " a"],
        following: Float[Array, " f"],
    ) -> Float[Array, ""]:
        return self.unit * self.model.reward(following)


class CuriosityObjective(_Discounted):
    """The exploration bonus of a step, times `unit`; no task reward enters."""

    curiosity: Curiosity

    def reward(
        self,
        features: Float[Array, " f"],
        action: Float[Array, " a"],
        following: Float[Array, " f"],
    ) -> Float[Array, ""]:
        return self.unit * self.curiosity.bonus(features, action, following)


class CuriousTaskObjective(_Discounted):
    """The task's reward and `weight` times the bonus, all times `unit`.

    Before any reward is found the bonus alone speaks, so that a policy goes on exploring instead of
    fading into noise; once rewards are found they outweigh it. A bonus that has faded to nothing is
    not computed.
    """

    curiosity: Curiosity
    weight: Float[Array, ""]

    def reward(
        self,
        features: Float[Array, " f"],
        action: Float[Array, " a"],
        following: Float[Array, " f"],
    ) -> Float[Array, ""]:
        bonus = jax.lax.cond(
            self.weight > 0,
            lambda *step: self.curiosity.bonus(*step),
            lambda *_: jnp.zeros(()),
            *(features, action, following),
        )
        return self.unit * (self.model.reward(following) + self.weight * bonus)

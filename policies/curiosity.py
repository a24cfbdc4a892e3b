"""Exploration bonuses behind one hook: a loss on real steps, a bonus for any step.

Each curiosity is the whole `explorer` component, its running statistics included. A new one is a
class with these three methods and a line in `build_curiosity`.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from policies.settings import AgentSettings, CuriositySettings
from world_models.ensemble import Ensemble
from world_models.layers import MLP
from world_models.running import Moments, Running

TARGET_LIMIT = 30.0  # deviations


class Steps(NamedTuple):
    """Real steps, flattened over batch and time; `valid` is false across episode boundaries."""

    features: Float[Array, "n f"]
    action: Float[Array, "n a"]
    following: Float[Array, "n f"]
    change: Float[Array, "n d"]  # what the step changed in the observation
    valid: Bool[Array, " n"]


@runtime_checkable
class Curiosity(Protocol):
    """Loss, running update and bonus of an exploration method."""

    def loss(self, steps: Steps) -> Float[Array, ""]:
        """Training loss over real steps."""
        ...

    def follow(self, steps: Steps) -> "Curiosity":
        """The same with running statistics updated on the batch."""
        ...

    def bonus(
        self,
        features: Float[Array, " f"],
        action: Float[Array, " a"],
        following: Float[Array, " f"],
    ) -> Float[Array, ""]:
        """Bonus of one step, divided by its running mean."""
        ...


class Disagreement(eqx.Module):
    """Variance across one-step predictors of the observation's change (2005.05960 section 3).

    Targets are divided by their running deviation per dimension, so that no sensor's unit decides
    what is interesting.
    """

    ensemble: Ensemble
    moments: Running[Moments]
    size: Running[Moments]

    def __init__(
        self,
        features: int,
        actions: int,
        changes: int,
        settings: CuriositySettings,
        *,
        key: PRNGKeyArray,
    ):
        self.ensemble = Ensemble(
            settings.heads,
            features + actions,
            changes,
            width=settings.width,
            layers=settings.layers,
            key=key,
        )
        self.moments = Running(Moments(changes))
        self.size = Running(Moments(1))

    def _predict(self, features: Array, action: Array) -> Float[Array, "heads d"]:
        return self.ensemble(jnp.concatenate([features, action.astype(features.dtype)]))

    def loss(self, steps: Steps) -> Float[Array, ""]:
        moments = self.moments.value
        target = (steps.change - moments.centre()) / moments.deviation()
        # What never moved has no deviation yet: its first change must not blow up the loss.
        target = jnp.clip(target, -TARGET_LIMIT, TARGET_LIMIT)
        predicted = jax.vmap(self._predict)(steps.features, steps.action).astype(jnp.float32)
        error = jnp.square(predicted - target[:, None]).mean(-1).sum(-1)
        return (error * steps.valid).sum() / jnp.maximum(steps.valid.sum(), 1)

    def variance(self, features: Array, action: Array) -> Float[Array, ""]:
        """Raw disagreement: variance across heads, mean over dimensions."""
        return self._predict(features, action).astype(jnp.float32).var(0).mean()

    def follow(self, steps: Steps) -> "Disagreement":
        raw = jax.vmap(self.variance)(steps.features, steps.action)
        new = (
            self.moments.value.update(steps.change, steps.valid),
            self.size.value.update(raw[:, None], steps.valid),
        )
        return eqx.tree_at(lambda d: (d.moments.value, d.size.value), self, new)

    def bonus(self, features: Array, action: Array, following: Array) -> Float[Array, ""]:
        return self.variance(features, action) / _typical(self.size.value)


class RandomNetworkDistillation(eqx.Module):
    """Error in predicting a fixed random network of the state arrived in (1810.12894)."""

    predictor: MLP
    target: Running[MLP]
    moments: Running[Moments]
    size: Running[Moments]

    def __init__(self, features: int, settings: CuriositySettings, *, key: PRNGKeyArray):
        keys = jax.random.split(key)
        sizes = {"width": settings.width, "layers": settings.layers + 1}
        self.predictor = MLP(features, settings.width, **sizes, key=keys[0])
        self.target = Running(MLP(features, settings.width, **sizes, key=keys[1]))
        self.moments = Running(Moments(features))
        self.size = Running(Moments(1))

    def error(self, following: Float[Array, " f"]) -> Float[Array, ""]:
        """Mean squared distillation error at a state."""
        moments = self.moments.value
        x = jnp.clip((following - moments.centre()) / moments.deviation(), -5.0, 5.0)
        target = jax.lax.stop_gradient(self.target.value(x))
        return jnp.square(self.predictor(x).astype(jnp.float32) - target).mean()

    def loss(self, steps: Steps) -> Float[Array, ""]:
        error = jax.vmap(self.error)(steps.following)
        return (error * steps.valid).sum() / jnp.maximum(steps.valid.sum(), 1)

    def follow(self, steps: Steps) -> "RandomNetworkDistillation":
        raw = jax.vmap(self.error)(steps.following)
        new = (
            self.moments.value.update(steps.following, steps.valid),
            self.size.value.update(raw[:, None], steps.valid),
        )
        return eqx.tree_at(lambda d: (d.moments.value, d.size.value), self, new)

    def bonus(self, features: Array, action: Array, following: Array) -> Float[Array, ""]:
        return self.error(following) / _typical(self.size.value)


def _typical(size: Moments) -> Float[Array, ""]:
    """Running mean of a bonus, the unit in which it is paid out; 1 before the first update."""
    return jnp.where(size.weight > 0, jnp.maximum(size.centre()[0], 1e-8), 1.0)


def build_curiosity(
    agent: AgentSettings,
    settings: CuriositySettings,
    *,
    features: int,
    actions: int,
    changes: int,
    key: PRNGKeyArray,
) -> Disagreement | RandomNetworkDistillation | None:
    """The configured curiosity; None explores at random."""
    match agent.curiosity:
        case "disagreement":
            return Disagreement(features, actions, changes, settings, key=key)
        case "rnd":
            return RandomNetworkDistillation(features, settings, key=key)
        case "none":
            return None

"""What a sampling planner draws its action sequences from, and how it learns from the best.

A proposal has a distribution for every step of the horizon: a normal for continuous actions, a
categorical for choices. Between env steps it is remembered by its `centre` and moved on a step.
"""

from typing import Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from policies.actor import NEVER, UNIMIX
from policies.settings import PlanningSettings
from tasks.contract import ActionSpec

P = TypeVar("P", bound="Proposal")

RECALLED = 0.5  # share of a remembered plan of choices; the rest is uniform, to be open again


@runtime_checkable
class Proposal(Protocol):
    """Distributions over the actions of each step. Noise is drawn apart, in one call."""

    def noise(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "*s h a"]:
        """What `shape` sequences are drawn with. Consumes `key`."""
        ...

    def sample(self, noise: Float[Array, "*s h a"]) -> Float[Array, "*s h a"]:
        """Action sequences within the bounds."""
        ...

    def refit(
        self: P, actions: Float[Array, "k h a"], weights: Float[Array, " k"], momentum: float
    ) -> P:
        """The same fitted to the best sequences, whose `weights` add up to 1."""
        ...

    def mode(self) -> Float[Array, "h a"]:
        """The plan in one sequence."""
        ...

    def centre(self) -> Float[Array, "h a"]:
        """What is remembered of it until the next env step."""
        ...


class NormalProposal(eqx.Module):
    """Independent normals, drawn with noise that an AR(1) process correlates over the horizon:
    neighbouring actions agree, so that a trajectory gets somewhere (iCEM, arXiv 2008.06389)."""

    mean: Float[Array, "h a"]
    deviation: Float[Array, "h a"]
    least: float = eqx.field(static=True)
    most: float = eqx.field(static=True)
    correlation: float = eqx.field(static=True)

    def noise(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "*s h a"]:
        white = jax.random.normal(key, (*shape, *self.mean.shape))
        if self.correlation == 0:
            return white
        return jnp.einsum("ts,...sa->...ta", _correlating(len(self.mean), self.correlation), white)

    def sample(self, noise: Float[Array, "*s h a"]) -> Float[Array, "*s h a"]:
        return jnp.clip(self.mean + self.deviation * noise, -1.0, 1.0)

    def refit(
        self, actions: Float[Array, "k h a"], weights: Float[Array, " k"], momentum: float
    ) -> "NormalProposal":
        mean = jnp.einsum("k,kha->ha", weights, actions)
        variance = jnp.einsum("k,kha->ha", weights, jnp.square(actions - mean))
        deviation = jnp.clip(jnp.sqrt(variance), self.least, self.most)
        mean = momentum * self.mean + (1 - momentum) * mean
        return eqx.tree_at(lambda p: (p.mean, p.deviation), self, (mean, deviation))

    def mode(self) -> Float[Array, "h a"]:
        return self.mean

    def centre(self) -> Float[Array, "h a"]:
        return self.mean


class ChoiceProposal(eqx.Module):
    """Independent categoricals; a uniform share keeps every choice within reach, but for those that
    are not `allowed` (None: all are)."""

    probabilities: Float[Array, "h a"]
    allowed: Bool[Array, "h a"] | None = None

    def noise(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "*s h a"]:
        return jax.random.gumbel(key, (*shape, *self.probabilities.shape))

    def sample(self, noise: Float[Array, "*s h a"]) -> Float[Array, "*s h a"]:
        size = self.probabilities.shape[-1]
        open_ = (1 - UNIMIX) * self.probabilities + UNIMIX / size
        return jax.nn.one_hot(jnp.argmax(self._kept(jnp.log(open_)) + noise, -1), size)

    def refit(
        self, actions: Float[Array, "k h a"], weights: Float[Array, " k"], momentum: float
    ) -> "ChoiceProposal":
        frequencies = jnp.einsum("k,kha->ha", weights, actions)
        mixed = momentum * self.probabilities + (1 - momentum) * frequencies
        return ChoiceProposal(mixed, self.allowed)

    def mode(self) -> Float[Array, "h a"]:
        best = jnp.argmax(self._kept(self.probabilities), -1)
        return jax.nn.one_hot(best, self.probabilities.shape[-1])

    def centre(self) -> Float[Array, "h a"]:
        return self.probabilities

    def _kept(self, scores: Float[Array, "h a"]) -> Float[Array, "h a"]:
        return scores if self.allowed is None else jnp.where(self.allowed, scores, NEVER)


def blank(action: ActionSpec, horizon: int) -> Float[Array, "h a"]:
    """The centre before anything is known: the middle of the bounds, or any choice alike."""
    value = 1.0 / action.size if action.kind == "discrete" else 0.0
    return jnp.full((horizon, action.size), value, jnp.float32)


def resume(
    action: ActionSpec,
    settings: PlanningSettings,
    remembered: Float[Array, "h a"] | None,
    mask: Bool[Array, " a"] | None = None,
) -> NormalProposal | ChoiceProposal:
    """A wide proposal about what was planned for these steps an env step ago, or about nothing.

    `mask` are the choices allowed at the first step.
    """
    centre = blank(action, settings.horizon)
    if remembered is not None:
        share = RECALLED if action.kind == "discrete" else 1.0
        moved = jnp.concatenate([remembered[1:], centre[-1:]])
        centre = share * moved + (1 - share) * centre
    if action.kind == "discrete":
        allowed = None if mask is None else jnp.ones(centre.shape, bool).at[0].set(mask)
        return ChoiceProposal(centre, allowed)
    wide = jnp.full_like(centre, settings.std_from)
    return NormalProposal(
        centre, wide, settings.std_to, settings.std_from, settings.noise_correlation
    )


def _correlating(length: int, correlation: float) -> Float[np.ndarray, "h h"]:
    """The matrix that turns white noise into a stationary AR(1) process of unit variance."""
    later, sooner = np.indices((length, length))
    fresh = np.where(sooner == 0, 1.0, np.sqrt(1 - correlation**2))
    lag = np.maximum(later - sooner, 0)
    return (np.where(later >= sooner, correlation**lag, 0.0) * fresh).astype(np.float32)

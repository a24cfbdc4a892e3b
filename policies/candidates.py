"""The actions that a search chooses from at one state, and how likely the policy finds each.

Where actions are choices, all of them are proposed, with the policy's log-probabilities. Where they
are numbers (Sampled MuZero, arXiv 2104.06303; EfficientZero V2, 2403.00564), K are drawn: the
policy's mean, then actions of the policy, the rest of the same normal at `widening` times its
deviation. A search over a sample stands for one over all actions if the prior of each sampled
action is pi / beta, beta being what it was drawn from (2104.06303 eq. 9): a wide action was drawn
more often than the policy would have, and counts less.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from policies.actor import ActionDistribution, Actor, ClippedNormal
from policies.settings import SearchSettings

LEAST = 1e-30  # a chance whose logarithm is still a number


class Candidates(NamedTuple):
    """`actions` [K, A] and the `prior` logits [K] of a search over them."""

    actions: Float[Array, "*b k a"]
    prior: Float[Array, "*b k"]


def number(actor: Actor, settings: SearchSettings) -> int:
    """How many actions are proposed: every choice, or the K of the settings."""
    return actor.action.size if actor.action.kind == "discrete" else settings.actions


def draw(
    actor: Actor, settings: SearchSettings, key: PRNGKeyArray, shape: tuple[int, ...] = ()
) -> Float[Array, "*s k a"]:
    """The random numbers of `shape` times K proposals; choices need none. Consumes `key`."""
    size = (*shape, number(actor, settings), actor.action.size)
    return jnp.zeros(size) if actor.action.kind == "discrete" else jax.random.normal(key, size)


def propose(
    policy: ActionDistribution, noise: Float[Array, "k a"], settings: SearchSettings
) -> Candidates:
    """Candidates at one state, from its policy."""
    if not isinstance(policy, ClippedNormal):
        choices = jnp.eye(noise.shape[0])
        return Candidates(choices, jax.vmap(policy.log_prob)(choices))
    wide = min(round(settings.wide_share * settings.actions), settings.actions - 1)
    deviation = (
        jnp.full((settings.actions, 1), 1.0).at[settings.actions - wide :].set(settings.widening)
    )
    noise = noise.at[0].set(0.0)  # the mean first
    actions = jnp.clip(policy.mean + deviation * policy.deviation * noise, -1.0, 1.0)
    of_policy = log_chance(policy, actions, 1.0)
    if not wide:
        return Candidates(actions, jnp.zeros(settings.actions))
    of_wide = log_chance(policy, actions, settings.widening)
    share = wide / settings.actions
    drawn = jnp.logaddexp(jnp.log1p(-share) + of_policy, jnp.log(share) + of_wide)
    return Candidates(actions, of_policy - drawn)


def log_chance(
    policy: ClippedNormal, actions: Float[Array, "k a"], widening: float
) -> Float[Array, " k"]:
    """Log-likelihood of clipped samples at `widening` times the deviation.

    Beyond the bounds lies a whole tail, of which all samples are clipped to the bound: there the
    tail's chance takes the place of a density. Ratios of two such likelihoods are exact.
    """
    deviation = widening * policy.deviation
    z = (actions - policy.mean) / deviation
    inside = -0.5 * jnp.square(z) - jnp.log(deviation) - 0.5 * jnp.log(2 * jnp.pi)
    tail = jnp.log(jnp.maximum(0.5 * jax.lax.erfc(jnp.abs(z) / jnp.sqrt(2.0)), LEAST))
    return jnp.where(jnp.abs(actions) >= 1.0, tail, inside).sum(-1)

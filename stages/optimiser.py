"""LaProp with adaptive gradient clipping, one learning rate per component (DreamerV3's choice)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from policies.agent import Agent
from stages.settings import TrainingSettings

WORLD_MODEL = ("encoder", "dynamics", "decoder", "reward_head")


def adaptive_clip(factor: float, floor: float = 1e-3) -> optax.GradientTransformation:
    """Each array's gradient is shortened to `factor` times that array's norm (2102.06171).

    `floor` stands in for the norm of arrays near zero, so that zero-initialised layers can move.
    """

    def update(
        updates: PyTree, state: PyTree, params: PyTree | None = None
    ) -> tuple[PyTree, PyTree]:
        def clip(gradient: Array, parameter: Array) -> Array:
            limit = factor * jnp.maximum(jnp.linalg.norm(parameter), floor)
            norm = jnp.linalg.norm(gradient)
            return gradient * jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-12))

        return jax.tree.map(clip, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


class LaPropState(NamedTuple):
    """Moments of LaProp: `square` of gradients, `momentum` of normalised gradients."""

    number: Int[Array, ""]  # of updates so far
    square: PyTree
    momentum: PyTree


def laprop(
    momentum: float = 0.9,
    square: float = 0.999,
    epsilon: float = 1e-20,
    epsilons: Mapping[str, float] | None = None,
) -> optax.GradientTransformation:
    """Gradients divided by their running size first, momentum second (2002.04839).

    Unlike Adam, a sudden large gradient cannot enter the momentum undivided. `epsilons` has other
    values of epsilon for leaves below a field of that name.
    """
    other = epsilons or {}

    def floor(path: tuple[Any, ...]) -> float:
        return other.get(getattr(path[0], "name", ""), epsilon) if path else epsilon

    def init(params: PyTree) -> LaPropState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return LaPropState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.zeros_like, params))

    def update(
        updates: PyTree, state: Any, params: PyTree | None = None
    ) -> tuple[PyTree, LaPropState]:
        number = state.number + 1
        squares = jax.tree.map(
            lambda s, g: square * s + (1 - square) * jnp.square(g), state.square, updates
        )
        square_bias = 1 - square**number
        moments = jax.tree_util.tree_map_with_path(
            lambda path, m, g, s: (
                momentum * m + (1 - momentum) * g / (jnp.sqrt(s / square_bias) + floor(path))
            ),
            state.momentum,
            updates,
            squares,
        )
        momentum_bias = 1 - momentum**number
        corrected = jax.tree.map(lambda m: m / momentum_bias, moments)
        return corrected, LaPropState(number, squares, moments)

    return optax.GradientTransformation(init, update)


def build_optimiser(settings: TrainingSettings) -> optax.GradientTransformation:
    """Clip, then LaProp; the learning rate is applied per component by `descend`.

    The actor's epsilon is larger: before any reward is found its only gradient is the entropy's,
    a hundred times smaller than a reward's, which divided by its own size moves the policy as far.
    This slows a policy's fading into a uniform one; a carried explorer is what stops it.
    """
    epsilons = {"actor": settings.actor_epsilon}
    return optax.chain(adaptive_clip(settings.gradient_clip), laprop(epsilons=epsilons))


def learning_rates(settings: TrainingSettings, explorer: float) -> dict[str, float]:
    """Learning rate of each component."""
    return dict.fromkeys(WORLD_MODEL, settings.model_learning_rate) | {
        "actor": settings.actor_learning_rate,
        "critic": settings.critic_learning_rate,
        "explorer": explorer,
    }


def descend(updates: Agent, rates: dict[str, float], warmup: Array) -> Agent:
    """Updates turned into steps downhill: minus learning rate times warm-up share."""
    return updates.replace(
        {
            name: jax.tree.map(lambda u, rate=rates[name]: -rate * warmup * u, part)
            for name, part in updates.components().items()
        }
    )

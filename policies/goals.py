"""A goal that is shown instead of paid for: planning towards an observation, without rewards.

The goal is what the model makes of its observation, held until the state has settled (as in LEXA,
arXiv 2110.09514); how far a state is from it is the Euclidean distance of their features, per
feature. LEXA's cosine was tried, too: it left more of the goals unreached (docs/results.md).
"""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from world_models.contract import State, WorldModel

SETTLED = 10  # steps for which the goal is held, so that the state forgets that it was a first one
SAMPLES = 16  # of its latents, averaged


def goal_features(
    model: WorldModel, observation: Mapping[str, Array], actions: int, key: PRNGKeyArray
) -> Float[Array, " f"]:
    """Mean features of having stood at the goal for a while. Consumes `key`."""
    idle = jnp.zeros(actions)

    def stand(noise: Array) -> Float[Array, " f"]:
        def step(state: State, row: tuple[Array, Array]) -> tuple[State, None]:
            first, chance = row
            return model.observe(state, idle, observation, first, chance), None

        first = jnp.arange(SETTLED) == 0
        state, _ = jax.lax.scan(step, model.initial(), (first, noise))
        return model.features(model.root(state))

    return jax.vmap(stand)(model.noise(key, (SAMPLES, SETTLED))).mean(0)


def distance(features: Float[Array, " f"], goal: Float[Array, " f"]) -> Float[Array, ""]:
    """Root of the mean squared difference."""
    return jnp.sqrt(jnp.square(features - goal).mean())


class GoalObjective(eqx.Module):
    """Being near the goal, soon and for good: every step costs its distance.

    At the end of a plan the state counts as if it were kept for ever, so a plan's return is minus
    the discounted mean of the distance.
    """

    goal: Float[Array, " f"]
    discount_factor: float = eqx.field(static=True)

    def reward(
        self,
        features: Float[Array, " f"],
        action: Float[Array, " a"],
        following: Float[Array, " f"],
    ) -> Float[Array, ""]:
        return -(1.0 - self.discount_factor) * distance(following, self.goal)

    def discount(self, following: Float[Array, " f"]) -> Float[Array, ""]:
        return jnp.asarray(self.discount_factor)

    def value(self, following: Float[Array, " f"]) -> Float[Array, ""]:
        return -distance(following, self.goal)

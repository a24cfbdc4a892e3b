"""The cross-entropy method: the next proposal is the plain mean and spread of the elites.

Rubinstein 1999; as a planner in learned models PlaNet, arXiv 1811.04551.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from policies.mpc import MPC


class CEM(MPC):
    """The planner `cem`."""

    def weigh(self, returns: Float[Array, " k"]) -> Float[Array, " k"]:
        """Every elite counts the same."""
        return jnp.full_like(returns, 1.0 / returns.shape[0])

"""Model-predictive path integrals: elites are weighed by the exponential of their returns.

Williams et al., arXiv 1509.01149; with elites and a policy's proposals TD-MPC, arXiv 2203.04955.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from policies.mpc import MPC


class MPPI(MPC):
    """The planner `mppi`."""

    def weigh(self, returns: Float[Array, " k"]) -> Float[Array, " k"]:
        """Softmax of the returns over `temperature` standard deviations of theirs.

        Their own deviation is the unit, since a return's depends on the task, the discount and on
        how sparse its rewards are.
        """
        spread = jnp.maximum(returns.std(), 1e-8)
        return jax.nn.softmax((returns - returns.max()) / (self.settings.temperature * spread))

"""The critic: expected lambda-returns as two-hot distributions, a slow copy, the returns' range."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from policies.settings import BehaviourSettings
from world_models.distributions import TwoHot
from world_models.layers import MLP
from world_models.running import Running


class ReturnRange(eqx.Module):
    """Running 5th and 95th percentile of returns, corrected for the start (2301.04104 eq. 7)."""

    low: Float[Array, ""]
    high: Float[Array, ""]
    weight: Float[Array, ""]

    def __init__(self) -> None:
        self.low = self.high = self.weight = jnp.zeros(())

    def update(self, returns: Float[Array, "..."], rate: float = 0.01) -> "ReturnRange":
        """Range after one more batch of returns."""
        low, high = jnp.percentile(returns, 5), jnp.percentile(returns, 95)

        def blend(old: Array, new: Array) -> Array:
            return (1 - rate) * old + rate * new

        new = (blend(self.low, low), blend(self.high, high), blend(self.weight, jnp.ones(())))
        return eqx.tree_at(lambda r: (r.low, r.high, r.weight), self, new)

    def scale(self, floor: float) -> Float[Array, ""]:
        """Divisor of returns: max(P95 - P5, floor)."""
        spread = (self.high - self.low) / jnp.maximum(self.weight, 1e-8)
        return jnp.maximum(spread, floor)


class Critic(eqx.Module):
    """Component `critic`: value head, its slow copy, the range of returns."""

    net: MLP
    reach: float = eqx.field(static=True)
    slow: Running[MLP]
    range: Running[ReturnRange]

    def __init__(self, features: int, settings: BehaviourSettings, *, key: PRNGKeyArray):
        self.net = MLP(
            features,
            settings.bins,
            width=settings.width,
            layers=settings.layers,
            output_scale=0.0,
            key=key,
        )
        self.reach = settings.bin_reach
        self.slow = Running(self.net)
        self.range = Running(ReturnRange())

    def __call__(self, features: Float[Array, " f"]) -> TwoHot:
        return TwoHot(self.net(features), self.reach)

    def slow_value(self, features: Float[Array, " f"]) -> Float[Array, ""]:
        """The slow copy's value."""
        return TwoHot(self.slow.value(features), self.reach).mean()

    def follow(self, decay: float) -> "Critic":
        """The slow copy moved towards the present head by 1 - decay."""
        slow = jax.tree.map(
            lambda old, new: decay * old + (1 - decay) * new if eqx.is_inexact_array(old) else old,
            self.slow.value,
            self.net,
        )
        return eqx.tree_at(lambda c: c.slow.value, self, slow)

"""The critic: expected lambda-returns as two-hot distributions, a slow copy, the returns' range."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from policies.settings import BehaviourSettings
from world_models.distributions import TwoHot
from world_models.ensemble import Ensemble
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


class LeastOf(eqx.Module):
    """What several critics think: each learns for itself, and the least value counts.

    Behaviour and planners seek out what a critic overestimates, which among several the least does
    not (clipped double Q, 1802.09477; as the terminal value of plans MRS.Q, 2601.21306).
    """

    each: TwoHot  # logits [*b, critics, bins]

    def mean(self) -> Float[Array, "*b"]:
        """The least of the expected values."""
        return self.each.mean().min(-1)

    def log_prob(self, target: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Log-likelihood of the target under all of them."""
        wide = jnp.broadcast_to(target[..., None], self.each.logits.shape[:-1])
        return self.each.log_prob(wide).sum(-1)


class Critic(eqx.Module):
    """Component `critic`: value head (several, if so set), its slow copy, the range of returns."""

    net: MLP | Ensemble
    reach: float = eqx.field(static=True)
    slow: Running[MLP | Ensemble]
    range: Running[ReturnRange]

    def __init__(self, features: int, settings: BehaviourSettings, *, key: PRNGKeyArray):
        sizes: dict[str, Any] = {
            "width": settings.width,
            "layers": settings.layers,
            "output_scale": 0.0,
        }
        if settings.critics == 1:
            self.net = MLP(features, settings.bins, **sizes, key=key)
        else:
            self.net = Ensemble(settings.critics, features, settings.bins, **sizes, key=key)
        self.reach = settings.bin_reach
        self.slow = Running(self.net)
        self.range = Running(ReturnRange())

    def __call__(self, features: Float[Array, " f"]) -> TwoHot | LeastOf:
        return self._read(self.net, features)

    def slow_value(self, features: Float[Array, " f"]) -> Float[Array, ""]:
        """The slow copy's value."""
        return self._read(self.slow.value, features).mean()

    def _read(self, net: MLP | Ensemble, features: Float[Array, " f"]) -> TwoHot | LeastOf:
        value = TwoHot(net(features), self.reach)
        return LeastOf(value) if isinstance(net, Ensemble) else value

    def follow(self, decay: float) -> "Critic":
        """The slow copy moved towards the present head by 1 - decay."""
        slow = jax.tree.map(
            lambda old, new: decay * old + (1 - decay) * new if eqx.is_inexact_array(old) else old,
            self.slow.value,
            self.net,
        )
        return eqx.tree_at(lambda c: c.slow.value, self, slow)

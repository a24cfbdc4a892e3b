"""The value head of agents that learn from real steps: two-hot on the value transform."""

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from policies.settings import BehaviourSettings
from world_models.distributions import RootTwoHot, begun_at_zero
from world_models.layers import MLP


class ValueHead(eqx.Module):
    """Inputs to a distribution over what is still to come; it starts at zero."""

    net: MLP
    reach: float = eqx.field(static=True)

    def __init__(self, inputs: int, settings: BehaviourSettings, *, key: PRNGKeyArray):
        sizes = {"width": settings.width, "layers": 1}
        net = MLP(inputs, settings.bins, **sizes, output_scale=0.0, key=key)
        self.net = begun_at_zero(net)
        self.reach = settings.bin_reach

    def __call__(self, features: Float[Array, " f"]) -> RootTwoHot:
        return RootTwoHot(self.net(features), self.reach)

"""The actor: features to a distribution over actions, continuous or discrete."""

from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from policies.settings import BehaviourSettings
from tasks.contract import ActionSpec
from world_models.distributions import categorical_entropy, mix_uniform, sample_one_hot
from world_models.layers import MLP

UNIMIX = 0.01  # uniform share of discrete policies (2301.04104)
NEVER = -1e9  # log-probability of a masked choice; finite, so that 0 times it is 0
RESPONSIVE = 2.0  # raw outputs beyond it hardly move the mean or the deviation any more


@runtime_checkable
class ActionDistribution(Protocol):
    """A distribution over one action vector: numbers in [-1, 1], or a one-hot choice.

    `sample` takes noise from `Actor.noise`.
    """

    def sample(self, noise: Float[Array, "*b a"]) -> Float[Array, "*b a"]: ...
    def mode(self) -> Float[Array, "*b a"]: ...
    def log_prob(self, action: Float[Array, "*b a"]) -> Float[Array, "*b"]: ...
    def entropy(self) -> Float[Array, "*b"]: ...
    def strain(self) -> Float[Array, "*b"]: ...


class ClippedNormal(eqx.Module):
    """Normal with mean in (-1, 1); samples are clipped to [-1, 1], gradients pass straight through.

    `log_prob` is the unclipped normal's, taken of the clipped action: exact inside the bounds, and
    the usual approximation on them.

    `raw` is what mean and deviation were squashed from. Far out, where squashing is flat, a policy
    no longer answers to any gradient; `strain` is the squared way beyond the responsive range.
    """

    mean: Float[Array, "*b a"]
    deviation: Float[Array, "*b a"]
    raw: Float[Array, "*b a2"]

    def sample(self, noise: Float[Array, "*b a"]) -> Float[Array, "*b a"]:
        raw = self.mean + self.deviation * noise
        return raw + jax.lax.stop_gradient(jnp.clip(raw, -1.0, 1.0) - raw)

    def mode(self) -> Float[Array, "*b a"]:
        return self.mean

    def log_prob(self, action: Float[Array, "*b a"]) -> Float[Array, "*b"]:
        z = (action - self.mean) / self.deviation
        density = -0.5 * jnp.square(z) - jnp.log(self.deviation) - 0.5 * jnp.log(2 * jnp.pi)
        return density.sum(-1)

    def entropy(self) -> Float[Array, "*b"]:
        return (jnp.log(self.deviation) + 0.5 * jnp.log(2 * jnp.pi * jnp.e)).sum(-1)

    def strain(self) -> Float[Array, "*b"]:
        return jnp.square(jax.nn.relu(jnp.abs(self.raw) - RESPONSIVE)).sum(-1)


class Choice(eqx.Module):
    """One of several choices as a one-hot vector; gradients pass straight through the sample."""

    log_probabilities: Float[Array, "*b a"]

    def sample(self, noise: Float[Array, "*b a"]) -> Float[Array, "*b a"]:
        return sample_one_hot(self.log_probabilities, noise)

    def mode(self) -> Float[Array, "*b a"]:
        best = jnp.argmax(self.log_probabilities, -1)
        return jax.nn.one_hot(best, self.log_probabilities.shape[-1])

    def log_prob(self, action: Float[Array, "*b a"]) -> Float[Array, "*b"]:
        return (self.log_probabilities * action).sum(-1)

    def entropy(self) -> Float[Array, "*b"]:
        return categorical_entropy(self.log_probabilities)

    def strain(self) -> Float[Array, "*b"]:
        """None: the uniform share keeps every choice within reach."""
        return jnp.zeros(self.log_probabilities.shape[:-1])


def masked(policy: ActionDistribution, mask: Bool[Array, "*b a"] | None) -> ActionDistribution:
    """The policy among the choices that `mask` allows (True); None allows all."""
    if mask is None:
        return policy
    assert isinstance(policy, Choice), "only choices are masked"
    kept = jnp.where(mask, policy.log_probabilities, NEVER)
    return Choice(kept - jax.nn.logsumexp(kept, -1, keepdims=True))


class Actor(eqx.Module):
    """Component `actor`: an MLP whose output parametrises the action distribution."""

    net: MLP
    action: ActionSpec = eqx.field(static=True)
    min_std: float = eqx.field(static=True)
    max_std: float = eqx.field(static=True)

    def __init__(
        self, features: int, action: ActionSpec, settings: BehaviourSettings, *, key: PRNGKeyArray
    ):
        outputs = action.size * (2 if action.kind == "continuous" else 1)
        self.net = MLP(
            features,
            outputs,
            width=settings.width,
            layers=settings.layers,
            output_scale=0.01,  # near-uniform at first
            key=key,
        )
        self.action = action
        self.min_std, self.max_std = settings.min_std, settings.max_std

    def noise(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "*s a"]:
        """What `shape` samples are drawn with: normal numbers, or Gumbel ones for choices."""
        draw = jax.random.gumbel if self.action.kind == "discrete" else jax.random.normal
        return draw(key, (*shape, self.action.size))

    def __call__(self, features: Float[Array, " f"]) -> ActionDistribution:
        x = self.net(features).astype(jnp.float32)
        if self.action.kind == "discrete":
            return Choice(mix_uniform(x, UNIMIX))
        mean, spread = jnp.split(x, 2, -1)
        # +2 starts the deviation near its upper end (2301.04104's bounded normal).
        spread = spread + 2.0
        deviation = self.min_std + (self.max_std - self.min_std) * jax.nn.sigmoid(spread)
        return ClippedNormal(jnp.tanh(mean), deviation, jnp.concatenate([mean, spread], -1))

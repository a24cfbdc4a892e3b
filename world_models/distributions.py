"""Distributions over rewards, values and latents, all in float32 whatever the compute precision."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from world_models.layers import MLP

SLOPE = 1e-3  # of the value transform's linear part, which makes it invertible far out


def symlog(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """sign(x) ln(1 + |x|): compresses large magnitudes, near identity at 0 (2301.04104 eq. 9)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Inverse of `symlog`."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))


def symexp_bins(number: int, reach: float) -> Float[Array, " bins"]:
    """Bin centres symexp(-reach ... reach), exactly symmetric about zero (2301.04104 section 3)."""
    half = symexp(jnp.linspace(-reach, 0.0, (number + 1) // 2))
    return jnp.concatenate([half, -half[: number // 2][::-1]])


class TwoHot(eqx.Module):
    """A real number as a categorical over fixed bins; targets are two-hot (2301.04104 eq. 10).

    The bins span symexp(-reach) to symexp(reach). The published reach of 20 puts the outermost at
    4.9e8, where a probability of 1e-10 still adds 0.05 to the mean: a head that has seen a few
    hundred updates then reads noise. A smaller reach is exact where rewards are known to be small.
    """

    logits: Float[Array, "*batch bins"]
    reach: float = eqx.field(static=True)

    def mean(self) -> Float[Array, "*batch"]:
        """Expected bin; what opposite bins share cancels first, so that symmetric logits give 0."""
        probabilities = jax.nn.softmax(self.logits.astype(jnp.float32))
        half = self.logits.shape[-1] // 2
        surplus = probabilities[..., -half:] - probabilities[..., :half][..., ::-1]
        return (surplus * symexp_bins(self.logits.shape[-1], self.reach)[-half:]).sum(-1)

    def log_prob(self, target: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """Log-likelihood of the two-hot encoding of `target`, clipped to the outermost bins."""
        encoded = two_hot(target, self.logits.shape[-1], self.reach)
        logits = self.logits.astype(jnp.float32)
        return (encoded * logits).sum(-1) - jax.nn.logsumexp(logits, -1)


def two_hot(x: Float[Array, "*batch"], number: int, reach: float) -> Float[Array, "*batch bins"]:
    """Weights on the two neighbouring bins whose weighted mean is `x`."""
    bins = symexp_bins(number, reach)
    x = jnp.clip(x.astype(jnp.float32), bins[0], bins[-1])
    low = jnp.clip((x[..., None] >= bins).sum(-1) - 1, 0, number - 2)
    place = low + (x - bins[low]) / (bins[low + 1] - bins[low])
    return jnp.maximum(0.0, 1.0 - jnp.abs(jnp.arange(number) - place[..., None]))


def value_transform(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """sign(x) (sqrt(|x| + 1) - 1) + 0.001 x: the scale on which values are binned (1805.11593)."""
    return jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + 1.0) - 1.0) + SLOPE * x


def value_inverse(y: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Inverse of `value_transform`."""
    root = (jnp.sqrt(1.0 + 4.0 * SLOPE * (jnp.abs(y) + 1.0 + SLOPE)) - 1.0) / (2.0 * SLOPE)
    return jnp.sign(y) * (jnp.square(root) - 1.0)


class RootTwoHot(eqx.Module):
    """A real number as a categorical over bins that are evenly spaced on the scale of
    `value_transform` (MuZero, 1911.08265 appendix F), between the same ends as `TwoHot`'s.

    A difference between two bins costs as much near zero as far out, and the mean is taken on the
    transformed scale, so that a little probability on far bins moves it less than `TwoHot`'s.
    """

    logits: Float[Array, "*batch bins"]
    reach: float = eqx.field(static=True)

    def mean(self) -> Float[Array, "*batch"]:
        """The expected bin, transformed back."""
        probabilities = jax.nn.softmax(self.logits.astype(jnp.float32))
        bins = jnp.linspace(-1.0, 1.0, self.logits.shape[-1])
        return value_inverse(self._limit() * (probabilities * bins).sum(-1))

    def log_prob(self, target: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """Log-likelihood of the two-hot encoding of `target`, clipped to the outermost bins."""
        number = self.logits.shape[-1]
        share = jnp.clip(value_transform(target.astype(jnp.float32)) / self._limit(), -1.0, 1.0)
        place = 0.5 * (share + 1.0) * (number - 1)
        encoded = jnp.maximum(0.0, 1.0 - jnp.abs(jnp.arange(number) - place[..., None]))
        logits = self.logits.astype(jnp.float32)
        return (encoded * logits).sum(-1) - jax.nn.logsumexp(logits, -1)

    def _limit(self) -> Float[Array, ""]:
        return value_transform(symexp(jnp.asarray(self.reach)))


ZERO = 5.0  # logit of the zero bin in heads that begin at zero


def begun_at_zero(net: MLP) -> MLP:
    """The head whose logits, zero before, are high in the middle bin, which is exactly zero.

    A uniform distribution has mean zero, too, but all that a head learns at first is then that most
    of its bins are never met: the same for every state, which draws their latents together.
    """
    middle = net.output.bias.shape[0] // 2
    return eqx.tree_at(lambda n: n.output.bias, net, net.output.bias.at[middle].set(ZERO))


def mix_uniform(logits: Float[Array, "*b c"], share: float) -> Float[Array, "*b c"]:
    """Log-probabilities of the softmax with `share` of a uniform mixed in (2301.04104, 3).

    Where there are fewer classes than latents, classes come first on the way, so that a CPU's
    vector instructions run along latents.
    """
    turn = logits.ndim > 1 and logits.shape[-2] > logits.shape[-1]
    axis = -2 if turn else -1
    logits = logits.swapaxes(-1, -2) if turn else logits
    mixed = jax.nn.log_softmax(logits.astype(jnp.float32), axis)
    if share > 0:
        mixed = jnp.log((1 - share) * jnp.exp(mixed) + share / logits.shape[axis])
    return mixed.swapaxes(-1, -2) if turn else mixed


def sample_one_hot(
    log_probabilities: Float[Array, "*b c"], gumbel: Float[Array, "*b c"]
) -> Float[Array, "*b c"]:
    """One-hot sample by standard Gumbel noise, with straight-through gradients."""
    index = jnp.argmax(log_probabilities + gumbel, -1)
    sample = jax.nn.one_hot(index, log_probabilities.shape[-1])
    probabilities = jnp.exp(log_probabilities)
    return sample + probabilities - jax.lax.stop_gradient(probabilities)


def categorical_kl(
    left: Float[Array, "*b latents c"], right: Float[Array, "*b latents c"]
) -> Float[Array, "*b"]:
    """KL(left || right) in nats of log-probabilities, summed over independent latents."""
    return (jnp.exp(left) * (left - right)).sum((-2, -1))


def categorical_entropy(log_probabilities: Float[Array, "*b c"]) -> Float[Array, "*b"]:
    """Entropy in nats."""
    return -(jnp.exp(log_probabilities) * log_probabilities).sum(-1)

"""Self-supervised losses on predicted embeddings: which part of the future a latent must hold.

SPR (arXiv 2007.05929) pulls a prediction towards the slow copy's embedding of what came; the
contrastive loss (InfoNCE, arXiv 1807.03748) asks which embedding, of all in the batch and at all
times, belongs to a prediction. Both compare unit vectors of a projector, predictions through a
predictor of their own, which keeps SPR from collapsing.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from world_models.layers import MLP

TEMPERATURE = 0.1  # cosines are divided by it before they compete


class Projector(eqx.Module):
    """Latent -> the vector that is compared, and from it the prediction of another one."""

    project: MLP
    predict: MLP

    def __init__(self, latent: int, projection: int, width: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key)
        self.project = MLP(latent, projection, width=width, layers=1, key=keys[0])
        self.predict = MLP(projection, projection, width=width, layers=1, key=keys[1])

    def target(self, latent: Float[Array, " z"]) -> Float[Array, " p"]:
        """Unit vector of what was seen."""
        return unit(self.project(latent))

    def prediction(self, latent: Float[Array, " z"]) -> Float[Array, " p"]:
        """Unit vector of what is foreseen."""
        return unit(self.predict(self.project(latent)))


def unit(x: Float[Array, "*s p"]) -> Float[Array, "*s p"]:
    """The vector at length one, in float32."""
    wide = x.astype(jnp.float32)
    return wide * jax.lax.rsqrt(jnp.square(wide).sum(-1, keepdims=True) + 1e-8)


def consistency(predicted: Float[Array, "n p"], target: Float[Array, "n p"]) -> Float[Array, " n"]:
    """Negative cosine of unit vectors, whose targets are held still (SPR eq. 4)."""
    return -(predicted * jax.lax.stop_gradient(target)).sum(-1)


def contrast(
    predicted: Float[Array, "n p"], targets: Float[Array, "m p"], own: Int[Array, " n"]
) -> Float[Array, " n"]:
    """InfoNCE in nats: minus the log-chance that prediction i is given its target `own[i]` among
    all `targets`, which are held still."""
    scores = predicted @ jax.lax.stop_gradient(targets).T / TEMPERATURE
    chosen = jnp.take_along_axis(scores, own[:, None], 1)[:, 0]
    return jax.nn.logsumexp(scores, -1) - chosen

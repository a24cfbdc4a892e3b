"""Dict observations in and out: images, vectors, or both, by the keys of the task's spec."""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.contract import ArraySpec
from world_models.distributions import symexp, symlog
from world_models.layers import MLP, Dense
from world_models.settings import ModelSettings
from world_models.vision import ImageDecoder, ImageEncoder

Observation = Mapping[str, Array]


def is_image(spec: ArraySpec) -> bool:
    """Whether a key is an image (H x W x C) rather than a vector."""
    return len(spec.shape) == 3


class ObservationEncoder(eqx.Module):
    """Observation -> embedding: images through a vision net, vectors symlogged through an MLP."""

    images: dict[str, ImageEncoder]
    vectors: tuple[Dense, ...]
    vector_keys: tuple[str, ...] = eqx.field(static=True)
    outputs: int = eqx.field(static=True)

    def __init__(
        self, spec: Mapping[str, ArraySpec], settings: ModelSettings, *, key: PRNGKeyArray
    ):
        image_key, vector_key = jax.random.split(key)
        image_specs = {k: s for k, s in sorted(spec.items()) if is_image(s)}
        self.vector_keys = tuple(k for k in sorted(spec) if k not in image_specs)
        self.images = {
            name: ImageEncoder(
                s.shape[0],
                s.shape[2],
                kind=settings.image_encoder,
                depth=settings.image_depth,
                key=jax.random.fold_in(image_key, index),
            )
            for index, (name, s) in enumerate(image_specs.items())
        }
        width = sum(spec[k].shape[0] for k in self.vector_keys)
        sizes = [width] + [settings.width] * settings.layers if self.vector_keys else []
        keys = jax.random.split(vector_key, max(len(sizes), 1))
        self.vectors = tuple(
            Dense(a, b, key=k) for a, b, k in zip(sizes[:-1], sizes[1:], keys[1:], strict=True)
        )
        self.outputs = sum(net.outputs for net in self.images.values())
        self.outputs += settings.width if self.vector_keys else 0

    def __call__(self, observation: Observation) -> Float[Array, " embedding"]:
        parts = [net(observation[name]) for name, net in self.images.items()]
        if self.vector_keys:
            x = jnp.concatenate([symlog(observation[k]) for k in self.vector_keys])
            for layer in self.vectors:
                x = layer(x)
            parts.append(x)
        return jnp.concatenate(parts)


class ObservationDecoder(eqx.Module):
    """Features -> prediction of every key: images in [0, 1], vectors in symlog space."""

    images: dict[str, ImageDecoder]
    vectors: dict[str, MLP]

    def __init__(
        self,
        features: int,
        spec: Mapping[str, ArraySpec],
        settings: ModelSettings,
        *,
        key: PRNGKeyArray,
    ):
        keys = {name: jax.random.fold_in(key, i) for i, name in enumerate(sorted(spec))}
        self.images = {
            name: ImageDecoder(
                features,
                s.shape[0],
                s.shape[2],
                kind=settings.image_encoder,
                depth=settings.image_depth,
                key=keys[name],
            )
            for name, s in sorted(spec.items())
            if is_image(s)
        }
        self.vectors = {
            name: MLP(
                features,
                s.shape[0],
                width=settings.width,
                layers=settings.layers,
                key=keys[name],
            )
            for name, s in sorted(spec.items())
            if not is_image(s)
        }

    def loss(self, features: Float[Array, " f"], observation: Observation) -> Float[Array, ""]:
        """Squared error summed over a key's numbers (of symlogged vectors, of pixels in [0, 1])."""
        total = jnp.zeros(())
        for name, net in self.images.items():
            target = observation[name].astype(jnp.float32) / 255.0
            total += jnp.square(net(features) - target).sum()
        for name, net in self.vectors.items():
            error = net(features).astype(jnp.float32) - symlog(observation[name])
            total += jnp.square(error).sum()
        return total

    def __call__(self, features: Float[Array, " f"]) -> dict[str, Array]:
        """Predicted observation: images uint8, vectors in their own units."""
        out: dict[str, Array] = {
            name: (net(features) * 255.0 + 0.5).astype(jnp.uint8)
            for name, net in self.images.items()
        }
        for name, net in self.vectors.items():
            out[name] = symexp(net(features).astype(jnp.float32))
        return out

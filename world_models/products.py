"""Products of inputs and weights, which most of an update's time goes into.

`product` is written for one sample; mapped over samples it is one product of matrices, as
`x @ weight` would be. Its reverse pass is ours, since the product that gives a weight's gradient
runs at two thirds of the speed of others on a CPU with AVX-512, unless one side is turned first.
Such a rule needs the samples gathered, which is only known once they are mapped over; so that the
product is an operation of JAX's own kind, for which we say what mapping makes of it.
"""

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.custom_batching import custom_vmap
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float


def product(x: Array, weight: Array) -> Array:
    """[i] by [i, o], or block by block: [k, i] by [k, i, o]."""
    if weight.ndim == 2:
        return plain_product.bind(x, weight)
    if weight.shape[0] == 1:  # a plain product is several times faster on CPU
        return plain_product.bind(x[0], weight[0])[None]
    return jnp.einsum("bi,bio->bo", x, weight)


@jax.custom_vjp
def rows_product(x: Float[Array, "n i"], weight: Float[Array, "i o"]) -> Float[Array, "n o"]:
    """What `product` is of many samples and one weight."""
    return x @ weight


rows_product.defvjp(
    lambda x, weight: (x @ weight, (x, weight)),
    lambda kept, gradient: (gradient @ kept[1].T, outer_sum(kept[0], gradient)),
)


@custom_vmap
def outer_sum(x: Float[Array, "n i"], gradient: Float[Array, "n o"]) -> Float[Array, "i o"]:
    """A weight's gradient: the sum over samples of inputs by gradients of the outputs.

    On one CPU the narrower of the two is turned, which moves the least.
    """
    if not one_cpu() or gradient.shape[1] >= x.shape[1]:
        return _inputs_turned(x, gradient)
    apart = jax.lax.optimization_barrier  # else the compiler takes the turns into the product
    return apart(apart(gradient.T) @ x).T


def _inputs_turned(x: Float[Array, "n i"], gradient: Float[Array, "n o"]) -> Float[Array, "i o"]:
    turned = x.T
    if one_cpu():
        turned = jax.lax.optimization_barrier(turned)
    return turned @ gradient


@outer_sum.def_vmap
def _several_sums(
    size: int, mapped: list[bool], x: Array, gradient: Array
) -> tuple[Float[Array, "k i o"], bool]:
    """Inputs are turned whatever the widths: XLA:CPU (jaxlib 0.10.2) aborts where the result of a
    product of several pairs is turned."""
    axes = tuple(0 if m else None for m in mapped)
    return jax.vmap(_inputs_turned, axes, axis_size=size)(x, gradient), True


def one_cpu() -> bool:
    """Whether programs run on a single device, and that a CPU."""
    return jax.default_backend() == "cpu" and jax.device_count() == 1


def _mapped(
    operands: tuple[Array, Array], axes: tuple[int | None, int | None]
) -> tuple[Array, int]:
    """The product along the axes that are mapped, and which axis of it is."""
    x, weight = operands
    samples, weights = axes
    if samples is not None and weights is None and one_cpu():
        return rows_product(jnp.moveaxis(x, samples, 0), weight), 0
    return jax.vmap(jnp.matmul, in_axes=axes)(x, weight), 0


plain_product = Primitive("plain_product")
plain_product.def_impl(jnp.matmul)
plain_product.def_abstract_eval(
    lambda x, weight: ShapedArray(weight.shape[1:], jnp.result_type(x, weight))
)
mlir.register_lowering(plain_product, mlir.lower_fun(jnp.matmul, multiple_results=False))
batching.primitive_batchers[plain_product] = _mapped
ad.defbilinear(
    plain_product,
    lambda gradient, x, weight: gradient @ weight.T,
    lambda gradient, x, weight: jnp.outer(x, gradient),
)

"""Products of inputs and weights give what plain ones give, gradients included."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_models.products import product

KEY = jax.random.key(0)


def test_one_sample_by_hand() -> None:
    x, weight = jnp.array([2.0, -1.0]), jnp.array([[1.0, 0.0, 2.0], [-1.0, 1.0, 3.0]])
    y, pull = jax.vjp(product, x, weight)
    np.testing.assert_array_equal(y, [3, -1, 1])
    to_x, to_weight = pull(jnp.array([1.0, 0.0, -1.0]))
    np.testing.assert_array_equal(to_x, [-1, -4])
    np.testing.assert_array_equal(to_weight, [[2, 0, -2], [-1, 0, 1]])
    change = jax.jvp(lambda x: product(x, weight), (x,), (jnp.array([0.0, 1.0]),))[1]
    np.testing.assert_array_equal(change, weight[1])


def test_gradients_of_a_product_over_samples_by_hand() -> None:
    x = jnp.array([[1.0, 2.0], [3.0, -1.0], [0.0, 4.0]])
    weight = jnp.array([[1.0, 0.0, 2.0], [-1.0, 1.0, 3.0]])
    gradient = jnp.array([[1.0, 0.0, 1.0], [0.0, 2.0, 0.0], [1.0, 1.0, -1.0]])
    y, pull = jax.vjp(lambda x, w: jax.vmap(product, (0, None))(x, w), x, weight)
    np.testing.assert_array_equal(y, [[-1, 2, 8], [4, -1, 3], [-4, 4, 12]])
    to_x, to_weight = pull(gradient)
    np.testing.assert_array_equal(to_x, [[3, 2], [0, 2], [-1, -3]])
    np.testing.assert_array_equal(to_weight, [[1, 6, 1], [6, 2, -2]])


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (None, None)])
def test_products_under_two_maps_have_the_gradients_of_plain_ones(
    axes: tuple[int | None, int | None],
) -> None:
    """As for several seeds or heads at once; of the inner map's samples the weights are equal."""
    keys = jax.random.split(KEY, 3)
    x = jax.random.normal(keys[0], (5, 4, 3)[axes[0] is None :])
    weight = jax.random.normal(keys[1], (5, 3, 2)[axes[1] is None :])

    def total(layer: Callable[..., jax.Array], x: jax.Array, weight: jax.Array) -> jax.Array:
        inner = jax.vmap(layer, (0, None))
        if axes != (None, None):
            inner = jax.vmap(inner, axes)
        return jnp.sin(inner(x, weight)).sum()

    found = jax.jit(jax.grad(total, (1, 2)), static_argnums=0)(product, x, weight)
    expected = jax.grad(total, (1, 2))(jnp.matmul, x, weight)
    for ours, plain in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("inputs", "outputs"), [(2, 3), (3, 2), (2, 2)])
def test_on_one_cpu_the_narrower_side_is_turned_for_a_weight_s_gradient(
    inputs: int, outputs: int
) -> None:
    def loss(weight: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.square(jax.vmap(product, (0, None))(x, weight)).sum()

    weight, x = jnp.ones((inputs, outputs)), jnp.arange(7.0 * inputs).reshape(7, inputs)
    program = jax.jit(jax.grad(loss)).lower(weight, x).as_text()
    turned = [line for line in program.splitlines() if "optimization_barrier" in line]
    assert "tensor<2x7xf32>" in turned[0]
    assert "3x7" not in program
    found = jax.jit(jax.grad(loss))(weight, x)
    np.testing.assert_allclose(found, 2 * x.T @ (x @ weight), rtol=1e-6)

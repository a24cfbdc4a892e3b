"""LaProp, clipping, rates and warm-up against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stages.optimiser import adaptive_clip, build_optimiser, descend, laprop, learning_rates
from stages.settings import TrainingSettings
from tests import tiny


def test_the_first_two_steps_of_laprop() -> None:
    optimiser = laprop(momentum=0.9, square=0.99)
    state = optimiser.init(jnp.zeros(2))
    # corrected for the start, the first step is the gradient's sign
    first, state = optimiser.update(jnp.array([3.0, -0.2]), state)
    np.testing.assert_allclose(first, [1.0, -1.0], rtol=1e-5)
    second, state = optimiser.update(jnp.array([1.0, -0.2]), state)
    size = np.sqrt((0.99 * 0.01 * 9.0 + 0.01 * 1.0) / (1 - 0.99**2))
    momentum = (0.9 * 0.1 * 1.0 + 0.1 * 1.0 / size) / (1 - 0.9**2)
    np.testing.assert_allclose(second, [momentum, -1.0], rtol=1e-4)
    assert state.number == 2


def test_a_sudden_gradient_does_not_outlive_its_step() -> None:
    """Divided before the momentum, an outlier weighs like one step; Adam would keep it."""
    optimiser = laprop()
    state = optimiser.init(jnp.zeros(()))
    for _ in range(50):
        step, state = optimiser.update(jnp.array(1.0), state)
    step, state = optimiser.update(jnp.array(1e6), state)
    assert abs(float(step)) < 5


def test_adaptive_clip_by_hand() -> None:
    clip = adaptive_clip(0.5, floor=0.01)
    params = {"large": jnp.array([3.0, 4.0]), "zero": jnp.zeros(2)}
    gradients = {"large": jnp.array([0.0, 10.0]), "zero": jnp.array([1.0, 0.0])}
    clipped, _ = clip.update(gradients, clip.init(params), params)
    np.testing.assert_allclose(clipped["large"], [0.0, 2.5], rtol=1e-6)
    np.testing.assert_allclose(clipped["zero"], [0.005, 0.0], rtol=1e-6)
    small = {"large": jnp.array([0.0, 2.4]), "zero": jnp.zeros(2)}
    same, _ = clip.update(small, clip.init(params), params)
    np.testing.assert_array_equal(same["large"], small["large"])
    np.testing.assert_array_equal(same["zero"], [0.0, 0.0])


def test_every_component_has_its_own_rate_and_shares_the_warm_up() -> None:
    training = TrainingSettings(
        model_learning_rate=1.0, actor_learning_rate=2.0, critic_learning_rate=3.0
    )
    rates = learning_rates(training, explorer=4.0)
    agent = tiny.agent(stage="explore")
    ones = jax.tree.map(jnp.ones_like, agent)
    steps = descend(ones, rates, jnp.array(0.25))
    expected = {"actor": -0.5, "critic": -0.75, "explorer": -1.0}
    for name, part in steps.components().items():
        for leaf in jax.tree.leaves(part):
            np.testing.assert_allclose(leaf, expected.get(name, -0.25))


def test_the_chain_clips_before_it_normalises() -> None:
    optimiser = build_optimiser(TrainingSettings(gradient_clip=0.1))
    params = jnp.array([1.0, 0.0])
    _, (_, state) = optimiser.update(jnp.array([100.0, 0.0]), optimiser.init(params), params)
    assert state.square[0] == pytest.approx(0.001 * 0.1**2, rel=1e-4)

"""A process that compiles program after program does not run out of memory maps."""

import sys

import jax
import jax.numpy as jnp
import pytest

from pipeline.compilation_cache import relieve


@pytest.mark.skipif(sys.platform != "linux", reason="memory maps are counted on Linux alone")
def test_programs_are_forgotten_when_they_are_many() -> None:
    program = jax.jit(lambda x: jnp.sort(jnp.sin(x)) @ x)
    program(jnp.ones(7))
    assert not relieve(1.0)  # far from the limit: nothing is forgotten
    assert program._cache_size() == 1
    assert relieve(0.0)
    assert program._cache_size() == 0
    assert float(program(jnp.ones(7))) == pytest.approx(7 * float(jnp.sin(1.0)))

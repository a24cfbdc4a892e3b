"""What is set before JAX is imported: a share of the cores, and what the user wants instead."""

import os
import subprocess
import sys

import pytest

from pipeline import environment
from pipeline.environment import share_cores


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "cores", lambda: 2)
    monkeypatch.setattr(environment, "gpus", lambda: 0)


@pytest.mark.usefixtures("two_cores")
def test_each_job_gets_its_share_of_the_cores() -> None:
    one, two = dict[str, str](), dict[str, str]()
    share_cores(one, 1)
    share_cores(two, 2)
    assert (one["OMP_NUM_THREADS"], two["OMP_NUM_THREADS"]) == ("2", "1")
    assert "XLA_FLAGS" not in one
    again = dict(two)
    share_cores(again, 2)
    assert again == two


@pytest.mark.usefixtures("two_cores")
def test_what_the_user_has_set_stays() -> None:
    users = {"OMP_NUM_THREADS": "7", "XLA_FLAGS": "--xla_cpu_prefer_vector_width=256"}
    found = dict(users)
    share_cores(found, 2)
    assert found["OMP_NUM_THREADS"] == "7"
    # XLA takes the last of two values
    assert found["XLA_FLAGS"].endswith(f" {users['XLA_FLAGS']}")


@pytest.mark.usefixtures("two_cores")
def test_the_pinned_xla_knows_every_flag() -> None:
    """It ends a process that is given one which it does not know."""
    shared = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    share_cores(shared, 2)
    code = "import jax.numpy as jnp; print(jnp.ones(3).sum())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=shared, capture_output=True, text=True, check=False
    )
    assert done.stdout == "3.0\n", done.stderr

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
def test_the_pinned_xla_reads_and_knows_every_flag() -> None:
    """It ends a process at a flag which it does not know, and reads none after what is no flag."""

    def sum_of_ones(users: str) -> subprocess.CompletedProcess[str]:
        shared = os.environ | {"XLA_FLAGS": users, "JAX_PLATFORMS": "cpu"}
        share_cores(shared, 2)
        code = "import jax.numpy as jnp; print(jnp.ones(3).sum())"
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=shared, capture_output=True, text=True, check=False)

    done = sum_of_ones("")
    assert done.stdout == "3.0\n", done.stderr
    stopped = sum_of_ones("--xla_no_such_flag=1")
    assert stopped.returncode != 0
    assert "--xla_no_such_flag" in stopped.stderr

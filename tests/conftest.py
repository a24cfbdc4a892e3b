"""Shapes and types of arrays are checked at every call of the numerical core while testing.

Also what tests of the command line share: a command run in this process.
"""

import atexit
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from jaxtyping import install_import_hook

# Tests run a program a few times only, so compiling fast matters more than fast code: without
# the newer fusion emitters an unoptimised training step compiles in two fifths of the time or less.
# Commands that tests start inherit these.
_FLAGS = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_multi_thread_eigen=false"
)
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}".strip()

# What one test compiled, the others load, those of the other process and of started commands too.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _CACHE = tempfile.mkdtemp(prefix="craik-tests-")
    atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"

gc.set_threshold(100_000, 20, 20)  # tracing makes objects by the million, few of them garbage

install_import_hook(
    [
        *("world_models", "policies", "stages.training_step", "stages.optimiser"),
        *("tasks.maze_rules", "tasks.maze_levels", "tasks.maze_oracle", "tasks.maze_views"),
    ],
    "beartype.beartype",
)


_LONG = ("test_studies.py", "test_durability.py")  # minutes each


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files begin first, lest one process works on them at the end and the other waits."""
    items.sort(key=lambda item: item.path.name not in _LONG)


@pytest.fixture(autouse=True)
def traced_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training steps are traced by each test, not read (but where reading is what is tested)."""
    from stages import kept_programs  # after the hook above

    monkeypatch.setattr(kept_programs, "_folder", lambda: None)


@pytest.fixture(autouse=True, scope="module")
def few_programs() -> Iterator[None]:
    """Programs of one file's tests do not pile up on those of the others (see `relieve`)."""
    yield
    from pipeline.compilation_cache import relieve  # after the hook above

    relieve()


@pytest.fixture
def undisturbed() -> Iterator[None]:
    """What a command sets for its process stays within its test."""
    environment, handler, path = os.environ.copy(), signal.getsignal(signal.SIGTERM), sys.path[:]
    yield
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGTERM, handler)
    sys.path[:] = path


@pytest.fixture
def mistake(
    undisturbed: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Run a command in this process; the one line on stderr that a mistake ends with."""

    def mistake(*arguments: str) -> str:
        from pipeline.cli import main  # after the hook above

        monkeypatch.setattr(sys, "argv", ["craik", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        assert ended.value.code == 2, output.err
        assert output.out == ""
        lines = output.err.strip().splitlines()
        assert len(lines) == 1, output.err
        return lines[0]

    return mistake

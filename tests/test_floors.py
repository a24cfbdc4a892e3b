"""Imports go down only, and the tasks' floor stays free of JAX so that workers start fast.

The one exception is the maze, whose rules are a pure JAX function: its modules are imported when a
maze is built, and `tasks.maze` itself is as light as the other suites.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {"assets": 0, "tasks": 1, "world_models": 2, "policies": 3, "stages": 4, "pipeline": 5}
NO_JAX = {"jax", "jaxlib", "equinox", "optax", "orbax", "jaxtyping"}
WITH_JAX = {
    f"maze_{part}.py" for part in ("levels", "model", "oracle", "rules", "simulator", "views")
}


def imported(source: str) -> Iterator[tuple[int, str]]:
    """Line and top-level package of every absolute import in a module, nested ones included."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name.split(".")[0]) for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield node.lineno, module.split(".")[0]
            case ast.ImportFrom(level=level) if level:
                yield node.lineno, "."


def violations(floor: str, source: str, file: str = "") -> list[str]:
    """Imports that a module of this floor must not have."""
    found = []
    for line, package in imported(source):
        if FLOORS.get(package, -1) > FLOORS[floor]:
            found.append(f"{line}: {floor} imports {package}, which is above it")
        if floor == "tasks" and package in NO_JAX and file not in WITH_JAX:
            found.append(f"{line}: tasks imports {package}")
        if package == ".":
            found.append(f"{line}: a relative import; name the package")
    return found


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_go_down_only(floor: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / floor).rglob("*.py"))
        for line in violations(floor, path.read_text(encoding="utf-8"), path.name)
    ]
    assert not found, "\n".join(found)


def test_a_violation_is_seen() -> None:
    assert violations("tasks", "def f():\n    from stages import report\n")
    assert violations("tasks", "import jax.numpy as jnp")
    assert violations("tasks", "import jax.numpy as jnp", "maze.py")
    assert not violations("tasks", "import jax.numpy as jnp", "maze_rules.py")
    assert violations("world_models", "from policies.actor import Actor")
    assert not violations("stages", "from policies.actor import Actor\nimport jax")


@pytest.mark.parametrize(
    "module", ["tasks.registry", "tasks.maze", "pipeline.cli", "pipeline.status"]
)
def test_light_modules_do_not_import_jax(module: str) -> None:
    code = f"import sys, {module}; sys.exit('jax' in sys.modules or 'mujoco' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0


def test_help_imports_no_settings() -> None:
    code = "import sys, pipeline.cli; sys.exit('pydantic' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0

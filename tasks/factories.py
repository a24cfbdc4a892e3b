"""A user's own tasks: `gymnasium:ID`, `package.module:factory`, `path/to/file.py:factory`.

Checking a name reads the source and never runs it, so that a study's mistakes are found before
anything is imported. A file is loaded under a private module name: it may well be called
`tasks.py`, which is one of our packages.
"""

import ast
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
from gymnasium.envs.registration import load_env_creator

from tasks.contract import FAULTS, TaskError
from tasks.gymnasium_tasks import GymnasiumTask
from tasks.settings import TaskOptions

OUR_PACKAGES = ("assets", "tasks", "world_models", "policies", "stages", "pipeline")


def check_id(name: str, env_id: str) -> None:
    """Is `env_id` registered with gymnasium?

    Raises:
        TaskError: it is not, with the nearest ids.
    """
    module, colon, bare = env_id.rpartition(":")
    if colon:  # gymnasium's own form `module:ID` registers when the module is imported
        _find_module(name, module)
        if not bare:
            raise TaskError(f"task {name!r}: the environment's id is missing after {module!r}")
        return
    if env_id not in gymnasium.registry:
        close = difflib.get_close_matches(env_id, list(gymnasium.registry), n=3, cutoff=0.5)
        near = f"; nearest: {', '.join(f'gymnasium:{other}' for other in close)}" if close else ""
        raise TaskError(f"task {name!r}: gymnasium has no environment {env_id!r}{near}")


def check_file(name: str, path: Path, factory: str) -> None:
    """Does the file exist, parse, and define the factory?

    Raises:
        TaskError: it does not.
    """
    if not path.is_file():
        raise TaskError(f"task {name!r}: there is no file {path} (from {Path.cwd()})")
    _check_defines(name, path, factory)


def check_module(name: str, module: str, factory: str) -> None:
    """Can the module be found, and does its source define the factory?

    Raises:
        TaskError: it cannot, or does not.
    """
    origin = _find_module(name, module)
    if origin is not None:
        _check_defines(name, origin, factory)


def make_id(name: str, env_id: str, options: TaskOptions) -> GymnasiumTask:
    """Build a registered gymnasium environment and adapt it.

    Raises:
        TaskError: it cannot be built, or does not fit the contract.
    """
    settings: dict[str, Any] = {}
    known = gymnasium.registry.get(env_id)
    if known is not None:
        modes = _render_modes(known)
        if modes is None or "rgb_array" in modes:
            settings["render_mode"] = "rgb_array"
        if str(known.entry_point).startswith("gymnasium.envs.mujoco"):
            settings |= {"width": options.video_size, "height": options.video_size}
    else:
        settings["render_mode"] = "rgb_array"
    return _adapt(name, lambda: gymnasium.make(env_id, **settings), options)


def make_file(name: str, path: Path, factory: str, options: TaskOptions) -> GymnasiumTask:
    """Load a user's file and adapt what its factory returns.

    Raises:
        TaskError: the file cannot be imported, or its factory gives no fitting environment.
    """
    module = _import(name, lambda: _load(path.resolve()))
    return _call(name, module, factory, options)


def make_module(name: str, module: str, factory: str, options: TaskOptions) -> GymnasiumTask:
    """Import a user's module and adapt what its factory returns.

    Raises:
        TaskError: the module cannot be imported, or its factory gives no fitting environment.
    """
    _find_module(name, module)
    return _call(name, _import(name, lambda: importlib.import_module(module)), factory, options)


def _call(name: str, module: ModuleType, factory: str, options: TaskOptions) -> GymnasiumTask:
    build = getattr(module, factory, None)
    if not callable(build):
        raise TaskError(f"task {name!r}: {factory!r} is not a function or class that can be called")
    settings = {"render_mode": "rgb_array"} if _takes(build, "render_mode") else {}
    return _adapt(name, lambda: build(**settings), options)


def _adapt(name: str, build: Callable[[], Any], options: TaskOptions) -> GymnasiumTask:
    try:
        env = build()
    except FAULTS as error:
        raise TaskError(f"task {name!r} cannot be built: {_told(error)}") from error
    try:
        return GymnasiumTask(name, env, options)
    except TaskError:
        raise
    except FAULTS as error:
        raise TaskError(f"task {name!r} does not fit the contract: {_told(error)}") from error


def _import(name: str, load: Callable[[], ModuleType]) -> ModuleType:
    try:
        return load()
    except FAULTS as error:
        raise TaskError(f"task {name!r} cannot be imported: {_told(error)}") from error


def _load(path: Path) -> ModuleType:
    """Import a file as `_craik_task_STEM_HASH`, once per process."""
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    private = f"_craik_task_{path.stem}_{digest}"
    if private in sys.modules:
        return sys.modules[private]
    spec = importlib.util.spec_from_file_location(private, path)
    assert spec is not None, f"{path} is not Python source"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[private] = module  # dataclasses and pickle look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[private]
        raise
    return module


def _find_module(name: str, module: str) -> Path | None:
    """The module's source file, or None where it has none (an extension module).

    Raises:
        TaskError: there is no such module.
    """
    if module.partition(".")[0] in OUR_PACKAGES:
        raise TaskError(
            f"task {name!r}: {module!r} is a package of craik itself; name your file instead, "
            f"as in ./{module.replace('.', '/')}.py:factory"
        )
    here = os.getcwd()  # a console script does not look where the user stands
    if here not in sys.path:
        sys.path.append(here)
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    except FAULTS as error:  # of a package around it
        raise TaskError(f"task {name!r} cannot be imported: {_told(error)}") from error
    if spec is None:
        raise TaskError(
            f"task {name!r}: there is no module {module!r}; it must be installed, or lie in the "
            "directory where craik is started"
        )
    origin = Path(spec.origin) if spec.origin else None
    return origin if origin is not None and origin.suffix == ".py" else None


def _check_defines(name: str, path: Path, factory: str) -> None:
    try:
        tree = ast.parse(path.read_bytes(), str(path))  # with its own encoding, if it names one
    except OSError as error:
        raise TaskError(f"task {name!r}: {path} cannot be read: {error.strerror}") from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise TaskError(f"task {name!r}: {path} is not valid Python: {error}") from error
    defined = set(_defined(tree.body))
    if factory in defined or defined & {"*", "__getattr__"}:
        return
    close = difflib.get_close_matches(factory, sorted(defined), n=3, cutoff=0.4)
    near = f"; nearest: {', '.join(close)}" if close else ""
    raise TaskError(f"task {name!r}: {path} defines no {factory!r}{near}")


def _defined(body: Iterable[ast.stmt]) -> Iterable[str]:
    """Names that statements bind at the top level of a module."""
    for statement in body:
        match statement:
            case ast.FunctionDef(name=bound) | ast.ClassDef(name=bound):
                yield bound
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from (alias.asname or alias.name for alias in names)
            case ast.Assign() | ast.AnnAssign():
                yield from (n.id for n in ast.walk(statement) if isinstance(n, ast.Name))
            case ast.If() | ast.Try() | ast.With():
                inner = ast.iter_child_nodes(statement)
                yield from _defined(node for node in inner if isinstance(node, ast.stmt))


def _takes(function: Callable[..., Any], argument: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return argument in parameters or anything


def _render_modes(spec: Any) -> list[str] | None:
    """What an environment's class says it can render, None where it cannot be read."""
    try:
        creator = load_env_creator(spec.entry_point)
    except Exception:
        return None
    return getattr(creator, "metadata", {}).get("render_modes")


def _told(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())

"""Imports packages that ask for the retired `gym` with `gymnasium` in its place."""

import importlib
import sys
from types import ModuleType

import gymnasium


def import_with_gymnasium(name: str) -> ModuleType:
    """Import the module `name` while `import gym` means gymnasium.

    The retired package prints a notice on every import and does not know NumPy 2. The packages
    this serves (RoboDesk, Crafter) only use its base class and its spaces, which gymnasium kept.
    """
    if name in sys.modules:
        return sys.modules[name]
    absent = object()
    before = sys.modules.get("gym", absent)
    sys.modules["gym"] = gymnasium
    try:
        return importlib.import_module(name)
    finally:
        if before is absent:
            del sys.modules["gym"]
        else:
            sys.modules["gym"] = before  # pyright: ignore[reportArgumentType]

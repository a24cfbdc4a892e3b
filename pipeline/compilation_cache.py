"""The persistent compilation cache: what one process compiled, the next one loads.

It lives in `$XDG_CACHE_HOME/craik` (`~/.cache/craik`), in a folder per kind of processor, since
XLA:CPU's programs hold instructions that another machine on the same home may lack. Deleting it
costs time only.
"""

import os
import sys
from pathlib import Path

from pipeline.environment import processor

_MAPS = Path("/proc/self/maps")
_MOST_MAPS = Path("/proc/sys/vm/max_map_count")


def folder() -> Path:
    """Where compiled programs are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "craik" / f"xla-{processor()}"


def enable() -> Path | None:
    """Switch the cache on for this process and its children; JAX must not be imported yet.

    Returns:
        The folder in use, None if none can be written.
    """
    chosen = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or folder())
    try:
        chosen.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(chosen, os.W_OK):
        return None
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(chosen)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    return chosen


def relieve(share: float = 1 / 3) -> bool:
    """Forget what this process compiled once that takes `share` of the memory maps Linux grants it.

    XLA:CPU maps memory for every kernel, some hundred a program, and beyond the limit (65,530 by
    default) its next compilation ends the process: a long-lived worker calls this between jobs.

    Returns:
        Whether it was time, and all programs are compiled, or loaded from the cache, again.
    """
    if "jax" not in sys.modules or not (_MAPS.exists() and _MOST_MAPS.exists()):
        return False
    if _MAPS.read_bytes().count(b"\n") <= share * int(_MOST_MAPS.read_text()):
        return False
    import jax

    jax.clear_caches()
    return True

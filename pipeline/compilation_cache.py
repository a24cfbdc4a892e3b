"""The persistent compilation cache: what one process compiled, the next one loads.

It lives in `$XDG_CACHE_HOME/craik` (`~/.cache/craik`), in a folder per kind of processor, since
XLA:CPU's programs hold instructions that another machine on the same home may lack. Deleting it
costs time only.
"""

import os
from pathlib import Path

from pipeline.environment import processor


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

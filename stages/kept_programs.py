"""Programs that one process traces and the next one only reads.

Python takes seconds to trace and lower a training step, at every start. So its text (StableHLO, by
`jax.export`) is kept in the persistent compilation cache's folder, beside what XLA makes of it. Its
name is a digest of all that it was made from: our source, the libraries' versions, JAX's settings,
and the settings, shapes and static parts of its arguments. Nothing is kept without such a folder,
of what has no lasting name (a function among the arguments), or beyond one CPU device, where
programs are placed in ways that a text does not tell.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np
from jax import export
from jax.sharding import SingleDeviceSharding
from jaxtyping import Array, PyTree

from stages import durable

_ROOT = Path(__file__).parent.parent
_PACKAGES = ("tasks", "world_models", "policies", "stages")
_LIBRARIES = ("jax", "jaxlib", "equinox", "optax", "mctx", "numpy")
_ADDRESS = " at 0x"  # in the text of what has no lasting name

State = TypeVar("State")
Function = Callable[[PyTree, State], tuple[State, dict[str, Array]]]


def kept(function: Function[State], identity: str) -> Function[State]:
    """`function` jitted, with the buffers of its second argument donated.

    Args:
        function: of inputs and a state; gives a state of the same structure, and arrays by name.
        identity: all that shapes the program besides its arguments and our source.
    """
    jitted = eqx.filter_jit(function, donate="all-except-first")
    programs: dict[Any, Callable[..., Any] | None] = {}

    def call(inputs: PyTree, state: State) -> tuple[State, dict[str, Array]]:
        folder = _folder()
        if folder is None:
            return jitted(inputs, state)
        given, changing = _arrays(inputs), _arrays(state)
        static = eqx.filter((inputs, state), _is_array, inverse=True)
        others, structure = jax.tree.flatten(static)
        shapes = tuple((x.shape, str(x.dtype)) for x in (*given, *changing))
        signature = (structure, tuple(map(repr, others)), shapes)
        if signature not in programs:
            name = f"{identity} {signature}"
            programs[signature] = None
            if _ADDRESS not in name:
                flat = _flattened(function, inputs, state)
                programs[signature] = _program(folder / _digest(name), flat, given, changing)
        program = programs[signature]
        if program is None:
            return jitted(inputs, state)
        changed, metrics = program(given, changing)
        return _filled(state, changed), metrics

    return call


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


def _arrays(tree: PyTree) -> list[Any]:
    return jax.tree.leaves(eqx.filter(tree, _is_array))


def _filled(tree: Any, arrays: list[Any]) -> Any:
    """`tree` with these arrays in the place of its own."""
    places, static = eqx.partition(tree, _is_array)
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(places), arrays), static)


def _flattened(function: Function[State], inputs: PyTree, state: State) -> Callable[..., Any]:
    """`function` on lists of arrays, whose text needs no class of ours to be read."""

    def flat(given: list[Any], changing: list[Any]) -> tuple[list[Any], dict[str, Array]]:
        changed, metrics = function(_filled(inputs, given), _filled(state, changing))
        return _arrays(changed), metrics

    return flat


def _program(path: Path, flat: Callable[..., Any], *arguments: list[Any]) -> Callable[..., Any]:
    """The jitted program that is kept at `path`, or is from now on."""
    text = _read(path)
    if text is None:
        exported = export.export(jax.jit(flat, donate_argnums=1))(*arguments)
        text = bytes(exported.serialize())
        with suppress(OSError):  # that costs the next start some seconds and stops no job
            durable.write(path, hashlib.sha256(text).digest() + text)
    # what was just traced is read, too, so that every process runs the same program
    call = export.deserialize(bytearray(text)).call
    # and what it gives lies where its arguments may lie, or its second call would compile again
    here = SingleDeviceSharding(jax.devices()[0])
    return jax.jit(call, donate_argnums=1, in_shardings=here, out_shardings=here)


def _read(path: Path) -> bytes | None:
    """What is kept at `path`; None if that is nothing, or not whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    size = hashlib.sha256().digest_size
    digest, text = content[:size], content[size:]
    return text if hashlib.sha256(text).digest() == digest else None


def _folder() -> Path | None:
    """Where programs are kept."""
    chosen = jax.config.values["jax_compilation_cache_dir"]
    if not chosen or jax.default_backend() != "cpu" or jax.device_count() > 1:
        return None
    return Path(chosen) / "traced"


def _digest(name: str) -> str:
    settings = sorted((key, repr(value)) for key, value in jax.config.values.items())
    return hashlib.sha256(f"{_source()} {settings} {name}".encode()).hexdigest()


@cache
def _source() -> str:
    """A digest of our source and of the libraries that programs are traced with."""
    digest = hashlib.sha256("".join(f"{name} {version(name)} " for name in _LIBRARIES).encode())
    for package in _PACKAGES:
        for path in sorted((_ROOT / package).rglob("*.py")):
            digest.update(f"{path.relative_to(_ROOT)} ".encode() + path.read_bytes())
    return digest.hexdigest()

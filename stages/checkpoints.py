"""Checkpoints: one Orbax item per component, plus what only the same job needs to go on.

    checkpoint/
      latest                       names the folder that counts, replaced atomically
      updates-000002500/
        components/encoder/ ...    one Orbax item each; any subset is restored alone
        components.json            what is in them: leaves, parameters, bytes, digest
        training/                  optimiser state, update counter (not in `start/`)
        progress.json, tails.npy   counters, environments, replay
        digests.json               of the files of each item, of progress.json and of tails.npy
        complete                   written last

A checkpoint is written beside the last one, which is removed only when the new one is complete.
The files of an item are compared with their digest before Orbax sees them: it gives back what a
flipped bit made of an array, and fails in threads of its own, which print tracebacks.
This module alone knows Orbax.
"""

import errno
import functools
import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from policies.agent import Agent
from stages import durable

TABLE, DIGESTS = "components.json", "digests.json"
TRAINING, PROGRESS, TAILS = "training", "progress.json", "tails.npy"


class CheckpointError(Exception):
    """A checkpoint cannot be used; one line that names the component and what to do."""


def save(
    folder: Path,
    name: str,
    components: Mapping[str, PyTree],
    training: PyTree | None = None,
    progress: Mapping[str, Any] | None = None,
    tails: np.ndarray | None = None,
    *,
    keep_previous: bool = False,
) -> Path:
    """Write a checkpoint `name` into `folder` and make it the latest.

    Args:
        keep_previous: the one that was the latest stays; all others go.

    Raises:
        CheckpointError: it cannot be written, for want of room perhaps; those before are as they
            were.
    """
    before = latest(folder)
    partial = folder / f"{name}.partial"
    final = folder / name
    if final == before:  # it counts until this one does, so it keeps its place
        final = folder / f"{name}-again"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove(folder.glob("*.partial"))  # of a save that was cut short
        for component, tree in components.items():
            _write(partial / "components" / component, tree)
        if training is not None:
            _write(partial / TRAINING, training)
        if progress is not None:
            (partial / PROGRESS).write_text(json.dumps(progress))
        if tails is not None:
            np.save(partial / TAILS, tails)
        table = {component: describe(tree) for component, tree in components.items()}
        (partial / TABLE).write_text(json.dumps(table, indent=1))
        items = [*(f"components/{component}" for component in components), TABLE, TRAINING]
        items = [item for item in (*items, PROGRESS, TAILS) if (partial / item).exists()]
        digests = {item: _digest(partial / item) for item in items}
        (partial / DIGESTS).write_text(json.dumps(digests, indent=1))
        (partial / "complete").touch()
        durable.sync_tree(partial)
        shutil.rmtree(final, ignore_errors=True)
        os.rename(partial, final)
        durable.write(folder / "latest", final.name)
    except Exception as error:  # Orbax raises many kinds for a full disk
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(f"{final}: cannot be written ({_reason(error)})") from error
    kept = {final, before} if keep_previous else {final}
    _remove(path for path in folder.iterdir() if path.is_dir() and path not in kept)
    return final


def latest(folder: Path) -> Path | None:
    """Folder of the checkpoint that counts, or None where there is none."""
    return next(iter(whole(folder)), None)


def whole(folder: Path) -> list[Path]:
    """The checkpoints that were written to their end, the one that counts first."""
    try:
        pointed = (folder / "latest").read_text(errors="replace").strip()
    except OSError:
        pointed = ""
    found = [path.parent for path in folder.glob("*/complete") if path.parent.suffix != ".partial"]
    return sorted(found, key=lambda path: (path.name == pointed, path.name), reverse=True)


def last_good(folder: Path) -> str:
    """The words on the checkpoint that counts, for the end of a message."""
    found = latest(folder)
    return f"the last good checkpoint is {found}" if found else "there is no checkpoint yet"


def set_aside(checkpoint: Path) -> None:
    """Let a damaged checkpoint count no more; the next save removes it."""
    (checkpoint / "complete").unlink()


def find(path: Path) -> Path:
    """The checkpoint that a user's path means: a `checkpoint/` or `start/` folder, or its job's.

    Raises:
        CheckpointError: there is no checkpoint.
    """
    for folder in (path, path / "checkpoint"):
        if (folder / "complete").exists():
            return folder
        if found := latest(folder):
            return found
    raise CheckpointError(
        f"{path}: no checkpoint here; give a checkpoint/ or start/ folder, or the job's folder"
    )


def components(path: Path) -> dict[str, dict[str, Any]]:
    """Each component's leaves, parameters, bytes and digest, as the arrays on disk have them.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
    """
    checkpoint = find(path)
    _check(checkpoint, TABLE)
    return {
        name: describe(_read_raw(checkpoint, f"components/{name}"))
        for name in _table(checkpoint / TABLE)
    }


def describe(tree: PyTree) -> dict[str, Any]:
    """Leaves, parameters, bytes and a digest of names, shapes, types and values."""
    table = flat_arrays(tree)
    digest = hashlib.sha256()
    for name in sorted(table):
        array = np.ascontiguousarray(table[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return {
        "leaves": len(table),
        "parameters": int(sum(array.size for array in table.values())),
        "bytes": int(sum(array.nbytes for array in table.values())),
        "digest": digest.hexdigest()[:16],
    }


def restore_component(path: Path, name: str, like: PyTree) -> PyTree:
    """One component from a checkpoint, in the frame of `like`. The others are not read.

    Raises:
        CheckpointError: the component is missing, damaged, or of another shape.
    """
    return _fill(like, _read_component(path, name), _called(path, name))


def restore_agent(path: Path, agent: Agent, names: Iterable[str] | None = None) -> Agent:
    """`agent` with components from a checkpoint put in: those named that it has, or all.

    Raises:
        CheckpointError: a component is missing, damaged, or of another shape.
    """
    parts = _parts(agent, names)
    return agent.replace({name: restore_component(path, name, part) for name, part in parts})


def check_agent(path: Path, agent: Agent, names: Iterable[str]) -> None:
    """Whether `restore_agent` would succeed; of `agent` only the shapes need to be there.

    Raises:
        CheckpointError: a component is missing, damaged, or of another shape.
    """
    for name, part in _parts(agent, names):
        _check_shapes(part, _read_component(path, name), _called(path, name))


def restore_training(checkpoint: Path, like: PyTree) -> tuple[PyTree, dict[str, Any], np.ndarray]:
    """Training arrays, progress table and replay tails of the same job.

    Raises:
        CheckpointError: something is missing or damaged.
    """
    training = _fill(like, _read_raw(checkpoint, TRAINING), f"{checkpoint}: training state")
    return training, *restore_progress(checkpoint)


def restore_progress(checkpoint: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Progress table and replay tails of a job.

    Raises:
        CheckpointError: something is missing or damaged.
    """
    _check(checkpoint, PROGRESS)
    _check(checkpoint, TAILS)
    return json.loads((checkpoint / PROGRESS).read_text()), np.load(checkpoint / TAILS)


def flat_arrays(tree: PyTree) -> dict[str, np.ndarray]:
    """Arrays of a tree by their path, static parts left out."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(tree, eqx.is_array_like))
    return {_path(path): np.asarray(leaf) for path, leaf in leaves}


def _path(path: tuple[Any, ...]) -> str:
    parts = [getattr(p, "name", getattr(p, "key", getattr(p, "idx", None))) for p in path]
    return ".".join(str(part) for part in parts)


def _parts(agent: Agent, names: Iterable[str] | None) -> list[tuple[str, PyTree]]:
    """The components of an agent, those named or all."""
    chosen = None if names is None else set(names)
    return [(n, part) for n, part in agent.components().items() if chosen is None or n in chosen]


def _called(path: Path, component: str) -> str:
    return f"{path}: component {component!r}"


def _check_shapes(like: PyTree, arrays: Mapping[str, np.ndarray], what: str) -> None:
    """Whether arrays that were read are those of `like`, whose leaves need a shape only."""
    wanted = _shapes(like)
    for name, shape in wanted.items():
        if name not in arrays:
            raise CheckpointError(f"{what}: no array {name}; was it made by another agent?")
        if (found := np.shape(arrays[name])) != shape:
            raise CheckpointError(
                f"{what}: {name} has shape {found} in the checkpoint and {shape} in "
                "this agent; use the model sizes and task family that it was trained with"
            )
    if extra := sorted(set(arrays) - set(wanted)):
        raise CheckpointError(f"{what}: holds {extra[0]}, which this agent lacks")


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    shaped = eqx.filter(tree, lambda leaf: hasattr(leaf, "shape") or eqx.is_array_like(leaf))
    leaves = jax.tree_util.tree_leaves_with_path(shaped)
    return {_path(path): tuple(getattr(leaf, "shape", ())) for path, leaf in leaves}


def _fill(like: PyTree, arrays: Mapping[str, np.ndarray], what: str) -> PyTree:
    _check_shapes(like, arrays, what)
    dynamic, static = eqx.partition(like, eqx.is_array)
    paths, frame = jax.tree_util.tree_flatten_with_path(dynamic)
    leaves = [jax.numpy.asarray(arrays[_path(path)], leaf.dtype) for path, leaf in paths]
    return eqx.combine(jax.tree_util.tree_unflatten(frame, leaves), static)


@functools.cache
def _checkpointer() -> Any:
    # Orbax tells of every save at length, warns that sharding is absent from plain arrays, and
    # prints the tracebacks of what it raises besides. After a full disk its writing threads call
    # back into an event loop that is closed by then, each with a traceback of its own.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    sys.unraisablehook = functools.partial(_unless_late, sys.unraisablehook)
    import orbax.checkpoint as ocp

    return ocp.PyTreeCheckpointer()


def _unless_late(hook: Callable[[Any], object], unraisable: Any) -> None:
    error = unraisable.exc_value
    if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
        hook(unraisable)


def _write(path: Path, tree: PyTree) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # numpy arrays keep a checkpoint free of the devices that it was trained on
    _checkpointer().save(path.absolute(), flat_arrays(tree))


def _read_component(path: Path, name: str) -> dict[str, np.ndarray]:
    """The arrays of one component of the checkpoint that a path means."""
    checkpoint = find(path)
    if not (checkpoint / "components" / name).exists():
        have = ", ".join(sorted(p.name for p in (checkpoint / "components").glob("*")))
        raise CheckpointError(f"{path}: no component {name!r}; this checkpoint holds {have}")
    return _read_raw(checkpoint, f"components/{name}")


def _read_raw(checkpoint: Path, item: str) -> dict[str, np.ndarray]:
    """The arrays of one item."""
    _check(checkpoint, item)
    path = checkpoint / item
    try:
        return _checkpointer().restore(path.absolute())
    except Exception as error:  # Orbax raises many kinds
        raise CheckpointError(f"{path}: cannot be read ({_reason(error)})") from error


def _check(checkpoint: Path, item: str) -> None:
    """Compare an item's files with what was written; no other item is read."""
    path = checkpoint / item
    if not path.exists():
        raise CheckpointError(f"{path}: cannot be read: it is missing")
    if _digest(path) != _table(checkpoint / DIGESTS).get(item):
        raise CheckpointError(
            f"{path}: cannot be read: damaged, this is not what was written; "
            "take another checkpoint, or remove the folder of its job to run that again"
        )


def _table(path: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    if not isinstance(table, dict):
        raise CheckpointError(f"{path}: cannot be read: it holds no table")
    return table


def _digest(path: Path) -> str:
    """Of a file, or of all files of a folder and their names."""
    whole = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            whole.update(f"{file.relative_to(path).as_posix()} {file.stat().st_size} ".encode())
            with file.open("rb") as data:
                whole.update(hashlib.file_digest(data, "sha256").digest())
    return whole.hexdigest()[:16]


def _reason(error: Exception) -> str:
    no_room = os.strerror(errno.ENOSPC)
    if no_room in str(error):  # Orbax wraps it in a page of text
        return no_room
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _remove(folders: Iterable[Path]) -> None:
    for folder in list(folders):
        shutil.rmtree(folder, ignore_errors=True)

"""Checkpoints: one Orbax item per component, plus what only the same job needs to go on.

    checkpoint/
      latest                       names the folder that counts, replaced atomically
      updates-000002500/
        components/encoder/ ...    one Orbax item each; any subset is restored alone
        components.json            what is in them: leaves, parameters, bytes, digest
        training/                  optimiser state, update counter (not in `start/`)
        progress.json, tails.npy   counters, environments, replay
        complete                   written last

A checkpoint is written beside the last one, which is removed only when the new one is complete.
This module alone knows Orbax.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from policies.agent import Agent
from stages import durable


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
            _write(partial / "training", training)
        if progress is not None:
            (partial / "progress.json").write_text(json.dumps(progress))
        if tails is not None:
            np.save(partial / "tails.npy", tails)
        table = {component: describe(tree) for component, tree in components.items()}
        (partial / "components.json").write_text(json.dumps(table, indent=1))
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
    names = _read_json(checkpoint / "components.json")
    return {name: describe(_read_raw(checkpoint / "components" / name)) for name in names}


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
    checkpoint = find(path)
    item = checkpoint / "components" / name
    if not item.exists():
        have = ", ".join(sorted(p.name for p in (checkpoint / "components").iterdir()))
        raise CheckpointError(f"{path}: no component {name!r}; this checkpoint holds {have}")
    arrays = _read_raw(item)
    known = _read_json(checkpoint / "components.json").get(name, {}).get("digest")
    if known != describe(arrays)["digest"]:
        raise CheckpointError(f"{item}: is damaged (its arrays are not those that were written)")
    return _fill(like, arrays, f"{path}: component {name!r}")


def restore_agent(path: Path, agent: Agent, names: Iterable[str] | None = None) -> Agent:
    """`agent` with components from a checkpoint put in: those named that it has, or all.

    Raises:
        CheckpointError: a component is missing, damaged, or of another shape.
    """
    parts = agent.components()
    chosen = parts if names is None else parts.keys() & set(names)
    return agent.replace({name: restore_component(path, name, parts[name]) for name in chosen})


def restore_training(checkpoint: Path, like: PyTree) -> tuple[PyTree, dict[str, Any], np.ndarray]:
    """Training arrays, progress table and replay tails of the same job.

    Raises:
        CheckpointError: something is missing or damaged.
    """
    training = _fill(like, _read_raw(checkpoint / "training"), f"{checkpoint}: training state")
    return training, *restore_progress(checkpoint)


def restore_progress(checkpoint: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Progress table and replay tails.

    Raises:
        CheckpointError: they are missing or damaged.
    """
    progress = _read_json(checkpoint / "progress.json")
    try:
        tails = np.load(checkpoint / "tails.npy")
    except (OSError, ValueError, EOFError) as error:
        raise CheckpointError(f"{checkpoint}/tails.npy: cannot be read ({error})") from error
    return progress, tails


def flat_arrays(tree: PyTree) -> dict[str, np.ndarray]:
    """Arrays of a tree by their path, static parts left out."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(tree, eqx.is_array_like))
    return {_path(path): np.asarray(leaf) for path, leaf in leaves}


def _path(path: tuple[Any, ...]) -> str:
    parts = [getattr(p, "name", getattr(p, "key", getattr(p, "idx", None))) for p in path]
    return ".".join(str(part) for part in parts)


def _fill(like: PyTree, arrays: Mapping[str, np.ndarray], what: str) -> PyTree:
    wanted = flat_arrays(like)
    for name, array in wanted.items():
        if name not in arrays:
            raise CheckpointError(f"{what}: no array {name}; was it made by another agent?")
        found = arrays[name]
        if found.shape != array.shape:
            raise CheckpointError(
                f"{what}: {name} has shape {found.shape} in the checkpoint and {array.shape} in "
                "this agent; use the model sizes and task family that it was trained with"
            )
    if extra := sorted(set(arrays) - set(wanted)):
        raise CheckpointError(f"{what}: holds {extra[0]}, which this agent lacks")
    dynamic, static = eqx.partition(like, eqx.is_array)
    paths, frame = jax.tree_util.tree_flatten_with_path(dynamic)
    leaves = [jax.numpy.asarray(arrays[_path(path)], leaf.dtype) for path, leaf in paths]
    return eqx.combine(jax.tree_util.tree_unflatten(frame, leaves), static)


@cache
def _checkpointer() -> Any:
    # Orbax tells of every save at length, warns that sharding is absent from plain arrays, and
    # prints the tracebacks of what it raises besides.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    import orbax.checkpoint as ocp

    return ocp.PyTreeCheckpointer()


def _write(path: Path, tree: PyTree) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # numpy arrays keep a checkpoint free of the devices that it was trained on
    _checkpointer().save(path.absolute(), flat_arrays(tree))


def _read_raw(path: Path) -> dict[str, np.ndarray]:
    try:
        return _checkpointer().restore(path.absolute())
    except Exception as error:  # Orbax raises many kinds for a damaged item
        raise CheckpointError(f"{path}: cannot be read ({_reason(error)})") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    no_room = os.strerror(errno.ENOSPC)
    if no_room in str(error):  # Orbax wraps it in a page of text
        return no_room
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _remove(folders: Iterable[Path]) -> None:
    for folder in list(folders):
        shutil.rmtree(folder, ignore_errors=True)

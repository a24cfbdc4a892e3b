"""Checkpoints: round trips, subsets, one-line errors, and no moment without a good one."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stages import checkpoints
from stages.checkpoints import CheckpointError, restore_component, save
from tests import tiny

WIDE = tiny.MODEL.model_copy(update={"width": 24})


def equal(one: object, other: object) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    agent = tiny.agent(stage="explore", seed=1)
    save(tmp_path / "checkpoint", "updates-1", agent.components())
    return tmp_path


def test_round_trip(folder: Path) -> None:
    saved, fresh = (tiny.agent(stage="explore", seed=seed) for seed in (1, 2))
    for name, part in fresh.components().items():
        restored = restore_component(folder, name, part)
        assert equal(restored, getattr(saved, name))
        assert jax.tree.structure(restored) == jax.tree.structure(part)
    assert not equal(fresh.encoder, saved.encoder)
    table = checkpoints.components(folder / "checkpoint")
    assert table == {n: checkpoints.describe(p) for n, p in saved.components().items()}
    actor = eqx.filter(saved.actor, eqx.is_array)
    assert table["actor"]["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(actor))


def test_training_state_round_trip(tmp_path: Path) -> None:
    training = {"a": jnp.arange(3.0), "number": jnp.array(7, jnp.int32)}
    tails = np.zeros(2, [("x", np.float32, (3,))])
    found = save(tmp_path, "one", {"part": jnp.ones(2)}, training, {"k": [1, 2.5]}, tails)
    like = jax.tree.map(jnp.zeros_like, training)
    restored, progress, again = checkpoints.restore_training(found, like)
    assert equal(restored, training)
    assert restored["number"].dtype == jnp.int32
    assert progress == {"k": [1, 2.5]}
    assert again.dtype == tails.dtype


def test_a_subset_reads_nothing_else(folder: Path) -> None:
    items = checkpoints.find(folder) / "components"
    for item in items.iterdir():
        if item.name != "actor":
            shutil.rmtree(item)
    saved = tiny.agent(stage="explore", seed=1).actor
    assert equal(restore_component(folder, "actor", tiny.agent().actor), saved)


def refuses(path: Path, name: str, like: object, says: str) -> None:
    with pytest.raises(CheckpointError, match=says) as error:
        restore_component(path, name, like)
    assert "\n" not in str(error.value)


def test_mistakes_are_one_line(folder: Path, tmp_path: Path) -> None:
    agent = tiny.agent()
    refuses(folder, "nothing", agent.actor, "no component 'nothing'.*actor, critic")
    refuses(folder, "encoder", tiny.agent(model=WIDE).encoder, "has shape.*use the model sizes")
    refuses(folder, "actor", agent.actor.net.output, "no array weight; was it made by another")
    refuses(tmp_path / "elsewhere", "actor", agent.actor, "no checkpoint here")


def test_a_truncated_item_is_refused(folder: Path) -> None:
    item = checkpoints.find(folder) / "components" / "actor"
    for path in item.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refuses(folder, "actor", tiny.agent().actor, "cannot be read")


def flip(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def files_of(item: Path) -> list[Path]:
    return sorted(path for path in item.rglob("*") if path.is_file() and path.stat().st_size)


def test_a_flipped_bit_in_any_file_of_a_component_is_refused(folder: Path) -> None:
    agent = tiny.agent(stage="explore", seed=1)
    item = checkpoints.find(folder) / "components" / "actor"
    for path in files_of(item):
        whole = path.read_bytes()
        flip(path)
        refuses(folder, "actor", agent.actor, f"{item}: cannot be read: damaged")
        path.write_bytes(whole)
    assert equal(restore_component(folder, "actor", agent.actor), agent.actor)


def test_an_item_of_another_checkpoint_is_refused(folder: Path) -> None:
    other = tiny.agent(stage="explore", seed=2)
    save(folder / "other", "updates-1", {"actor": other.actor})
    item = checkpoints.find(folder) / "components" / "actor"
    shutil.rmtree(item)
    shutil.copytree(checkpoints.find(folder / "other") / "components" / "actor", item)
    refuses(folder, "actor", other.actor, "cannot be read: damaged")
    with pytest.raises(CheckpointError, match="actor: cannot be read: damaged"):
        checkpoints.components(folder)


@pytest.mark.parametrize("name", ["progress.json", "tails.npy", "training", "digests.json"])
def test_a_damaged_training_state_is_refused(tmp_path: Path, name: str) -> None:
    training = {"a": jnp.arange(3.0)}
    tails = np.zeros(20, np.float32)
    found = save(tmp_path, "one", {"part": jnp.ones(2)}, training, {"k": [1, 2.5]}, tails)
    restored, *_ = checkpoints.restore_training(found, training)
    assert equal(restored, training)
    path = found / name
    flip(path) if path.is_file() else shutil.rmtree(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoints.restore_training(found, training)


@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff", b"{}"])
@pytest.mark.parametrize("table", ["components.json", "digests.json"])
def test_a_damaged_table_is_refused(folder: Path, table: str, text: bytes) -> None:
    (checkpoints.find(folder) / table).write_bytes(text)
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoints.components(folder)


@pytest.mark.parametrize("at", ["component", "pointer"])
@pytest.mark.parametrize("name", ["updates-1", "updates-2"])
def test_the_last_one_counts_until_the_next_is_whole(
    folder: Path, at: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever a save dies, also one of the very same name, a good checkpoint is found."""
    agent = tiny.agent(stage="explore", seed=2)
    calls = []

    def die(*arguments: object) -> None:
        calls.append(arguments)
        if at == "pointer" or len(calls) == 3:
            raise KeyboardInterrupt
        write(*arguments)  # type: ignore[arg-type]

    write = checkpoints._write
    if at == "component":
        monkeypatch.setattr(checkpoints, "_write", die)
    else:
        monkeypatch.setattr(checkpoints.os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        save(folder / "checkpoint", name, agent.components())
    monkeypatch.undo()
    saved = tiny.agent(stage="explore", seed=1)
    assert equal(restore_component(folder, "actor", agent.actor), saved.actor)
    save(folder / "checkpoint", name, agent.components())
    assert equal(restore_component(folder, "actor", saved.actor), agent.actor)
    left = sorted(path.name for path in (folder / "checkpoint").iterdir())
    assert len(left) == 2  # the checkpoint and `latest`


@pytest.mark.parametrize("pointer", ["", "updates-0", "\x00\x00", "../checkpoint", None])
def test_a_torn_pointer_loses_nothing(folder: Path, pointer: str | None) -> None:
    path = folder / "checkpoint" / "latest"
    path.unlink() if pointer is None else path.write_text(pointer)
    assert checkpoints.latest(folder / "checkpoint") == folder / "checkpoint" / "updates-1"


def test_the_one_before_is_kept_on_demand_and_counts_when_the_last_does_not(folder: Path) -> None:
    where = folder / "checkpoint"
    for name in ("updates-2", "updates-3"):
        save(where, name, {"part": jnp.ones(2)}, keep_previous=True)
    assert [path.name for path in checkpoints.whole(where)] == ["updates-3", "updates-2"]
    checkpoints.set_aside(where / "updates-3")
    assert checkpoints.latest(where) == where / "updates-2"
    save(where, "updates-3", {"part": jnp.ones(2)})
    assert sorted(path.name for path in where.iterdir()) == ["latest", "updates-3"]


def test_a_save_without_room_leaves_what_was_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = sorted((folder / "checkpoint").rglob("*"))
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(CheckpointError, match=r"updates-2: cannot be written .*No space left"):
        save(folder / "checkpoint", "updates-2", {"part": jnp.ones(2)}, tails=np.zeros(2))
    assert sorted((folder / "checkpoint").rglob("*")) == before


def test_what_comes_late_after_a_full_disk_is_not_told() -> None:
    heard: list[Any] = []
    for error in (RuntimeError("Event loop is closed"), RuntimeError("else"), ValueError()):
        checkpoints._unless_late(heard.append, SimpleNamespace(exc_value=error))
    assert [str(found.exc_value) for found in heard] == ["else", ""]

"""Programs that are kept: read instead of traced, the same bits, and nothing stale or torn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policies.settings import CuriositySettings
from stages import kept_programs
from stages.kept_programs import kept
from stages.settings import TrainingSettings
from stages.training_step import TrainingState, build_step, initial_state
from tests import tiny

TRAINING = TrainingSettings(updates_per_call=2)
KEY = jax.random.key(0)


class Counter(eqx.Module):
    """A state with an array and a static part."""

    value: jax.Array
    scale: float = eqx.field(static=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where programs are kept in this test."""
    monkeypatch.setattr(kept_programs, "_folder", lambda: tmp_path / "traced")
    return tmp_path / "traced"


def counting(traces: list[int]) -> Callable[[Any, Counter], tuple[Counter, dict[str, jax.Array]]]:
    """A function that notes when it is traced."""

    def function(inputs: Any, state: Counter) -> tuple[Counter, dict[str, jax.Array]]:
        traces.append(1)
        value = state.value + state.scale * inputs["x"].sum()
        return Counter(value, state.scale), {"value": value.sum()}

    return function


def counter(scale: float = 2.0, size: int = 3) -> Counter:
    return Counter(jnp.zeros(size), scale)


def bits(state: TrainingState) -> list[np.ndarray]:
    return [np.asarray(x) for x in jax.tree.leaves(eqx.filter(state, eqx.is_array))]


def test_it_is_traced_once_and_then_read(folder: Path) -> None:
    traces: list[int] = []
    for _ in range(2):  # each `kept` begins as a new process does
        call = kept(counting(traces), "a")
        state = counter()
        for _ in range(2):
            before = state
            state, _ = call({"x": np.ones(4, np.float32)}, state)
            assert before.value.is_deleted()
        state, metrics = call({"x": np.ones(4, np.float32)}, state)
        np.testing.assert_array_equal(state.value, np.full(3, 24.0))
        assert float(metrics["value"]) == 72.0
        assert state.scale == 2.0
    assert len(traces) == 1
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize(
    ("identity", "scale", "size", "inputs"),
    [
        ("b", 2.0, 3, {"x": np.ones(4, np.float32)}),
        ("a", 3.0, 3, {"x": np.ones(4, np.float32)}),
        ("a", 2.0, 5, {"x": np.ones(4, np.float32)}),
        ("a", 2.0, 3, {"x": np.ones(4, np.int32)}),
        ("a", 2.0, 3, {"x": np.ones(4, np.float32), "y": np.ones(4, np.float32)}),
        ("a", 2.0, 3, {"x": np.ones(4, np.float32), "word": "more"}),
    ],
)
def test_whatever_shapes_it_gives_it_a_name_of_its_own(
    folder: Path, identity: str, scale: float, size: int, inputs: dict[str, Any]
) -> None:
    traces: list[int] = []
    kept(counting(traces), "a")({"x": np.ones(4, np.float32)}, counter())
    state, _ = kept(counting(traces), identity)(inputs, counter(scale, size))
    assert len(traces) == 2
    assert len(list(folder.iterdir())) == 2
    np.testing.assert_array_equal(state.value, np.full(size, 4.0 * scale))


def test_other_source_and_other_settings_of_jax_are_other_programs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces: list[int] = []
    inputs = {"x": np.ones(4, np.float32)}
    kept(counting(traces), "a")(inputs, counter())
    with jax.default_matmul_precision("highest"):
        kept(counting(traces), "a")(inputs, counter())
    monkeypatch.setattr(kept_programs, "_source", lambda: "edited")
    kept(counting(traces), "a")(inputs, counter())
    assert len(traces) == 3
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 5_000, None])
def test_one_that_is_torn_is_traced_anew(folder: Path, content: bytes | None) -> None:
    traces: list[int] = []
    inputs = {"x": np.ones(4, np.float32)}
    kept(counting(traces), "a")(inputs, counter())
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] if content is None else content)
    state, _ = kept(counting(traces), "a")(inputs, counter())
    np.testing.assert_array_equal(state.value, np.full(3, 8.0))
    assert len(traces) == 2
    kept(counting(traces), "a")(inputs, counter())
    assert len(traces) == 2  # it is whole again


def test_what_has_no_lasting_name_is_not_kept(folder: Path) -> None:
    traces: list[int] = []
    inputs = {"x": np.ones(4, np.float32), "made": lambda x: x}
    state, _ = kept(counting(traces), "a")(inputs, counter())
    np.testing.assert_array_equal(state.value, np.full(3, 8.0))
    assert not folder.exists()


def test_without_a_place_to_write_it_works_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "below", None):
        monkeypatch.setattr(kept_programs, "_folder", lambda place=place: place)
        state, _ = kept(counting([]), "a")({"x": np.ones(4, np.float32)}, counter())
        np.testing.assert_array_equal(state.value, np.full(3, 8.0))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_training_step_that_was_read_gives_the_same_bits(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = []
    for place in (folder, folder, None):
        monkeypatch.setattr(kept_programs, "_folder", lambda place=place: place)
        build_step.cache_clear()
        step = build_step(TRAINING, CuriositySettings(), "explore", 8)  # pyright: ignore[reportArgumentType]
        state = initial_state(tiny.agent(stage="explore", curious=True), TRAINING)
        for seed in (1, 2):
            state, metrics = step(state, tiny.batch(2, 3, 5, seed=seed), KEY)
        ends.append((bits(state), {name: float(value) for name, value in metrics.items()}))
    build_step.cache_clear()
    assert len(list(folder.iterdir())) == 1
    for arrays, metrics in ends[:2]:
        assert metrics == ends[2][1]
        for one, other in zip(arrays, ends[2][0], strict=True):
            np.testing.assert_array_equal(one, other)

"""Replay: contiguous sequences, uniform starts, dropped episodes, budgets, going back."""

from pathlib import Path

import numpy as np
import pytest

from stages.replay import GIB, Replay
from stages.settings import ReplaySettings

ROW = {
    "x": np.zeros(2, np.float32),
    "stream": np.int64(0),
    "is_first": np.bool_(False),
}
ITEM = 8 + 8 + 1  # bytes of a row
CHUNK = 8


def build(folder: Path, streams: int = 2, **settings: float) -> Replay:
    row = {name: np.asarray(value) for name, value in ROW.items()}
    return Replay(row, streams, ReplaySettings.model_validate({"chunk": CHUNK} | settings), folder)


def fill(replay: Replay, steps: int, begin: int = 0, episode: int = 10) -> None:
    """Rows whose `x` is (number of the row, its double)."""
    number = len(replay.streams)
    for t in range(begin, begin + steps):
        rows = {
            "x": np.tile(np.float32([t, 2 * t]), (number, 1)),
            "stream": np.arange(number),
            "is_first": np.full(number, t % episode == 0),
        }
        replay.append(rows, np.zeros(number, bool))


def test_sequences_are_contiguous_across_chunks_and_episodes(tmp_path: Path) -> None:
    replay = build(tmp_path)
    fill(replay, 50)
    batch = replay.sample(np.random.default_rng(0), (5, 20), 13)
    assert batch["x"].shape == (5, 20, 13, 2)
    assert batch["is_first"].dtype == bool
    steps = batch["x"][..., 0]
    np.testing.assert_array_equal(np.diff(steps, axis=-1), 1)
    np.testing.assert_array_equal(batch["x"][..., 1], 2 * steps)
    np.testing.assert_array_equal(batch["is_first"], steps % 10 == 0)
    assert (batch["stream"] == batch["stream"][..., :1]).all()
    assert {0, 1} == set(batch["stream"].ravel())


def test_starts_are_uniform_over_all_rows(tmp_path: Path) -> None:
    replay = build(tmp_path)
    fill(replay, 29)
    batch = replay.sample(np.random.default_rng(0), (4000,), 5)
    counts = np.zeros((2, 25))
    np.add.at(counts, (batch["stream"][:, 0], batch["x"][:, 0, 0].astype(int)), 1)
    assert counts.shape == (2, 25)
    expected = 4000 / 50
    # chi-squared with 49 degrees of freedom is below 100 but for 2 in 100 000
    assert (np.square(counts - expected) / expected).sum() < 100


def test_too_short_a_stream_cannot_be_drawn_from(tmp_path: Path) -> None:
    replay = build(tmp_path)
    fill(replay, 4)
    assert replay.ready(4)
    assert not replay.ready(5)
    with pytest.raises(ValueError, match="no sequence of 5 steps"):
        replay.sample(np.random.default_rng(0), (1,), 5)


def test_a_dropped_episode_is_never_drawn(tmp_path: Path) -> None:
    replay = build(tmp_path, streams=1)
    fill(replay, 25)  # the third episode breaks off after five rows
    rows = {"x": np.float32([[25, 50]]), "stream": np.array([0]), "is_first": np.array([True])}
    replay.append(rows, np.array([True]))
    fill(replay, 24, begin=26, episode=1000)
    seen = replay.sample(np.random.default_rng(0), (2000,), 4)["x"][..., 0]
    assert set(range(20, 25)).isdisjoint(seen.ravel().astype(int))
    assert {*range(20), *range(25, 50)} == set(seen.ravel().astype(int))


def test_memory_spills_to_files_within_its_budget(tmp_path: Path) -> None:
    budget = 6 * CHUNK * ITEM
    replay = build(tmp_path, memory_gib=budget / GIB)
    for begin in range(0, 200):
        fill(replay, 1, begin=begin)
        assert replay.bytes_in_memory() <= budget
    assert len(replay) == 400
    assert len(list(tmp_path.glob("*.npy"))) >= 2 * 25 - 6
    steps = replay.sample(np.random.default_rng(0), (500,), 9)["x"][..., 0]
    np.testing.assert_array_equal(np.diff(steps, axis=-1), 1)
    assert steps.min() < CHUNK  # what was spilled is still drawn


def test_past_the_disk_budget_the_oldest_go(tmp_path: Path) -> None:
    chunk = CHUNK * ITEM
    replay = build(tmp_path, memory_gib=4 * chunk / GIB, disk_gib=6 * chunk / GIB)
    fill(replay, 200)
    assert len(replay) <= 10 * CHUNK
    steps = replay.sample(np.random.default_rng(0), (500,), 9)["x"][..., 0]
    np.testing.assert_array_equal(np.diff(steps, axis=-1), 1)
    assert steps.min() >= 200 - 5 * CHUNK
    assert steps.max() == 199
    replay.forget_gone()
    assert len(list(tmp_path.glob("*.npy"))) <= 6


def test_files_that_a_checkpoint_needs_stay_until_the_next(tmp_path: Path) -> None:
    chunk = CHUNK * ITEM
    replay = build(tmp_path, memory_gib=4 * chunk / GIB, disk_gib=6 * chunk / GIB)
    fill(replay, 40)
    table, tails = replay.state()
    fill(replay, 80, begin=40)
    again = build(tmp_path, memory_gib=4 * chunk / GIB, disk_gib=6 * chunk / GIB)
    again.restore(table, tails)
    assert len(again) == sum(s["length"] - s["base"] * CHUNK for s in table["streams"])


def test_going_back_loses_nothing_and_removes_what_came_later(tmp_path: Path) -> None:
    replay = build(tmp_path)
    fill(replay, 29)
    table, tails = replay.state()
    want = replay.sample(np.random.default_rng(3), (50,), 6)
    files = set(tmp_path.glob("*.npy"))
    assert len(files) == 2 * 3
    fill(replay, 30, begin=29)
    replay.state()
    assert len(set(tmp_path.glob("*.npy"))) == 2 * 7
    again = build(tmp_path)
    again.restore(table, tails)
    assert set(tmp_path.glob("*.npy")) == files
    for name, value in again.sample(np.random.default_rng(3), (50,), 6).items():
        np.testing.assert_array_equal(value, want[name])
    # and it goes on as the first would have
    fill(again, 30, begin=29)
    later = again.sample(np.random.default_rng(4), (50,), 6)
    for name, value in replay.sample(np.random.default_rng(4), (50,), 6).items():
        np.testing.assert_array_equal(value, later[name])


def test_another_row_is_refused(tmp_path: Path) -> None:
    replay = build(tmp_path)
    fill(replay, 9)
    table, tails = replay.state()
    other = Replay({"y": np.zeros(3)}, 2, replay.settings, tmp_path)
    with pytest.raises(ValueError, match="expected"):
        other.restore(table, tails)

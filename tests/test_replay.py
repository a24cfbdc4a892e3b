"""Replay: contiguous sequences, uniform starts, dropped episodes, budgets, going back."""

import resource
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stages.replay import GIB, Replay, ReplayError
from stages.settings import ReplaySettings

ROW = {
    "x": np.zeros(2, np.float32),
    "stream": np.int64(0),
    "is_first": np.bool_(False),
}
ITEM = 8 + 8 + 1  # bytes of a row
CHUNK = 8


def build(folder: Path, streams: int = 2, ahead: int = 1, **changes: float) -> Replay:
    row = {name: np.asarray(value) for name, value in ROW.items()}
    chosen = ReplaySettings.model_validate({"chunk": CHUNK} | changes)
    return Replay(row, streams, chosen, folder, ahead)


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
    later = replay.sample(np.random.default_rng(4), (50,), 6)
    again = build(tmp_path)
    again.restore(table, tails)
    assert set(tmp_path.glob("*.npy")) == files
    for name, value in again.sample(np.random.default_rng(3), (50,), 6).items():
        np.testing.assert_array_equal(value, want[name])
    # and it goes on as the first would have
    fill(again, 30, begin=29)
    for name, value in again.sample(np.random.default_rng(4), (50,), 6).items():
        np.testing.assert_array_equal(value, later[name])


def test_another_row_is_refused(tmp_path: Path) -> None:
    replay = build(tmp_path)
    fill(replay, 9)
    table, tails = replay.state()
    other = Replay({"y": np.zeros(3)}, 2, replay.settings, tmp_path)
    with pytest.raises(ValueError, match="expected"):
        other.restore(table, tails)


def rows_on_disk(folder: Path) -> int:
    """Bytes of rows in files, whatever they are called."""
    return sum(CHUNK * ITEM for path in folder.iterdir())


def everything(replay: Replay) -> list[list[float]]:
    """The first number of every row that can be drawn, stream by stream."""
    streams = []
    for stream in replay.streams:
        rows = np.empty(stream.length - replay._first(stream), replay.dtype)
        assert replay._copy(stream, replay._first(stream), rows)
        streams.append(rows["x"][:, 0].tolist())
    return streams


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(streams=1, memory=2, disk=21, ahead=8, calls=12, events=["rows"] * 4)
@given(
    streams=st.integers(1, 3),
    memory=st.integers(0, 4),
    disk=st.integers(0, 24),
    ahead=st.integers(1, 11),
    calls=st.integers(1, 12),
    events=st.lists(st.sampled_from(["rows", "save", "kill", "damage"]), min_size=8, max_size=24),
)
def test_no_budget_is_ever_passed_and_checkpoints_change_nothing(
    streams: int, memory: int, disk: int, ahead: int, calls: int, events: list[str]
) -> None:
    """Whatever comes: within budgets, the last checkpoint restores, the same rows are held."""
    rush = streams * -(-ahead // CHUNK)
    budgets = {
        "memory_gib": (streams + memory) * CHUNK * ITEM / GIB,
        "disk_gib": (2 * streams + rush + disk) * CHUNK * ITEM / GIB,
    }

    with TemporaryDirectory() as one, TemporaryDirectory() as two:
        undisturbed = build(Path(two), streams, ahead, **budgets)
        replay = build(Path(one), streams, ahead, **budgets)
        replay.check(CHUNK)
        saved = [(*replay.state(), 0)]
        count = 0

        def within() -> None:
            assert replay.bytes_in_memory() <= budgets["memory_gib"] * GIB
            assert rows_on_disk(Path(one)) <= budgets["disk_gib"] * GIB

        def save() -> None:
            saved.append((*replay.state(), count))
            within()
            replay.forget_gone(keep_previous=True)
            del saved[:-2]

        for event in events:
            if event == "rows":
                for _ in range(calls):
                    for begin in range(count, count + ahead):
                        fill(replay, 1, begin=begin)
                        within()
                    count += ahead
                    if replay.crowded:
                        save()
            elif event == "save":
                save()
            else:
                replay = build(Path(one), streams, ahead, **budgets)
                if event == "damage" and len(saved) == 2:  # back to the one before, if it is whole
                    try:
                        replay.restore(*saved[0][:2], others=[saved[1][0]])
                        del saved[1]
                    except ReplayError:
                        replay.restore(*saved[1][:2], others=[saved[0][0]])
                else:
                    replay.restore(*saved[-1][:2], others=[table for table, *_ in saved[:-1]])
                count = saved[-1][2]
            within()
        fill(undisturbed, count)
        assert everything(replay) == everything(undisturbed)


def test_too_small_a_budget_is_refused_with_the_least_one(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match=r"replay.disk_gib = 1e-07 is too small for 2 environm"):
        build(tmp_path, disk_gib=1e-7).check(30)
    with pytest.raises(ReplayError, match=r"replay.memory_gib = .* with replay.chunk = 8: set it "):
        build(tmp_path, memory_gib=1e-7).check(30)
    build(tmp_path).check(30)


def test_many_chunks_cost_no_descriptors(tmp_path: Path) -> None:
    replay = build(tmp_path, memory_gib=4 * CHUNK * ITEM / GIB)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        fill(replay, 100 * CHUNK)
        steps = replay.sample(np.random.default_rng(0), (500,), 9)["x"][..., 0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    np.testing.assert_array_equal(np.diff(steps, axis=-1), 1)


@pytest.mark.parametrize("how", ["missing", "cut off", "flipped"])
def test_a_damaged_file_is_named_and_nothing_is_changed(tmp_path: Path, how: str) -> None:
    replay = build(tmp_path)
    fill(replay, 29)
    state = replay.state()
    fill(replay, 20, begin=29)
    replay.state()
    before = set(tmp_path.iterdir())
    victim = tmp_path / "stream-0001-chunk-000001.npy"
    if how == "missing":
        victim.unlink()
        before.remove(victim)
    elif how == "cut off":
        victim.write_bytes(victim.read_bytes()[:-1])
    else:
        content = bytearray(victim.read_bytes())
        content[-5] ^= 4
        victim.write_bytes(content)
    said = r"chunk-000001.npy: (is missing|has .* instead of|is damaged)"
    with pytest.raises(ReplayError, match=said):
        build(tmp_path).restore(*state)
    assert set(tmp_path.iterdir()) == before

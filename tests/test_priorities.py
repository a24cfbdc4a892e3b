"""Prioritised replay: chances and weights by hand, what is new, what is gone, going back."""

import json
from pathlib import Path

import numpy as np
import pytest

from stages.batches import Batches
from stages.priorities import LEAST, Drawn, Priorities
from stages.replay import Replay
from stages.settings import ReplaySettings, TrainingSettings
from tests.test_replay import build, fill

ALL = [np.ones(2, bool), np.ones(3, bool)]  # two sequences of one stream, three of the other
KNOWN = Drawn(np.array([0, 0, 1, 1, 1]), np.array([4, 5, 0, 1, 2]), np.ones(5))
ERRORS = np.float32([1.0, 4.0, 2.0, 0.0, 9.0])


def priorities(alpha: float = 1.0, beta: float = 1.0, errors: np.ndarray = ERRORS) -> Priorities:
    made = Priorities(2, ReplaySettings(priority=alpha, importance=beta))
    made.draw(np.random.default_rng(0), 1, [4, 0], ALL)
    made.learnt(KNOWN, errors)
    return made


def shares(drawn: Drawn) -> np.ndarray:
    """How often each of the five was drawn."""
    index = np.where(drawn.stream == 0, drawn.start - 4, drawn.start + 2)
    return np.bincount(index, minlength=5) / len(index)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 0.4), (2.0, 0.0)])
def test_chances_and_weights_by_hand(alpha: float, beta: float) -> None:
    drawn = priorities(alpha, beta).draw(np.random.default_rng(1), 40_000, [4, 0], ALL)
    mass = np.array([1.0, 4.0, 2.0, LEAST, 9.0]) ** alpha
    chance = mass / mass.sum()
    np.testing.assert_allclose(shares(drawn), chance, atol=0.01)
    index = np.where(drawn.stream == 0, drawn.start - 4, drawn.start + 2)
    np.testing.assert_allclose(drawn.weight, (5 * chance[index]) ** -beta, rtol=1e-5)


def test_what_was_never_learnt_from_counts_as_the_worst_that_was() -> None:
    made = priorities()
    more = [np.ones(3, bool), np.ones(3, bool)]  # one more row came in the first stream
    drawn = made.draw(np.random.default_rng(1), 40_000, [4, 0], more)
    new = (drawn.stream == 0) & (drawn.start == 6)
    assert new.mean() == pytest.approx(9.0 / 25.0, abs=0.01)
    np.testing.assert_allclose(drawn.weight[new], 25.0 / (6 * 9.0), rtol=1e-4)
    made.learnt(Drawn(np.array([0]), np.array([6]), np.ones(1)), np.float32([0.5]))
    again = made.draw(np.random.default_rng(1), 40_000, [4, 0], more)
    share = ((again.stream == 0) & (again.start == 6)).mean()
    assert share == pytest.approx(0.5 / 16.5, abs=0.01)


def test_where_nothing_is_known_all_are_drawn_alike() -> None:
    made = Priorities(2, ReplaySettings(priority=1.0))
    drawn = made.draw(np.random.default_rng(1), 40_000, [4, 0], ALL)
    np.testing.assert_allclose(shares(drawn), 0.2, atol=0.01)
    np.testing.assert_allclose(drawn.weight, 1.0, rtol=1e-6)


def test_the_last_error_of_a_sequence_counts_and_one_that_is_gone_is_forgotten() -> None:
    made = priorities()
    made.draw(np.random.default_rng(0), 1, [5, 0], ALL)  # row 4 is gone, row 6 came
    late = Drawn(np.array([0, 0, 0]), np.array([4, 5, 5]), np.ones(3))
    made.learnt(late, np.float32([7.0, 6.0, 5.0]))
    drawn = made.draw(np.random.default_rng(0), 40_000, [5, 0], ALL)
    mine = drawn.start[drawn.stream == 0]
    expected = [5.0 / 25.0, 9.0 / 25.0]  # the other stream has 2, nothing and 9
    found = [(mine == row).sum() / 40_000 for row in (5, 6)]
    np.testing.assert_allclose(found, expected, atol=0.01)


def prioritised(folder: Path) -> Replay:
    return build(folder, priority=1.0)


def test_sequences_by_priority_are_whole_and_none_is_of_a_dropped_episode(tmp_path: Path) -> None:
    replay = prioritised(tmp_path)
    fill(replay, 25)  # the third episode breaks off after five rows
    rows = {"x": np.float32([[25, 50]] * 2), "stream": np.arange(2), "is_first": np.ones(2, bool)}
    replay.append(rows, np.array([True, False]))
    fill(replay, 24, begin=26, episode=1000)
    batch, drawn = replay.sample_by_priority(np.random.default_rng(0), (30, 100), 4)
    assert batch["x"].shape == (30, 100, 4, 2)
    np.testing.assert_array_equal(batch["stream"], drawn.stream[..., None].repeat(4, -1))
    steps = batch["x"][..., 0]
    np.testing.assert_array_equal(steps, drawn.start[..., None] + np.arange(4))
    for stream, without in ((0, set(range(20, 25))), (1, set())):
        seen = set(steps[drawn.stream == stream].ravel().astype(int))
        assert seen == set(range(50)) - without
    assert set(drawn.start[drawn.stream == 0].ravel()) == {*range(17), *range(25, 47)}
    replay.learnt(drawn, np.where(drawn.start == 40, 1.0, 0.0).astype(np.float32))
    _, again = replay.sample_by_priority(np.random.default_rng(1), (500,), 4)
    assert (again.start == 40).mean() > 0.9


def test_too_short_a_replay_cannot_be_drawn_from(tmp_path: Path) -> None:
    replay = prioritised(tmp_path)
    with pytest.raises(ValueError, match="no sequence"):
        replay.sample_by_priority(np.random.default_rng(0), (1,), 5)


def test_going_back_brings_the_errors_back(tmp_path: Path) -> None:
    replay, rng = prioritised(tmp_path), np.random.default_rng(0)
    fill(replay, 29)
    _, drawn = replay.sample_by_priority(rng, (30,), 6)
    replay.learnt(drawn, rng.random(30, np.float32))
    table, tails = replay.state()
    table = json.loads(json.dumps(table))
    want, which = replay.sample_by_priority(np.random.default_rng(3), (50,), 6)
    again = prioritised(tmp_path)
    again.restore(table, tails)
    found, same = again.sample_by_priority(np.random.default_rng(3), (50,), 6)
    np.testing.assert_array_equal(found["x"], want["x"])
    np.testing.assert_array_equal(same.weight, which.weight)
    assert len(np.unique(which.weight)) > 5  # else the errors were of no matter


def test_a_uniform_replay_keeps_no_errors(tmp_path: Path) -> None:
    replay = build(tmp_path)
    assert replay.priorities is None
    assert "priorities" not in replay.state()[0]


def test_rehearsed_sequences_weigh_one(tmp_path: Path) -> None:
    def filled(folder: Path) -> Replay:
        replay = Replay(row, 1, ReplaySettings(chunk=8, priority=1.0), folder)
        for step in range(20):
            rows = {name: value[None] for name, value in row.items()}
            rows |= {"is_first": np.array([step == 0]), "action": np.full((1, 1), step)}
            replay.append(rows, np.zeros(1, bool))
        return replay

    row = {"action": np.zeros(1, np.float32)}
    row |= {"is_first": np.zeros((), bool), "is_last": np.zeros((), bool)}
    own, other = filled(tmp_path / "own"), filled(tmp_path / "other")
    training = TrainingSettings(batch_size=4, batch_length=3, updates_per_call=2)
    batches = Batches(training, 0, other, share=0.25)
    _, drawn = batches.draw(own, 0)
    assert drawn is not None
    assert drawn.weight.shape == (2, 3)
    own.learnt(drawn, np.float32([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    found, drawn = batches.draw(own, 1)
    assert drawn is not None
    np.testing.assert_array_equal(found["weight"][:, :3], drawn.weight)
    np.testing.assert_array_equal(found["weight"][:, 3], 1.0)
    assert (found["weight"][:, :3] != 1.0).any()
    np.testing.assert_array_equal(found["action"][:, :3, 0, 0], drawn.start)

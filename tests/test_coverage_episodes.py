"""Coverage of a grid, and episodes summed up from rows."""

from dataclasses import replace

import numpy as np
import pytest

from stages.coverage import Coverage
from stages.episodes import EpisodeCounter, metric_value
from tests import tiny


def test_coverage_counts_cells_once() -> None:
    coverage = Coverage(2)
    coverage.add(np.array([[0.0, 0.0], [0.01, 0.04], [1.0, 1.0], [-3.0, 0.5]]))
    assert coverage.share() == pytest.approx(3 / 400)
    coverage.add(np.array([[0.02, 0.02]]))
    assert coverage.share() == pytest.approx(3 / 400)
    grid = (np.stack(np.meshgrid(range(20), range(20)), -1).reshape(-1, 2) + 0.5) / 20
    coverage.add(grid)
    assert coverage.share() == 1.0
    space = Coverage(3)
    space.add(np.array([[0.5, 0.5, 0.5]]))
    assert space.share() == pytest.approx(1 / 1000)


def rows(**values: list[float]) -> dict[str, np.ndarray]:
    base = {"reward": [0, 0], "is_first": [0, 0], "is_last": [0, 0], "success": [0, 0]}
    table = {name: np.asarray(value) for name, value in (base | values).items()}
    moved = np.zeros((2, 2))
    return table | {"log/moved": moved, "log/achievements": np.array([[0.0, 2.0]] * 2)}


def test_episodes_are_summed_until_they_end() -> None:
    spec = replace(tiny.task_spec(), objects=("cup", "ball"), achievements=("eat", "drink"))
    counter = EpisodeCounter(spec, 2)
    assert counter.add(rows(is_first=[1, 1], reward=[9, 9])) == []  # no step led here
    assert counter.add(rows(reward=[1, 10], success=[1, 0])) == []
    resumed = EpisodeCounter(spec, 2)
    resumed.restore(counter.state())
    last = rows(reward=[2, 20], is_last=[1, 0])
    last["log/moved"] = np.array([[0.0, 1.0], [0.0, 0.0]])
    expected = {
        "environment": 0,
        "return": 3.0,
        "success": 1,
        "length": 2,
        "moved": ["ball"],
        "achievements": {"drink": 2},
    }
    assert counter.add(last) == [expected]
    assert resumed.add(last) == [expected]
    # a fault begins the second environment's episode anew, and the first one's starts at nothing
    assert counter.add(rows(is_first=[1, 1])) == []
    done = counter.add(rows(reward=[5, 7], is_last=[1, 1]))
    assert [record["return"] for record in done] == [5.0, 7.0]
    assert [record["success"] for record in done] == [0, 0]
    assert [record["length"] for record in done] == [1, 1]


def test_the_value_is_the_tasks_metric() -> None:
    record = {"return": 3.5, "success": 1}
    spec = tiny.task_spec()
    assert metric_value(spec, record) == 3.5
    assert metric_value(replace(spec, metric="success"), record) == 1.0
    assert metric_value(replace(spec, metric="score"), record) is None

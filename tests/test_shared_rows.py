"""Memory that a worker and the trainer map alike."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from tasks import registry
from tasks.group import Fault, Group, Rows, empty_rows
from tasks.settings import TaskOptions
from tasks.shared_rows import SharedRows, memory_file
from tasks.vector import make_vector
from tasks.worker import _Served


@pytest.mark.parametrize(
    ("name", "masked"), [("desk/reach", False), ("maze/ghost", False), ("maze/ghost", True)]
)
def test_both_sides_see_the_same(name: str, masked: bool):
    spec, number = replace(registry.spec(name, TaskOptions()), masked=masked), 3
    with memory_file(spec, number) as file:
        ours, theirs = (SharedRows(file.fileno(), spec, number) for _ in range(2))
    random = np.random.default_rng(0)
    rows = {
        key: random.integers(0, 2, array.shape).astype(array.dtype)
        for key, array in empty_rows(spec, number).items()
    }
    theirs.write(rows)
    ours.actions[...] = random.integers(0, 2, ours.actions.shape)
    ours.progress[0] = 300  # more environments than a byte can tell
    assert ours.rows.keys() == rows.keys()
    for key, values in rows.items():
        assert ours.rows[key].dtype == values.dtype
        assert np.array_equal(ours.rows[key], values), key
    assert np.array_equal(theirs.actions, ours.actions)
    assert theirs.progress[0] == 300


def test_a_simulator_may_keep_its_action():
    spec = registry.spec("desk/reach", TaskOptions())
    with memory_file(spec, 1) as file:
        shared = SharedRows(file.fileno(), spec, 1)

    class Keeping(Group):
        kept: np.ndarray | None = None

        def run(
            self, actions: np.ndarray | None, resets: Mapping[int, int]
        ) -> tuple[Rows, list[Fault]]:
            self.kept = actions
            return empty_rows(spec, 1), []

    group = Keeping(spec.name, TaskOptions(), spec, 1)
    served = _Served(group, shared)
    shared.actions[...] = 0.25
    served.run(True, {})
    shared.actions[...] = -0.5
    assert group.kept is not None
    assert (group.kept == 0.25).all()


def test_a_worker_may_have_more_than_255_environments():
    vector = make_vector("desk/reach", TaskOptions(), list(range(260)), 1, 60.0)
    try:
        assert vector.reset()["is_first"].all()
    finally:
        vector.close()

"""Batched stepping: the same data whoever steps, exact restoring, and every kind of fault."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tasks.group import Rows
from tasks.pool import Pool, _one_core_each
from tasks.rendering import choose_gl
from tasks.settings import TaskOptions
from tasks.vector import TaskFault, Vector, make_vector

OPTIONS = TaskOptions()
FAULTY = """
import os, time
import gymnasium, numpy as np
from gymnasium.spaces import Box

RAISE, BAD_STATE, BAD_REWARD, HANG, DIE = range(5)


class Faulty(gymnasium.Env):
    '''Counts steps; a large first action names a fault by the second, in fifths.'''

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Box(-1, 1, (2,), np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.x = 0, self.np_random.uniform()
        return np.array([self.t, self.x], np.float32), {}

    def step(self, action):
        self.t += 1
        state, reward = np.array([self.t, self.x], np.float32), 0.5
        fault = int((action[1] + 1) / 0.4) if action[0] > 0.9 else None
        if fault == RAISE:
            raise ValueError("the gripper is stuck")
        if fault == HANG:
            time.sleep(1000)
        if fault == DIE:
            os._exit(3)
        if fault == BAD_STATE:
            state[0] = np.nan
        if fault == BAD_REWARD:
            reward = np.inf
        return state, reward, self.t >= 30, False, {"success": self.t >= 30}


class Broken(Faulty):
    def step(self, action):
        raise OSError("no licence")
"""
RAISE, BAD_STATE, BAD_REWARD, HANG, DIE = (np.array([1, -0.8 + 0.4 * k]) for k in range(5))

Make = Callable[..., Vector]


@pytest.fixture
def make() -> Iterator[Make]:
    """`make_vector`, closed at the end."""
    made: list[Vector] = []

    def build(name: str, number: int = 4, workers: int = 0, **settings: object) -> Vector:
        seeds = list(range(number))
        made.append(make_vector(name, OPTIONS, seeds, workers, **settings))  # pyright: ignore
        return made[-1]

    yield build
    for vector in made:
        vector.close()


@pytest.fixture
def faulty(tmp_path: Path) -> str:
    (tmp_path / "faulty.py").write_text(FAULTY)
    return f"{tmp_path / 'faulty.py'}:Faulty"


def actions_of(vector: Vector, steps: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    if vector.spec.action.kind == "discrete":
        return random.integers(vector.spec.action.size, size=(steps, vector.number))
    return random.uniform(-1, 1, (steps, vector.number, vector.spec.action.size))


def same(one: Rows, other: Rows) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("name", ["desk/push_left:sparse", "gymnasium:CartPole-v1", "maze/ghost"])
def test_data_do_not_depend_on_the_workers(make: Make, name: str):
    histories = []
    for workers in (0, 2):
        vector = make(name, 3, workers)
        steps = [vector.reset(), *(vector.step(a) for a in actions_of(vector, 130))]
        histories.append(steps)
    for one, *others in zip(*histories, strict=True):
        assert all(same(one, other) for other in others)
    assert sum(rows["is_last"].sum() for rows in histories[0]) > 0


def test_rows_have_the_types_of_the_contract(make: Make):
    vector = make("desk/reach", 3)
    rows = vector.reset()
    types = {key: (str(value.dtype), value.shape) for key, value in rows.items()}
    assert types == {
        "state": ("float32", (3, 15)),
        "log/position": ("float32", (3, 2)),
        "log/moved": ("float32", (3, 3)),
        "reward": ("float32", (3,)),
        **dict.fromkeys(("is_first", "is_last", "is_terminal", "success", "fault"), ("bool", (3,))),
    }


def test_an_episode_ends_and_the_next_begins(make: Make):
    vector = make("desk/reach", 2)
    first = vector.reset()
    assert first["is_first"].all()
    for action in actions_of(vector, 100):
        rows = vector.step(action)
        assert not rows["is_first"].any()
    assert rows["is_last"].all()
    assert not rows["is_terminal"].any(), "a time limit is no termination"
    fresh = vector.step(action)
    assert fresh["is_first"].all()
    assert (fresh["reward"] == 0).all()
    assert not np.array_equal(fresh["state"], first["state"]), "another start"


def test_a_termination_is_terminal(make: Make):
    vector = make("gymnasium:CartPole-v1", 1)
    vector.reset()
    for _ in range(60):
        rows = vector.step(np.ones(1, int))
        if rows["is_last"][0]:
            break
    assert rows["is_terminal"][0]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_rows_are_not_overwritten_by_later_steps(make: Make, workers: int):
    vector = make("desk/reach", 2, workers)
    rows = vector.reset()
    kept = rows["state"].copy()
    vector.step(np.ones((2, 2)))
    assert np.array_equal(rows["state"], kept)


@pytest.mark.parametrize(
    ("before", "after", "steps"),
    [*((0, 0, steps) for steps in (0, 37, 100)), (0, 2, 137), (2, 0, 137)],
)
def test_restoring_is_exact(make: Make, before: int, after: int, steps: int):
    vector = make("desk/push_right:sparse", 3, before)
    rows, actions = vector.reset(), actions_of(vector, steps + 80)
    for action in actions[:steps]:
        rows = vector.step(action)
    snapshot = vector.snapshot()
    other = make("desk/push_right:sparse", 3, after)
    assert same(other.restore(snapshot), rows)
    for action in actions[steps:]:
        assert same(vector.step(action), other.step(action))


def test_a_snapshot_is_plain_numbers_and_arrays(make: Make):
    vector = make("desk/reach", 2)
    vector.reset()
    vector.step(np.zeros((2, 2)))
    snapshot = vector.snapshot()
    actions = snapshot.pop("actions")
    assert [a.shape for a in actions] == [(1, 2), (1, 2)]
    assert json.loads(json.dumps(snapshot)) == snapshot


def test_a_snapshot_of_another_batch_is_refused(make: Make):
    snapshot = make("desk/reach", 2).snapshot()
    with pytest.raises(ValueError, match="2 environments of desk/reach"):
        make("desk/reach", 3).restore(snapshot)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("action", "cause"),
    [
        (RAISE, "ValueError: the gripper is stuck"),
        (BAD_STATE, "state is not a finite number"),
        (BAD_REWARD, "reward is not a finite number"),
    ],
)
def test_a_failing_environment_loses_its_episode_only(
    make: Make,
    faulty: str,
    caplog: pytest.LogCaptureFixture,
    workers: int,
    action: np.ndarray,
    cause: str,
):
    vector = make(faulty, 4, workers)
    vector.reset()
    actions = np.zeros((4, 2))
    vector.step(actions)
    actions[2] = action
    with caplog.at_level(logging.WARNING, "craik.tasks"):
        rows = vector.step(actions)
    assert rows["fault"].tolist() == [False, False, True, False]
    assert rows["is_first"].tolist() == [False, False, True, False]
    assert rows["state"][:, 0].tolist() == [2, 2, 0, 2]
    assert rows["reward"].tolist() == [0.5, 0.5, 0, 0.5]
    (line,) = vector.faults
    assert caplog.messages == [line]
    assert line.startswith(f"task {faulty}: environment 2 (seed 2, episode 0 from reset seed ")
    assert f"step 2) was abandoned: {cause}" in line
    assert "\n" not in line
    after = vector.step(np.zeros((4, 2)))
    assert not after["fault"].any()
    assert after["state"][:, 0].tolist() == [3, 3, 1, 3]


@pytest.mark.parametrize(
    ("action", "cause"),
    [(HANG, "worker 1 hung: no answer for 1 s"), (DIE, "worker 1 died (exit code 3)")],
)
def test_a_lost_worker_is_replaced(make: Make, faulty: str, action: np.ndarray, cause: str):
    vector = make(faulty, 4, 2, timeout=1.0)
    vector.reset()
    actions = np.zeros((4, 2))
    actions[3] = action
    rows = vector.step(actions)
    assert rows["fault"].tolist() == [False, False, True, True]
    assert rows["state"][:, 0].tolist() == [1, 1, 0, 0]
    (line,) = vector.faults
    assert "environment 3 (seed 3, episode 0 from reset seed " in line
    assert f"step 1) was abandoned: {cause}; also dropped: environments 2" in line
    rows = vector.step(np.zeros((4, 2)))
    assert not rows["fault"].any()
    assert rows["state"][:, 0].tolist() == [2, 2, 1, 1]


def test_a_worker_killed_between_steps_is_replaced(make: Make):
    vector = make("desk/reach", 2, 2)
    vector.reset()
    assert isinstance(vector._backend, Pool)
    victim = vector._backend.pids[0]
    os.kill(victim, signal.SIGKILL)
    rows = vector.step(np.zeros((2, 2)))
    assert rows["fault"].tolist() == [True, False]
    assert "died (signal 9)" in vector.faults[0]
    assert victim not in vector._backend.pids


def test_restoring_keeps_a_fault_row(make: Make, faulty: str):
    vector = make(faulty, 2)
    vector.reset()
    rows = vector.step(np.array([RAISE, np.zeros(2)]))
    assert same(make(faulty, 2).restore(vector.snapshot()), rows)


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_faults_end_the_run(make: Make, faulty: str, workers: int):
    broken = faulty.replace(":Faulty", ":Broken")
    vector = make(broken, 1, workers, max_faults=4)
    vector.reset()
    for _ in range(3):
        vector.step(np.zeros((1, 2)))
    with pytest.raises(TaskFault, match=r"4 faults within 1000 steps.*OSError: no licence"):
        vector.step(np.zeros((1, 2)))
    assert len(vector.faults) == 4


def test_rare_faults_do_not_end_the_run(make: Make, faulty: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tasks.vector.FAULT_WINDOW", 10)
    vector = make(faulty, 1, max_faults=3)
    vector.reset()
    for step in range(60):
        vector.step(RAISE[None] if step % 8 == 7 else np.zeros((1, 2)))
    assert len(vector.faults) > 3


def test_wrong_actions_are_refused(make: Make):
    vector = make("desk/reach", 2)
    vector.reset()
    with pytest.raises(ValueError, match="2 actions"):
        vector.step(np.zeros((3, 2)))


@pytest.mark.parametrize("workers", [0, 2])
def test_oracle_actions(make: Make, workers: int):
    vector = make("desk/reach:sparse", 2, workers)
    vector.reset()
    for _ in range(99):
        rows = vector.step(vector.oracle_actions())
    assert rows["success"].all()
    with pytest.raises(ValueError, match="no scripted policy"):
        make("gymnasium:CartPole-v1").oracle_actions()


@pytest.mark.skipif(choose_gl() is None, reason="no OpenGL back end works here")
@pytest.mark.parametrize("workers", [0, 2])
def test_frames(make: Make, workers: int):
    vector = make("desk/reach", 2, workers)
    vector.reset()
    frames = vector.render()
    assert frames is not None
    assert (frames.shape, frames.dtype) == ((2, 200, 200, 3), np.uint8)
    assert not np.array_equal(frames[0], frames[1])


@pytest.mark.skipif(choose_gl() is None, reason="no OpenGL back end works here")
@pytest.mark.parametrize("name", ["desk/reach", "gymnasium:HalfCheetah-v5"])
def test_pictures_do_not_depend_on_the_calling_thread(name: str):
    options = TaskOptions(observe=("image",))
    histories = []
    with ThreadPoolExecutor(1) as other:
        for elsewhere in (False, True):
            vector = make_vector(name, options, [0, 1])
            call = (lambda *a: other.submit(*a).result()) if elsewhere else (lambda f, x: f(x))
            rows = [vector.reset(), *(call(vector.step, a) for a in actions_of(vector, 3))]
            vector.close()
            assert vector.faults == []
            histories.append(rows)
    assert all(same(one, two) for one, two in zip(*histories, strict=True))
    assert all(rows["image"].std() > 10 for rows in histories[1])


@pytest.mark.parametrize("workers", [0, 1])
def test_without_pictures_render_gives_none(make: Make, faulty: str, workers: int):
    vector = make(faulty, 1, workers)
    vector.reset()
    assert vector.render() is None
    assert not vector.step(np.zeros((1, 2)))["fault"].any()


def gone(pid: int, seconds: float) -> bool:
    """Does the process end within `seconds`? (A zombie has ended.)"""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


PARENT = """
import sys, threading, time
import numpy as np
from tasks.settings import TaskOptions
from tasks.vector import make_vector
name, hang = sys.argv[1], sys.argv[2] == "hang"
vector = make_vector(name, TaskOptions(), [0, 1], workers=2)
vector.reset()
print(*vector._backend.pids, flush=True)
if hang:
    vector.step(np.array([[1, 0.4], [1, 0.4]]))
time.sleep(1000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("state", ["idle", "hang"])
def test_nothing_outlives_a_killed_parent(faulty: str, state: str):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, faulty, state], stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        time.sleep(0.5)
        parent.kill()
    assert all(gone(pid, 15) for pid in pids)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_inherit_nothing_and_never_import_jax(make: Make, tmp_path: Path):
    with (tmp_path / "kept").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        vector = make("desk/reach", 1, 1)
        vector.reset()
        assert isinstance(vector._backend, Pool)
        (pid,) = vector._backend.pids
        links = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
        assert str(tmp_path / "kept") not in links
        assert "jaxlib" not in Path(f"/proc/{pid}/maps").read_text()


def test_closing_ends_the_workers(make: Make):
    vector = make("desk/reach", 2, 2)
    vector.reset()
    assert isinstance(vector._backend, Pool)
    pids = vector._backend.pids
    vector.close()
    assert all(gone(pid, 1) for pid in pids)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="affinity is Linux's")
def test_a_worker_stays_on_the_core_that_is_its_own(make: Make):
    vector = make("desk/reach", 2, 2)
    backend = vector._backend
    assert isinstance(backend, Pool)
    cores = sorted(os.sched_getaffinity(0))
    backend._cores = cores[:1] * 2  # as on a machine with one core that counts twice
    vector.reset()
    os.kill(backend.pids[0], signal.SIGKILL)
    vector.step(np.zeros((2, 2)))
    assert os.sched_getaffinity(backend.pids[0]) == {cores[0]}  # the one that replaced it
    assert os.sched_getscheduler(backend.pids[0]) == os.SCHED_BATCH


def test_cores_are_shared_out_only_if_they_are_as_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 3, 7}, raising=False)
    assert _one_core_each(3) == [3, 5, 7]
    assert _one_core_each(2) == []
    assert _one_core_each(4) == []

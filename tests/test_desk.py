"""The desk: its physics, rewards, starts and scripted policies."""

import math
import time

import numpy as np
import pytest

from tasks.desk import EPISODE, GOALS, STATE, WINDOW, Desk
from tasks.desk_geometry import PUCK_MIDDLE, tip_position
from tasks.desk_oracle import act
from tasks.registry import make
from tasks.rendering import choose_gl
from tasks.settings import TaskOptions

OPTIONS = TaskOptions()
TASKS = [task for task in GOALS if task != "free"]
needs_gl = pytest.mark.skipif(choose_gl() is None, reason="no OpenGL back end works here")


def desk(task: str, variant: str = "sparse", **options: object) -> Desk:
    env = make(f"desk/{task}:{variant}", TaskOptions(**options))  # pyright: ignore[reportArgumentType]
    assert isinstance(env, Desk), "the desk is stepped without wrappers"
    return env


def roll(env: Desk, seed: int, policy: str) -> tuple[float, bool, list[np.ndarray]]:
    """Return, success at the end, and states of one episode."""
    random = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    total, states, action, success = 0.0, [observation["state"]], np.zeros(2), False
    for step in range(EPISODE):
        if policy == "oracle":
            action = act(env)
        elif step % 4 == 0:
            action = random.uniform(-1, 1, 2)
        observation, reward, _, _, info = env.step(action)
        total, success = total + reward, info["success"]
        states.append(observation["state"])
    return total, success, states


def test_all_tasks_share_spaces():
    spaces = {(str(e.observation_space), str(e.action_space)) for e in map(desk, GOALS)}
    assert len(spaces) == 1


@pytest.mark.parametrize("task", TASKS)
def test_oracle_solves_the_task_and_random_does_not(task: str):
    for variant, floor in (("sparse", 55), ("dense", 60)):
        env = desk(task, variant)
        oracle = [roll(env, seed, "oracle") for seed in range(12)]
        random = [roll(env, seed, "random") for seed in range(12)]
        assert all(success for _, success, _ in oracle)
        returns = np.array([[r for r, *_ in oracle], [r for r, *_ in random]])
        assert returns[0].mean() > floor
        assert returns[0].mean() > returns[1].mean() + 35
        assert np.mean([success for _, success, _ in random]) < 0.2


def test_state_is_of_order_one():
    states = np.concatenate([roll(desk("free"), s, "random")[2] for s in range(20)])
    assert states.shape[1] == STATE
    assert np.abs(states).max() < 5
    spread = states.std(0)
    assert (spread[:12] > 0.05).all()  # every number of arm and puck varies
    assert (spread < 2).all()


def test_start_distribution():
    env = desk("free")
    starts = []
    for seed in range(300):
        env.reset(seed=seed)
        env._mujoco.mj_forward(env.model, env.data)
        assert env.data.ncon == 0, "the tip touches something at the start"
        starts.append(env.data.qpos.copy())
    low, high = np.min(starts, 0), np.max(starts, 0)
    puck = low[2] + PUCK_MIDDLE[0], high[2] + PUCK_MIDDLE[0]
    assert -1.6 <= low[0] < -1.4
    assert 1.4 < high[0] <= 1.6
    assert -2.4 <= low[1] < -2.2
    assert 2.2 < high[1] <= 2.4
    assert 0.25 <= puck[0] < 0.27
    assert 0.36 < puck[1] <= 0.38
    assert -0.08 <= low[3] < -0.07


def test_sparse_push_starts_near_zero_and_peaks_at_the_goal():
    env = desk("push_left")
    env.reset(seed=0)
    assert env.step(np.zeros(2))[1] < 0.01
    env.data.qpos[2:4] = np.subtract((0.22, 0.26), PUCK_MIDDLE)
    assert env.step(np.zeros(2))[1] == pytest.approx(1, abs=1e-3)
    env.data.qpos[3] += 0.08
    env.data.qvel[:] = 0
    assert env.step(np.zeros(2))[1] == pytest.approx(math.exp(-1), abs=0.01)


def test_success_judges_the_last_twenty_steps():
    env = desk("push_left", "dense")
    env.reset(seed=0)
    env.data.qpos[:2] = (-1.5, -1.0)  # the arm out of the way
    env.data.qpos[2:4] = np.subtract((0.22, 0.26), PUCK_MIDDLE)
    flags = [env.step(np.zeros(2))[4]["success"] for _ in range(WINDOW)]
    assert flags == [False] * (WINDOW - 1) + [True]
    env.data.qpos[3] = -0.3
    flags = [env.step(np.zeros(2))[4]["success"] for _ in range(12)]
    assert flags[:8] == [True] * 8
    assert not flags[-1], "more than half of the window is off the goal"


def test_free_pays_nothing():
    total, success, _ = roll(desk("free"), 0, "random")
    assert total == 0
    assert not success


def test_episode_is_truncated_not_terminated():
    env = desk("reach")
    env.reset(seed=0)
    ends = [env.step(np.zeros(2))[2:4] for _ in range(EPISODE)]
    assert ends == [(False, False)] * (EPISODE - 1) + [(False, True)]


def test_only_the_fingertip_touches():
    env = desk("push_right")
    tip = env.model.geom("tip").id
    touched = set()
    for seed in range(6):
        env.reset(seed=seed)
        for _ in range(EPISODE):
            env.step(act(env))
            for contact in env.data.contact[: env.data.ncon]:
                assert tip in contact.geom
                touched |= set(contact.geom.tolist())
    assert env.model.geom("puck").id in touched


@pytest.mark.parametrize(
    ("task", "index"), [("push_left", 0), ("open_drawer", 1), ("press_button", 2)]
)
def test_moved_names_the_object_and_starts_at_zero(task: str, index: int):
    env = desk(task)
    observation, _ = env.reset(seed=0)
    assert observation["log/moved"].tolist() == [0, 0, 0]
    for _ in range(EPISODE):
        observation, *_ = env.step(act(env))
    assert observation["log/moved"][index] == 1


def test_tip_position_is_the_simulators():
    env = desk("free")
    env.reset(seed=3)
    for _ in range(10):
        env.step(np.array([0.7, -0.4]))
    env._mujoco.mj_kinematics(env.model, env.data)
    tip = env.data.geom("tip").xpos[:2]
    assert tip_position(*env.data.qpos[:2].tolist()) == pytest.approx(tip.tolist())


def test_actions_beyond_the_bounds_are_clipped():
    states = []
    for scale in (1.0, 50.0):
        env = desk("free")
        env.reset(seed=1)
        states.append(env.step(scale * np.array([1.0, -1.0]))[0]["state"])
    assert np.array_equal(*states)


@needs_gl
def test_drawing_leaves_the_physics_alone():
    states = []
    for draws in (False, True):
        env = desk("push_left")
        env.reset(seed=2)
        for _ in range(40):
            observation, *_ = env.step(act(env))
            if draws:
                env.render()
        env.close()
        states.append(observation["state"])
    assert np.array_equal(*states)


@needs_gl
def test_pictures_show_the_goal_and_follow_the_options():
    pictures = {}
    for task in ("free", "push_left", "push_right"):
        env = desk(task, observe=("image",), image_size=48, video_size=96)
        pictures[task] = env.reset(seed=0)[0]["image"].astype(int)
        assert pictures[task].shape == (48, 48, 3)
        assert env.render().shape == (96, 96, 3)
        env.close()
    left, right = (np.abs(pictures[t] - pictures["free"]).sum(-1) for t in TASKS[1:3])
    middle = 24
    assert left[:, :middle].sum() > 10 * left[:, middle:].sum()
    assert right[:, middle:].sum() > 10 * right[:, :middle].sum()


def test_a_step_is_cheap():
    env = desk("push_left")
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (2000, 2))
    start = time.process_time()
    for action in actions:
        env.step(action)
    assert time.process_time() - start < 0.5  # 0.06 s on one core of 2026

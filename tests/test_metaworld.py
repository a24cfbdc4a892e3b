"""Meta-World: splits, goals by seed, hidden goals, lengths, scripted policies, upright pictures."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tasks import registry
from tasks.contract import TaskError
from tasks.metaworld import OPEN_SCENES, SUITE, MetaWorldEnv, make
from tasks.metaworld_splits import MIXES, SPLITS, TASKS
from tasks.rendering import choose_gl
from tasks.settings import TaskOptions

needs_gl = pytest.mark.skipif(choose_gl() is None, reason="no OpenGL here")
VISIBLE, HIDDEN = TaskOptions(), TaskOptions(goals="hidden")
IMAGE = TaskOptions(observe=("image", "state"))


def open_task(task: str, options: TaskOptions = VISIBLE, variant: str = "") -> MetaWorldEnv:
    env = make(task, variant, options)
    assert isinstance(env, MetaWorldEnv)
    return env


def rollout(env: MetaWorldEnv, seed: int, steps: int = 20) -> np.ndarray:
    observation, _ = env.reset(seed=seed)
    rows = [np.append(observation["state"], 0)]
    for action in np.random.default_rng(0).uniform(-1, 1, (steps, 4)):
        observation, reward, *_ = env.step(action)
        rows.append(np.append(observation["state"], reward))
    return np.stack(rows)


def test_splits_are_the_package_s() -> None:
    import metaworld.env_dict as package

    def names(tasks: tuple[str, ...]) -> list[str]:
        return [f"{task}-v3" for task in tasks]

    assert names(tuple(TASKS)) == list(package.ALL_V3_ENVIRONMENTS)
    assert names(SPLITS["mt10"]) == list(package.MT10_V3)
    assert names(SPLITS["ml10-train"]) == list(package.ML10_V3["train"])
    assert names(SPLITS["ml10-test"]) == list(package.ML10_V3["test"])
    assert set(names(SPLITS["ml45-train"])) == set(package.ML45_V3["train"])
    assert names(SPLITS["ml45-test"]) == list(package.ML45_V3["test"])
    assert len(SPLITS["mt50"]) == 50
    assert set(MIXES) == {"mt10-mix", "mt50-mix", "ml10-train-mix", "ml45-train-mix"}
    assert not set(SUITE.tasks) & set(SUITE.splits)


@pytest.mark.parametrize("task", ["drawer-open", "pick-place", "assembly", "window-close"])
def test_an_episode_is_a_function_of_its_seed(task: str) -> None:
    fresh, used = open_task(task), open_task(task)
    rollout(used, seed=1)
    rollout(used, seed=2)
    np.testing.assert_array_equal(rollout(fresh, seed=3), rollout(used, seed=3))
    assert np.abs(rollout(fresh, seed=4) - rollout(fresh, seed=3)).max() > 1e-3


def test_goals_are_fifty_and_differ_between_the_sets() -> None:
    train, test = open_task("reach"), open_task("reach", variant="test-goals")
    seen: dict[str, set[tuple[float, ...]]] = {"train": set(), "test": set()}
    for name, env in {"train": train, "test": test}.items():
        for variation in range(50):
            env.reset(seed=0)
            env.scene.start(env._goals, variation)
            seen[name].add(tuple(env.scene.state()[-3:].tolist()))
    assert len(seen["train"]) == len(seen["test"]) == 50
    assert not seen["train"] & seen["test"]
    drawn = [train.reset(seed=seed)[1]["variation"] for seed in range(60)]
    assert len(set(drawn)) > 25
    assert max(drawn) < 50


def test_hidden_goals_are_zeros_and_change_nothing_else() -> None:
    visible = rollout(open_task("push"), seed=5)
    hidden = rollout(open_task("push", HIDDEN), seed=5)
    np.testing.assert_array_equal(hidden[:, 36:39], 0)
    assert np.abs(visible[:, 36:39]).min(0).max() > 0.1
    np.testing.assert_array_equal(
        np.delete(visible, (36, 37, 38), 1), np.delete(hidden, (36, 37, 38), 1)
    )


def test_the_simulation_is_the_benchmark_s() -> None:
    import metaworld

    benchmark = metaworld.MT1("drawer-open-v3", seed=0)
    stock = benchmark.train_classes["drawer-open-v3"]()
    task = benchmark.train_tasks[7]
    stock.set_task(task)
    want, _ = stock.reset()
    env = open_task("drawer-open")
    env.reset(seed=0)
    env.scene._vectors["train-goals", 0] = stock._last_rand_vec
    env.scene.start("train-goals", 0)
    np.testing.assert_array_equal(env.scene.state(), want.astype(np.float32))
    for action in np.random.default_rng(0).uniform(-1, 1, (30, 4)).astype(np.float32):
        want, reward, _, _, info = stock.step(action)
        assert env.scene.advance(action) == (float(reward), bool(info["success"]))
        np.testing.assert_array_equal(env.scene.state(), want.astype(np.float32))


def test_five_hundred_steps_truncate_and_a_reset_begins_anew() -> None:
    env = open_task("plate-slide")
    env.reset(seed=0)
    ends = [env.step(np.zeros(4))[2:4] for _ in range(500)]
    assert ends[-1] == (False, True)
    assert (False, True) not in ends[:-1]
    env.reset(seed=1)
    assert env.step(np.zeros(4))[2:4] == (False, False)


@pytest.mark.parametrize("task", [*SPLITS["ml10-test"], "reach"])
def test_scripted_policies_reach_hidden_goals(task: str) -> None:
    env = open_task(task, HIDDEN)
    oracle = env.spec_extras.oracle
    assert oracle is not None
    observation, info = env.reset(seed=1)
    assert info["success"] is False
    for _ in range(env.episode_length):
        observation, reward, _, truncated, info = env.step(oracle(env))
        if info["success"] or truncated:
            break
    assert info["success"] is True
    assert reward > 1
    assert observation["log/moved"][0] == (task != "reach")
    assert np.all((observation["log/position"] > 0) & (observation["log/position"] < 1))


def test_a_mix_draws_its_tasks_by_seed_and_bounds_its_simulators() -> None:
    env = open_task("ml45-train-mix")
    drawn = [env.reset(seed=seed)[1]["task"] for seed in range(30)]
    assert len(set(drawn)) > 12
    assert set(drawn) <= set(SPLITS["ml45-train"])
    assert len(env._scenes) == OPEN_SCENES
    again = open_task("ml45-train-mix")
    assert again.reset(seed=29)[1]["task"] == drawn[-1]
    np.testing.assert_array_equal(rollout(env, seed=3), rollout(again, seed=3))


def gripper_row(env: MetaWorldEnv) -> float:
    """Mean row of the finger that is painted cyan."""
    frame = env.render().astype(int)
    cyan = (frame[..., 0] < 90) & (frame[..., 1] > 120) & (frame[..., 2] > 120)
    assert cyan.sum() > 5
    return float(np.nonzero(cyan)[0].mean())


@needs_gl
def test_pictures_are_upright_and_change_no_state() -> None:
    seen, blind = open_task("button-press-topdown", IMAGE), open_task("button-press-topdown")
    np.testing.assert_array_equal(rollout(seen, seed=2), rollout(blind, seed=2))
    observation, _ = seen.reset(seed=2)
    image = observation["image"].astype(int)
    assert image.shape == (64, 64, 3)
    rows = [gripper_row(seen)]
    for _ in range(15):
        seen.step(np.array([0, 0, 1, 0]))
    rows.append(gripper_row(seen))
    assert rows[1] < rows[0] - 5  # a hand that rises goes up in the picture
    assert seen.render().shape == (200, 200, 3)
    seen.close()


@needs_gl
def test_the_first_picture_is_not_stale() -> None:
    import mujoco

    env = open_task("drawer-open", IMAGE)
    env.reset(seed=0)
    env.step(np.ones(4))
    first = env.reset(seed=7)[0]["image"]
    inner = env.scene._env
    mujoco.mj_forward(inner.model, inner.data)  # pyright: ignore
    np.testing.assert_array_equal(env.scene.picture(64), first)
    env.close()


@needs_gl
def test_goals_hide_from_pictures() -> None:
    hidden_image = TaskOptions(observe=("image",), goals="hidden")
    greenish = []
    for options in (IMAGE, hidden_image):
        env = open_task("drawer-open", options)
        env.reset(seed=0)
        frame = env.scene.picture(200).astype(int)
        greenish.append(((frame[..., 1] > 120) & (frame[..., 0] < 60) & (frame[..., 2] < 60)).sum())
        env.close()
    assert greenish[0] > 10
    assert greenish[1] == 0


def test_learning_from_state_needs_no_opengl() -> None:
    code = (
        "from tasks.metaworld import make; from tasks.settings import TaskOptions; import numpy\n"
        "env = make('reach', '', TaskOptions()); env.reset(seed=0)\n"
        "env.step(numpy.zeros(4)); env.close(); print('fine')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"MUJOCO_GL": "disable", "CRAIK_GL": "none"},
        capture_output=True,
        text=True,
        cwd=os.path.dirname(os.path.dirname(__file__)),
    )
    assert (done.stdout.strip(), done.stderr) == ("fine", "")


@pytest.mark.parametrize("repeat", [1, 3])
def test_recorded_episodes_are_paid_as_the_simulator_paid(repeat: int) -> None:
    name, options = "metaworld/drawer-close", TaskOptions(action_repeat=repeat)
    env, random = registry.make(name, options), np.random.default_rng(0)
    relabel = registry.extras(name, options).relabel
    assert relabel is not None
    for seed in (0, 5):
        states, rewards, actions = [env.reset(seed=seed)[0]["state"]], [0.0], []
        for _ in range(30):
            actions.append(random.uniform(-1, 1, 4).astype(np.float32))
            observation, reward, *_ = env.step(actions[-1])
            states.append(observation["state"])
            rewards.append(float(reward))
        rows = {
            "state": np.stack(states),
            "action": np.stack([*actions, np.zeros(4, np.float32)]),
            "is_first": np.arange(31) == 0,
        }
        np.testing.assert_allclose(relabel(rows), rewards, rtol=1e-6)
        assert np.ptp(rewards) > 0.5
    with pytest.raises(TaskError, match="beginning"):
        relabel({name: x[1:] for name, x in rows.items()})
    with pytest.raises(TaskError, match=r"step 4 .* comes out otherwise"):
        relabel(rows | {"action": np.where(np.arange(31)[:, None] == 3, 0, rows["action"])})
    other = registry.extras("metaworld/window-open", options).relabel
    assert other is not None
    with pytest.raises(TaskError, match="begins as none"):
        other(rows)


def test_what_an_observation_does_not_tell_is_not_paid_again() -> None:
    assert registry.extras("metaworld/reach", HIDDEN).relabel is None
    assert registry.extras("metaworld/reach", TaskOptions(observe=("image",))).relabel is None
    assert registry.extras("metaworld/ml10-train-mix", VISIBLE).relabel is None

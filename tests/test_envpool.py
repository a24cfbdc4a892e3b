"""The suites on EnvPool itself; without the package nothing here can be run."""

import importlib
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from stages.rollout import Examination
from stages.settings import Study
from tasks import procgen, registry
from tasks.contract import MASK, TaskSpec
from tasks.envpool_pools import make_pool
from tasks.go_opponent import BLACK, reply
from tasks.group import Group, Rows
from tasks.jumanji import SOKOBAN_LEVELS, _levels_folder
from tasks.settings import MOST_LEVELS, TaskOptions
from tasks.vector import Vector, make_vector

pytestmark = pytest.mark.skipif(find_spec("envpool") is None, reason="EnvPool is not installed")
SUITES = registry.suites()
TASKS = [
    "jumanji/maze",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            *("jumanji/sokoban", "go/9x9", "procgen/maze", "atari/ms_pacman"),
            *("metaworld_envpool/reach", "dm_control_envpool/cheetah-run"),
        )
    ),
]


def options_of(name: str, **more: Any) -> TaskOptions:
    return TaskOptions(observe=SUITES[name.partition("/")[0]].observes[:1], **more)


def actions_for(spec: TaskSpec, rows: Rows, random: np.random.Generator) -> np.ndarray:
    number = len(rows["reward"])
    if spec.action.kind == "continuous":
        return random.uniform(-1, 1, (number, spec.action.size))
    if MASK not in rows:
        return random.integers(spec.action.size, size=number)
    return np.where(rows[MASK], random.random(rows[MASK].shape), -1).argmax(-1)


def history(vector: Vector, steps: int) -> list[Rows]:
    random = np.random.default_rng(0)
    found = [vector.reset()]
    for _ in range(steps):
        found.append(vector.step(actions_for(vector.spec, found[-1], random)))
    return found


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(
    "more", [{}, pytest.param({"action_repeat": 3, "episode_length": 20}, marks=pytest.mark.slow)]
)
def test_the_same_data_whoever_steps(name: str, more: dict[str, int]):
    """One batch, single environments, workers: the same seeds give the same rows, bit for bit."""
    options, seeds = options_of(name, **more), [0, 1, 2]
    spec = registry.spec(name, options)
    batch = make_vector(name, options, seeds)
    ways = [batch, Vector(spec, Group(name, options, spec, 3), seeds)]
    if more:
        ways.append(make_vector(name, options, seeds, workers=2))
    batched, *others = [history(way, 110) for way in ways]
    for other in others:
        for one, two in zip(batched, other, strict=True):
            assert all(np.array_equal(one[key], two[key]) for key in one)
    assert not any(rows["fault"].any() for rows in batched)
    back = batch.restore(batch.snapshot())
    assert all(np.array_equal(back[key], batched[-1][key]) for key in back)
    for way in ways:
        way.close()


@pytest.mark.parametrize(
    ("name", "length"),
    [
        ("jumanji/maze", 100),
        ("jumanji/sokoban", 120),
        pytest.param("procgen/maze", 500, marks=pytest.mark.slow),
        pytest.param("metaworld_envpool/reach", 500, marks=pytest.mark.slow),
        pytest.param("dm_control_envpool/acrobot-swingup_sparse", 1000, marks=pytest.mark.slow),
    ],
)
def test_time_is_up_where_the_suite_says_so(name: str, length: int):
    vector = make_vector(name, options_of(name), [3])
    assert vector.spec.episode_length == length
    rows = vector.reset()
    still = np.zeros((1, vector.spec.action.size)) if name.count("_envpool") else np.zeros(1, int)
    if name == "procgen/maze":
        still[:] = 4  # no button
    for _ in range(length - 1):
        rows = vector.step(still)
        assert not rows["is_last"]
    rows = vector.step(still)
    assert rows["is_last"]
    assert not rows["is_terminal"]
    assert vector.step(still)["is_first"]


def test_sokoban_has_the_levels_of_boxoban():
    levels = np.load(f"{_levels_folder()}/jumanji/assets/boxoban/unfiltered-test.npy")
    assert len(levels) == SOKOBAN_LEVELS
    for options, low, high in ((TaskOptions(levels=5), 0, 5), (TaskOptions(), 500, 1000)):
        vector = make_vector("jumanji/sokoban", options, list(range(30)))
        states = vector.reset()["state"].reshape(30, 4, 10, 10)
        boxes = {(grid[..., 1] == 4).tobytes() for grid in levels[low:high]}
        assert {(state[2] > 0).tobytes() for state in states} <= boxes


def test_mazes_of_the_training_are_few_and_others_are_not():
    few = make_vector("jumanji/maze", TaskOptions(levels=4), list(range(40))).reset()["state"]
    others = make_vector("jumanji/maze", TaskOptions(), list(range(40))).reset()["state"]
    kinds = [{state.tobytes() for state in states} for states in (few, others)]
    assert [len(kind) for kind in kinds] == [4, 40]
    assert not kinds[0] & kinds[1]


@pytest.mark.slow
def test_procgen_levels():
    seeds = list(range(60))
    for options in (TaskOptions(observe=("image",), levels=6), TaskOptions(observe=("image",))):
        task = procgen.ProcgenTask("coinrun", "easy", options)
        recipe = task.recipe(0)
        pool = make_pool(recipe.id, [task.recipe(seed).seed for seed in seeds], dict(recipe.config))
        _, info = pool.reset()
        drawn = set(info["level_seed"].tolist())
        if options.levels:
            assert drawn == set(range(6))
        else:
            assert min(drawn) >= MOST_LEVELS


@pytest.mark.slow
def test_evaluation_is_on_unseen_levels_unless_asked():
    study = Study.model_validate(
        {
            "name": "levels",
            "tasks": {
                "explore": "jumanji/maze",
                "transfer": ["jumanji/maze"],
                "levels": 2,
            },
            "evaluate": {"environments": 4},
        }
    )
    spec = registry.spec("jumanji/maze", study.tasks)
    starts = []
    for seen in (True, False):
        examination = Examination(study, "jumanji/maze", spec, "evaluate", 4, seen=seen)
        starts.append({state.tobytes() for state in examination._rows["state"]})
        examination.close()
    assert len(starts[0]) <= 2
    assert not starts[0] & starts[1]


@pytest.mark.slow
def test_one_like_the_opponent_wins_about_half_of_its_games():
    """It would win none, or all, if colours or turns were mixed up."""
    vector = make_vector("go/9x9", TaskOptions(), list(range(16)))
    rows, random = vector.reset(), np.random.default_rng(0)
    wins: list[bool] = []
    while len(wins) < 60:
        state = rows["state"].reshape(16, 17, 9, 9)
        boards = state[:, 0] - state[:, 1]  # the agent's stones are 1
        moves = [
            reply(board, legal, BLACK, False, 0.0, random)
            for board, legal in zip(boards, rows[MASK], strict=True)
        ]
        rows = vector.step(np.array(moves))
        assert not rows["fault"].any()
        wins += rows["success"][rows["is_last"]].tolist()
    assert 0.25 < np.mean(wins) < 0.7


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Constant.s. may be too high")  # of the policies
@pytest.mark.parametrize("task", ["reach", "drawer-close", "window-open", "button-press"])
def test_scripted_policies_of_meta_world_succeed(task: str):
    """States, goals, actions and success mean what they do in the package."""
    policies: Any = importlib.import_module("metaworld.policies")
    policy = policies.ENV_POLICY_MAP[f"{task}-v3"]()
    vector = make_vector(f"metaworld_envpool/{task}", TaskOptions(), [0, 1, 2])
    rows, solved = vector.reset(), np.zeros(3, bool)
    assert (rows["state"][:, -3:] != 0).any(), "the goal is visible"
    for _ in range(300):
        actions = np.stack([policy.get_action(state.astype(float)) for state in rows["state"]])
        rows = vector.step(np.clip(actions, -1, 1))
        solved |= rows["success"]
    assert solved.all()


@pytest.mark.slow
def test_the_cheetah_is_that_of_the_control_suite():
    """From the same state, the same actions lead to the same states and rewards."""
    vector = make_vector("dm_control_envpool/cheetah-run", TaskOptions(), [0])
    suite: Any = importlib.import_module("dm_control.suite")
    env = suite.load("cheetah", "run", task_kwargs={"random": 0})
    env.reset()
    state = vector.reset()["state"][0].astype(float)
    with env.physics.reset_context():
        env.physics.data.qpos[1:], env.physics.data.qvel[:] = state[:8], state[8:]
    random, errors = np.random.default_rng(0), []
    for _ in range(20):
        action = random.uniform(-1, 1, (1, 6))
        rows, step = vector.step(action), env.step(action[0])
        wanted = np.concatenate([step.observation["position"], step.observation["velocity"]])
        errors.append(np.abs(rows["state"][0] - wanted).max())
        assert rows["reward"][0] == pytest.approx(step.reward, abs=1e-3)
    assert max(errors) < 0.05


@pytest.mark.slow
def test_frames_are_drawn_where_no_opengl_is_needed():
    for name in ("jumanji/sokoban", "go/9x9", "procgen/coinrun", "atari/hero"):
        vector = make_vector(name, options_of(name, video_size=96), [0, 1])
        vector.reset()
        frames = vector.render()
        assert frames is not None
        assert (frames.shape, frames.dtype) == ((2, 96, 96, 3), np.uint8)
        assert frames.std() > 5

"""Every registered task keeps the contract; and the check finds tasks that do not."""

from pathlib import Path
from typing import Any

import pytest

from tasks import registry
from tasks.check_task import check, problems
from tasks.contract import TaskError
from tasks.rendering import choose_gl
from tasks.settings import TaskOptions
from tasks.suite import Suite
from tasks.vector import make_vector

SUITES = registry.suites()
TASKS = [f"{suite.name}/{task}" for suite in SUITES.values() for task in suite.tasks]
VARIANTS = [
    f"{suite.name}/{list(suite.tasks)[-1]}:{variant}"
    for suite in SUITES.values()
    for variant in suite.variants[1:]
]
OTHERS = ["gymnasium:CartPole-v1", "gymnasium:HalfCheetah-v5"]


def suite_of(name: str) -> Suite | None:
    return SUITES.get(name.partition("/")[0])


def named(name: str) -> Any:
    """Of what needs an extra, the first task of a suite with every run, the rest with the slow."""
    suite = suite_of(name)
    rest = suite is not None and suite.envpool is not None
    rest = rest and name not in [f"{suite.name}/{task}" for task in list(suite.tasks)[:1]]
    return pytest.param(name, marks=[pytest.mark.slow] if rest else [])


def options_of(name: str, *observe: Any) -> TaskOptions:
    """What is to be seen, as far as the suite shows it; skips what is not installed."""
    suite = suite_of(name)
    seen = observe if suite is None else [what for what in observe if what in suite.observes]
    options = TaskOptions(observe=seen or suite.observes)  # pyright: ignore
    try:
        registry.check_installed(name)
    except TaskError as error:
        pytest.skip(str(error))
    return options


@pytest.mark.parametrize("name", [named(name) for name in TASKS + VARIANTS + OTHERS])
def test_task_keeps_the_contract(name: str):
    rows = check(name, options_of(name, "state"))
    assert problems(rows) == []
    assert len(rows) > 10


@pytest.mark.skipif(choose_gl() is None, reason="no OpenGL back end works here")
@pytest.mark.parametrize(
    "name",
    [f"{s.name}/{next(iter(s.tasks))}" for s in SUITES.values() if "image" in s.observes]
    + OTHERS[1:],
)
def test_task_keeps_the_contract_with_pictures(name: str):
    rows = check(name, options_of(name, "image", "state"), steps=3)
    assert problems(rows) == []


@pytest.mark.parametrize("name", ["desk/reach", "dm_control/cheetah-run"])
def test_repeat_and_cap_keep_the_contract(name: str):
    options = TaskOptions(action_repeat=2, episode_length=5)
    assert problems(check(name, options)) == []
    assert registry.spec(name, options).episode_length == 5


BROKEN = """
import gymnasium, numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary
from tasks.contract import SpecExtras


class Base(gymnasium.Env):
    observation_space = Dict(
        {"state": Box(-9, 9, (2,), np.float64), "log/position": Box(0, 1, (1,), np.float32)})
    action_space = Box(-2, 3, (2,), np.float32)
    spec_extras = SpecExtras()

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.x = 0, self.np_random.uniform(-1, 1, 2)
        return self.see(), {}

    def see(self):
        return {"state": self.x, "log/position": np.array([0.5], np.float32)}

    def step(self, action):
        self.t += 1
        self.x = np.clip(self.x + action / 10, -9, 9)
        return self.see(), 0.0, False, self.t >= 6, {}


class Unseeded(Base):
    def reset(self, seed=None, options=None):
        return super().reset(seed=np.random.SeedSequence().entropy % 2**32)


class Same(Base):
    def reset(self, seed=None, options=None):
        return super().reset(seed=0)


class Infinite(Base):
    def step(self, action):
        return (self.see(), float("nan"), False, False, {})


class Outside(Base):
    def see(self):
        return super().see() | {"log/position": np.array([1.5], np.float32)}


class Unnamed(Base):
    spec_extras = SpecExtras(objects=("puck",))


class Raises(Base):
    def step(self, action):
        raise ValueError("the gripper is stuck")


class Oracle(Base):
    spec_extras = SpecExtras(oracle=lambda env: np.array([env.x[0], 7.0]))


class Masked(Base):
    observation_space = Dict(
        {"state": Box(-9, 9, (2,), np.float64), "mask": MultiBinary(3)})
    action_space = Discrete(3)
    allowed = [1, 0, 1]

    def see(self):
        return {"state": self.x, "mask": np.array(self.allowed, np.int8)}


class Stuck(Masked):
    allowed = [0, 0, 0]


class NoMask(Masked):  # a key of that name with another meaning is an observation
    action_space = Discrete(4)
"""


@pytest.mark.parametrize(
    ("factory", "problem"),
    [
        ("Base", None),
        ("Masked", None),
        ("NoMask", None),
        ("Stuck", "a mask leaves a choice"),
        ("Unseeded", "the same seed and actions give the same episode"),
        ("Same", "resets differ between seeds: seeds 1 and 2 gave the same episode"),
        ("Infinite", "rewards are finite numbers"),
        ("Outside", "log/position lies in [0, 1]"),
        ("Unnamed", "log keys agree with spec_extras: log/moved has 0 numbers"),
        ("Raises", "can be stepped: ValueError: the gripper is stuck"),
        ("Oracle", "the scripted policy acts"),
    ],
)
def test_check_finds_what_is_broken(tmp_path: Path, factory: str, problem: str | None):
    file = tmp_path / "cell.py"
    file.write_text(BROKEN)
    found = problems(check(f"{file}:{factory}", TaskOptions()))
    if problem is None:
        assert found == []
    else:
        assert [line[: len(problem)] for line in found] == [problem]


def test_a_mask_is_part_of_the_rows_and_not_observed(tmp_path: Path):
    (tmp_path / "cell.py").write_text(BROKEN)
    specs = {}
    for factory in ("Base", "Masked", "NoMask"):
        vector = make_vector(f"{tmp_path / 'cell.py'}:{factory}", TaskOptions(), [0, 1])
        specs[factory] = spec = vector.spec
        rows = vector.reset()
        assert ("mask" in rows) == spec.masked == (factory == "Masked")
        if spec.masked:
            assert rows["mask"].dtype == bool
            assert rows["mask"].tolist() == [[True, False, True]] * 2
    assert specs["Masked"].observation["state"].shape == (2,)
    assert specs["NoMask"].observation["state"].shape == (5,)


def test_check_of_an_unknown_task_is_one_row():
    (row,) = check("desk/push_lef", TaskOptions())
    assert not row.passed
    assert "desk/push_left" in row.detail

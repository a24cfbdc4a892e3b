"""Names of tasks, users' own environments, and what the registry puts around them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks import registry, rendering
from tasks.contract import TaskError
from tasks.settings import TaskOptions

STATE = TaskOptions()
CELL = """
from dataclasses import dataclass
import gymnasium, numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete


class Cell(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"]}
    observation_space = Box(-9, 9, (2, 2), np.float64)
    action_space = Box(np.array([0.0, -4.0]), np.array([1.0, 4.0]), dtype=np.float64)

    def __init__(self, render_mode=None, observation=None, action=None):
        self.render_mode = render_mode
        self.observation_space = observation or self.observation_space
        self.action_space = action or self.action_space

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        self.t += 1
        return (self.observation_space.sample(), float(np.sum(action)), False, False,
                {"is_success": self.t == 3, "action": action})

    def render(self):
        return np.full((40, 60, 3), 7, np.uint8)


@dataclass  # looks its own module up in sys.modules
class Size:
    side: int = 3


PICTURE = Box(0, 255, (20, 30, 3), np.uint8)
cell = Cell


def picture(): return Cell(observation=PICTURE)
def both(): return Cell(observation=Dict(
    {"b": Discrete(3), "a": Box(0, 1, (2,)), "camera": PICTURE, "log/moved": Box(0, 1, (1,))}))
def pictures(): return Cell(observation=Dict({"left": PICTURE, "right": PICTURE}))
def choices(): return Cell(action=Discrete(3, start=5))
def unbounded(): return Cell(action=Box(-np.inf, np.inf, (2,)))
def many(): return Cell(action=MultiDiscrete([2, 2]))
def nothing(): return None
def fails(): raise OSError("no licence")
notes = "not a factory"
"""


@pytest.fixture
def cell(tmp_path: Path) -> str:
    """A user's file, called like one of our packages."""
    (tmp_path / "tasks.py").write_text(CELL)
    return f"{tmp_path / 'tasks.py'}:"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("desk/push_lef", r"desk has no task 'push_lef'; nearest: desk/push_left"),
        ("desc/push_left", r"unknown suite 'desc'; nearest: desk/push_left"),
        ("desk/reach:dens", r"no variant 'dens'; variants: dense, sparse"),
        ("dm_control/cheetah-run:sparse", r"variants: none"),
        ("metaworld/ml10-train", r"is a split of"),
        ("gymnasium:HalfCheeta-v5", r"nearest: gymnasium:HalfCheetah-v5"),
        ("gymnasium:no_such_module:Env-v0", r"no module 'no_such_module'"),
        ("nowhere/cell.py:make", r"there is no file nowhere/cell.py"),
        ("no_such_package.cells:make", r"no module 'no_such_package.cells'"),
        ("json.decoder:JSONDecode", r"defines no 'JSONDecode'; nearest: JSONDecoder"),
        ("tasks:make", r"a package of craik itself; name your file instead"),
        ("reach", r"expected suite/task\[:variant\], gymnasium:ID"),
    ],
)
def test_an_unknown_task_is_told_in_one_line(name: str, message: str):
    with pytest.raises(TaskError, match=message) as error:
        registry.check(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    ["desk/reach", "desk/free:sparse", "gymnasium:CartPole-v1", "json.decoder:JSONDecoder"],
)
def test_known_names_pass(name: str):
    registry.check(name)


def test_names_are_checked_without_a_simulator():
    program = (
        "import sys; from tasks import registry, vector; "
        "names = [f'{s.name}/{t}' for s in registry.suites().values() for t in s.tasks]; "
        "registry.expand(names); registry.check('gymnasium:HalfCheetah-v5'); "
        "print([m for m in ('mujoco', 'dm_control', 'metaworld', 'crafter', 'jax') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_splits_stand_for_their_tasks():
    test = registry.expand(["metaworld/ml10-test"])
    assert len(test) == 5
    assert any("drawer-open" in name for name in test)
    nine = registry.expand(["robodesk/readme9:sparse", "desk/reach", "desk/reach"])
    assert len(nine) == 10
    assert "robodesk/open_slide:sparse" in nine
    assert nine[-1] == "desk/reach"


@pytest.mark.parametrize("suite", registry.suites().values(), ids=lambda suite: suite.name)
def test_every_split_names_tasks(suite: registry.Suite):
    for split in suite.splits:
        assert registry.expand([f"{suite.name}/{split}"])


def test_dm_control_table_is_the_suites():
    from dm_control import suite

    from tasks.dm_control import TASKS

    assert list(TASKS) == [f"{domain}-{task}" for domain, task in suite.ALL_TASKS]


def test_spec_is_read_from_subclassed_options():
    class More(TaskOptions):
        explore: str = "desk/free"

    assert registry.spec("desk/reach", More()) is registry.spec("desk/reach", STATE)


def test_action_repeat_sums_rewards_and_cap_truncates():
    options = TaskOptions(action_repeat=3, episode_length=4)
    env, plain = (
        registry.make("desk/reach:sparse", options),
        registry.make("desk/reach:sparse", STATE),
    )
    env.reset(seed=0)
    plain.reset(seed=0)
    for step in range(4):
        observation, reward, terminated, truncated, _ = env.step(np.array([0.5, 0.5]))
        steps = [plain.step(np.array([0.5, 0.5])) for _ in range(3)]
        assert reward == pytest.approx(sum(float(s[1]) for s in steps))
        assert np.array_equal(observation["state"], steps[-1][0]["state"])
        assert (terminated, truncated) == (False, step == 3)
    spec = registry.spec("desk/reach:sparse", options)
    assert (spec.episode_length, spec.control_hz) == (4, pytest.approx(20 / 3))
    uncapped = registry.spec("desk/reach:sparse", TaskOptions(action_repeat=3))
    assert uncapped.episode_length == 34


def test_a_user_file_may_be_called_tasks(cell: str):
    env = registry.make(f"{cell}cell", STATE)
    observation, _ = env.reset(seed=0)
    assert (observation["state"].shape, observation["state"].dtype) == ((4,), np.float32)
    assert sys.modules["tasks"].__file__ == str(Path(registry.__file__).parent / "__init__.py")
    assert registry.source_file(f"{cell}cell") == Path(cell[:-1])
    assert registry.source_file("desk/reach") is None


def test_actions_are_rescaled_to_the_bounds(cell: str):
    env = registry.make(f"{cell}cell", STATE)
    env.reset(seed=0)
    for action, total in (([-1, -1], -4), ([0, 0], 0.5), ([1, 1], 5), ([9, 9], 5)):
        assert env.step(np.array(action))[1] == pytest.approx(total)


def test_is_success_counts_as_success(cell: str):
    env = registry.make(f"{cell}cell", STATE)
    env.reset(seed=0)
    assert [env.step(np.zeros(2))[4]["success"] for _ in range(4)] == [False, False, True, False]


def test_discrete_actions_start_at_zero(cell: str):
    env = registry.make(f"{cell}choices", STATE)
    env.reset(seed=0)
    assert [env.step(k)[1] for k in range(3)] == [5, 6, 7]


def test_pictures_of_a_dict_and_its_vectors(cell: str):
    options = TaskOptions(observe=("state", "image"), image_size=32)
    env = registry.make(f"{cell}both", options)
    observation, _ = env.reset(seed=0)
    assert {k: v.shape for k, v in observation.items()} == {
        "state": (5,),  # two numbers and one of three
        "image": (32, 32, 3),
        "log/moved": (1,),
    }
    assert observation["image"].std() > 10


def test_a_task_without_pictures_is_rendered(cell: str):
    env = registry.make(f"{cell}cell", TaskOptions(observe=("image",), image_size=16))
    assert (env.reset(seed=0)[0]["image"] == np.full((16, 16, 3), 7)).all()


@pytest.mark.parametrize(
    ("factory", "observe", "message"),
    [
        ("picture", "state", r"gives pictures only; set tasks.observe = \['image'\]"),
        ("pictures", "image", r"of several pictures \(left, right\) call one 'image'"),
        ("choices", "image", r"takes no render_mode='rgb_array'"),
        ("unbounded", "state", r"bounds of the action space must be finite"),
        ("many", "state", r"actions must be a Box of floats or Discrete, got MultiDiscrete"),
        ("nothing", "state", r"must return a gymnasium.Env, got NoneType"),
        ("fails", "state", r"cannot be built: OSError: no licence"),
        ("notes", "state", r"'notes' is not a function or class"),
        ("celll", "state", r"defines no 'celll'; nearest: cell"),
    ],
)
def test_a_factory_that_does_not_fit(cell: str, factory: str, observe: str, message: str):
    options = TaskOptions.model_validate({"observe": [observe]})
    with pytest.raises(TaskError, match=message):
        registry.make(f"{cell}{factory}", options)


def test_a_file_that_does_not_import(tmp_path: Path):
    file = tmp_path / "cell.py"
    file.write_text("import no_such_driver\ndef make(): ...")
    with pytest.raises(TaskError, match=r"cannot be imported: .*no_such_driver"):
        registry.make(f"{file}:make", STATE)
    file.write_text("def make(:")
    with pytest.raises(TaskError, match="is not valid Python"):
        registry.check(f"{file}:make")


def test_a_module_where_craik_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_cell").mkdir()
    (tmp_path / "my_cell" / "peg.py").write_text(CELL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    assert registry.spec("my_cell.peg:cell", STATE).action.size == 2


def test_gl_is_chosen_once_and_inherited(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CRAIK_GL", raising=False)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering.platform, "system", lambda: "Linux")
    tried: list[str] = []

    def broken_egl(backend: str) -> str:
        tried.append(backend)
        return "no display" if backend == "egl" else ""

    monkeypatch.setattr(rendering, "_try", broken_egl)
    assert [rendering.choose_gl(), rendering.choose_gl()] == ["osmesa", "osmesa"]
    assert tried == ["egl", "osmesa"]
    assert os.environ["MUJOCO_GL"] == "osmesa"
    assert [row["works"] for row in rendering.gl_report()] == ["no", "yes"]


def test_without_gl_simulation_goes_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CRAIK_GL", raising=False)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering, "_try", lambda backend: "no display")
    assert rendering.choose_gl() is None
    env = registry.make("desk/reach", STATE)
    env.reset(seed=0)
    with pytest.raises(RuntimeError, match="apt-get install libegl1"):
        env.render()

"""What a suite says about a task that EnvPool steps, and that task as a single environment.

A suite's class says how an episode is made from its seed (`recipe`) and how what EnvPool tells is
read by the task contract (`read`). The same rules serve a batch (`tasks.envpool_group`) and one
environment (`EnvPoolEnv`), which is a batch of one.
"""

import abc
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import gymnasium
import numpy as np

from tasks.contract import SpecExtras, TaskError
from tasks.envpool_pools import Pools, Recipe, Seen
from tasks.rendering import image_size
from tasks.settings import TaskOptions

Rows = dict[str, np.ndarray]
SEEDS = 2**31  # that EnvPool takes
OUTCOME = ("reward", "terminated", "truncated", "success")


class EnvPoolTask(abc.ABC):
    """The rules of one task. Arrays are of n environments, [n, ...].

    It may remember things of an episode by the environment's index, so each batch has its own.
    """

    observation_space: gymnasium.spaces.Dict
    action_space: gymnasium.Space
    episode_length: int  # steps until truncation
    spec_extras: SpecExtras

    def __init__(self, options: TaskOptions) -> None:
        self.options = options

    @abc.abstractmethod
    def recipe(self, seed: int) -> Recipe:
        """How the episode of a reset seed [0, 2^32) is made; a function of the seed alone."""

    @abc.abstractmethod
    def read(self, seen: Seen, indices: Sequence[int]) -> Rows:
        """The observation's keys, and `OUTCOME`, of what was told of some environments."""

    def start(self, pools: Pools, seeds: Mapping[int, int]) -> Rows:
        """Begin an episode in each of some environments (index -> reset seed)."""
        recipes = {index: self.recipe(seed) for index, seed in seeds.items()}
        return self.read(self._told(pools, recipes), list(seeds))

    def step(self, pools: Pools, indices: Sequence[int], actions: np.ndarray) -> Rows:
        """One step of some environments, [n] choices or [n, A] in [-1, 1]."""
        return self.read(pools.step(indices, actions), indices)

    def frames(self, pools: Pools, indices: Sequence[int]) -> np.ndarray:
        """Pictures for videos, uint8 [n, video_size, video_size, 3].

        Raises:
            RuntimeError: there are none.
        """
        raise RuntimeError("EnvPool draws no pictures of it")

    def _told(self, pools: Pools, recipes: Mapping[int, Recipe]) -> Seen:
        """Start, and say what is missing where a part of EnvPool cannot be loaded.

        Raises:
            TaskError: a library of the system is missing.
        """
        try:
            return pools.start(recipes)
        except ImportError as error:
            told = " ".join(str(error).split())
            hint = " (apt-get install libqt5gui5)" if "Qt5" in told else ""
            raise TaskError(f"EnvPool cannot be loaded: {told}{hint}") from error


class EnvPoolEnv(gymnasium.Env):
    """One environment, as gymnasium has it."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (gymnasium's convention)
    render_mode = "rgb_array"

    def __init__(self, task: EnvPoolTask) -> None:
        self._task, self._pools = task, Pools(1)
        self._keys = tuple(task.observation_space.spaces)
        self.observation_space, self.action_space = task.observation_space, task.action_space
        self.episode_length, self.spec_extras = task.episode_length, task.spec_extras

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2**32)) if seed is None else seed
        observation, _, _, _, info = self._first(self._task.start(self._pools, {0: drawn}))
        return observation, info

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One step."""
        return self._first(self._task.step(self._pools, [0], np.asarray(action)[None]))

    def render(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A frame of `video_size`."""
        return self._task.frames(self._pools, [0])[0]

    def close(self) -> None:
        """End the simulator."""
        self._pools.drop([0])

    def _first(self, rows: Rows) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """The only row, as gymnasium's step gives it."""
        reward, terminated, truncated, success = (rows[name][0] for name in OUTCOME)
        observation = {name: rows[name][0] for name in self._keys}
        info = {"success": bool(success)}
        return observation, float(reward), bool(terminated), bool(truncated), info


def single(
    build: Callable[[str, str, TaskOptions], EnvPoolTask],
) -> Callable[[str, str, TaskOptions], gymnasium.Env]:
    """`Suite.make` of a suite whose tasks `build` makes."""
    return lambda task, variant, options: EnvPoolEnv(build(task, variant, options))


def missing(task: str) -> str:
    """`Suite.missing` of the suites on EnvPool."""
    if find_spec("envpool") is not None:
        return ""
    return "EnvPool, which is not installed: .venv/bin/pip install -e '.[envpool]'"


def endings(seen: Seen, limit: int, over: np.ndarray | bool = False) -> Rows:
    """`terminated` and `truncated` apart: the task's own end, and the end of its time.

    EnvPool says that an episode is done, and how many steps it took.

    Args:
        limit: steps until truncation.
        over: [n], where the task itself is known to have ended, be time up as well or not.
    """
    truncated = seen["done"] & (seen["elapsed"] >= limit) & ~np.asarray(over)
    return {"terminated": seen["done"] & ~truncated, "truncated": truncated}


def scaled(frames: np.ndarray, size: int) -> np.ndarray:
    """uint8 pictures [n, H, W, 3] as [n, size, size, 3]."""
    if frames.shape[1:3] == (size, size):
        return frames
    return np.stack([image_size(frame, size) for frame in frames])

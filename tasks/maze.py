"""`maze`: pellets, an exit and a ghost between walls that a level's seed decides; fast, our own.

Observations: `state` float32 [690] (`large`: 1786), see `tasks.maze_views`; `image` uint8
[S, S, 3], the whole maze from above. Actions: up, down, left, right; `mask` says which of them no
wall is in the way of. All tasks of a variant have the same observations and actions, so what was
explored on `maze/free` carries over to each of them. The rules are in `tasks.maze_rules`.

`small` has 7 x 7 cells, 8 pellets and episodes of at most 50 steps; `large` 11 x 11, 16 and 120.
Success terminates, the ghost terminates, time truncates. `free` pays nothing, and only the ghost
or time ends it.

An episode's reset seed decides its level and what the ghost does. With `levels = N` the level's
seed is below N; without it is one of two thousand millions that `levels` can never choose.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from tasks.adapters import mask_space, observation_space
from tasks.contract import MASK, PureTask, SpecExtras
from tasks.settings import MOST_LEVELS, TaskOptions
from tasks.suite import Suite

CHOICES = 4
LEVEL_SEEDS = 2**31


@dataclass(frozen=True)
class Size:
    """A variant."""

    side: int  # cells
    pellets: int
    steps: int


@dataclass(frozen=True)
class Kind:
    """What a task puts into the maze."""

    description: str
    pellets: bool = False
    exit: bool = False
    ghost: bool = False
    rewarded: bool = True


SIZES = {"small": Size(7, 8, 50), "large": Size(11, 16, 120)}
KINDS = {
    "free": Kind("no reward: for exploration", True, True, True, rewarded=False),
    "goal": Kind("come to the exit", exit=True),
    "collect": Kind("eat every pellet", pellets=True),
    "ghost": Kind("eat every pellet, and escape the ghost", pellets=True, ghost=True),
}


class Maze(gymnasium.Env):
    """One maze. It fulfils `tasks.contract` itself."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (gymnasium's)
    render_mode = "rgb_array"

    def __init__(self, task: str, variant: str, options: TaskOptions) -> None:
        # late, as they import JAX: listing tasks stays cheap
        from tasks.maze_levels import Layout
        from tasks.maze_simulator import Simulator
        from tasks.maze_views import picture, vector_size

        kind, size = KINDS[task], SIZES[variant]
        pellets = size.pellets if kind.pellets else 0
        self.simulator = Simulator(Layout(size.side, pellets, kind.exit, kind.ghost))
        self.episode_length = size.steps
        self._rewarded, self._options, self._picture = kind.rewarded, options, picture
        space = observation_space(options, vector_size(size.side), {"log/position": 2})
        self.observation_space = gymnasium.spaces.Dict({**space.spaces, MASK: mask_space(CHOICES)})
        self.action_space = Discrete(CHOICES)
        self.spec_extras = SpecExtras(
            metric="success" if task == "goal" else "return",
            oracle=_oracle if kind.rewarded else None,
            variant={"maze": variant},
            start_jitter=options.levels is None,  # of few levels two seeds may draw the same
        )
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode in a level drawn by the seed."""
        super().reset(seed=seed)
        levels = self._options.levels
        low, high = (MOST_LEVELS, LEVEL_SEEDS) if levels is None else (0, levels)
        level, ghost_seed = int(self.np_random.integers(low, high)), self.np_random.integers(2**32)
        self._steps = 0
        self._seen = self.simulator.begin(level, int(ghost_seed))
        return self.observe(), {"success": False}

    def step(
        self, action: int | np.integer
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One move."""
        reward, terminated, truncated, info = self.advance(action)
        return self.observe(), reward, terminated, truncated, info

    def advance(self, action: int | np.integer) -> tuple[float, bool, bool, dict[str, Any]]:
        """A step without its observation, so that repeated actions draw one picture only."""
        self._seen = seen = self.simulator.advance(int(action))
        self._steps += 1
        success = self._rewarded and seen.success
        terminated = seen.done and (self._rewarded or not seen.success)
        truncated = self._steps >= self.episode_length and not terminated
        reward = seen.reward if self._rewarded else 0.0
        return reward, terminated, truncated, {"success": success}

    def observe(self) -> dict[str, np.ndarray]:
        """The observation of the present state."""
        seen, observation = self._seen, {}
        if "state" in self._options.observe:
            observation["state"] = seen.state
        if "image" in self._options.observe:
            observation["image"] = self._picture(seen.cells, self._options.image_size)
        observation["log/position"] = seen.position
        observation[MASK] = seen.mask
        return observation

    def render(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A frame of `video_size`."""
        return self._picture(self._seen.cells, self._options.video_size)


def _oracle(env: Maze) -> np.ndarray:
    return env.simulator.oracle()


def _pure(task: str, variant: str) -> PureTask:
    from tasks.maze_model import MazeModel  # late, as above

    return MazeModel(SIZES[variant].side, KINDS[task].rewarded)


SUITE = Suite(
    name="maze",
    description="pellets, an exit and a ghost between walls, by level seed; fast, our own",
    tasks={name: kind.description for name, kind in KINDS.items()},
    variants=tuple(SIZES),
    levels=tuple(KINDS),
    make=Maze,
    pure=_pure,
)

"""RoboDesk: a Franka arm at a desk with a drawer, a sliding door, buttons and three objects.

Source: Kannan et al., RoboDesk: A Multi-Task Reinforcement Learning Benchmark (2021),
robodesk 1.0.0 with the repairs of `tasks.robodesk_simulator` and `tasks.robodesk_rewards`.
"""

import importlib
import math
from typing import Any

import gymnasium
import numpy as np

from tasks import adapters, robodesk_rewards
from tasks.contract import SpecExtras
from tasks.rendering import Frames, fast
from tasks.settings import TaskOptions
from tasks.suite import Suite

EPISODE_LENGTH = 500
ACTIONS = 5
CONTROL_HZ = 50.0
FREE = "free"

# The package draws 120 x 120 pixels, crops to the desk and scales to a square.
DRAWN = 120
CROP = (16.75, 25.0, 105.0, 88.75)


class RoboDeskEnv(gymnasium.Env):
    """One task of RoboDesk behind the task contract.

    Observations: `state` float32 [76] (`robodesk_simulator.STATE_SIZES`), `image` uint8 [S, S, 3].
    Actions: [5] in [-1, 1]. Never terminates; 500 steps truncate.

    Args:
        task: one of `robodesk_rewards.TASKS`, or `free`, whose reward is always 0.
        kind: `dense` in [0, 1] per step; `sparse` 1 at each step in which the task is done;
            `success` 1 at the first such step only.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, task: str, kind: robodesk_rewards.Kind, options: TaskOptions):
        from tasks.robodesk_simulator import OBJECTS, STATE_SIZE, Simulator

        self.simulator = Simulator(options.rewards)
        if options.render == "fast":
            fast(self.simulator.model)
        self._task, self._kind, self._options = task, kind, options
        self._observer = DeskCamera(self.simulator, options.image_size)
        self._filmer = DeskCamera(self.simulator, options.video_size)
        self._steps, self._paid = 0, False
        log = {"log/position": 3, "log/moved": len(OBJECTS)}
        self.observation_space = adapters.observation_space(options, STATE_SIZE, log)
        self.action_space = adapters.action_space(ACTIONS)
        self.episode_length = EPISODE_LENGTH
        self.spec_extras = SpecExtras(
            metric="return" if kind == "dense" or task == FREE else "success",
            objects=OBJECTS,
            variant={"rewards": options.rewards, "render": options.render},
            control_hz=CONTROL_HZ,
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Place arm and objects by `seed`; without one, by a seed drawn from the last."""
        super().reset(seed=seed)
        self.simulator.start(int(self.np_random.integers(2**32)) if seed is None else seed)
        self._steps, self._paid = 0, False
        return self.observe(), {"success": self._succeeds()}

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        reward, terminated, truncated, info = self.advance(action)
        return self.observe(), reward, terminated, truncated, info

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        """A step without its observation, so that repeated actions draw one picture only."""
        self.simulator.advance(np.clip(np.asarray(action, np.float64), -1, 1))
        self._steps += 1
        success = self._succeeds()
        reward = self._reward(success)
        return reward, False, self._steps >= EPISODE_LENGTH, {"success": success}

    def observe(self) -> dict[str, np.ndarray]:
        """The observation of the present state."""
        simulator, asked = self.simulator, self._options.observe
        observation = {"log/position": simulator.position(), "log/moved": simulator.moved()}
        if "state" in asked:
            observation["state"] = simulator.state()
        if "image" in asked:
            observation["image"] = self._observer.frame()
        return observation

    def task_reward(self, task: str, kind: robodesk_rewards.Kind) -> float:
        """The reward of any of the 18 tasks in the present state (`success` as `sparse`)."""
        if kind == "dense":
            return robodesk_rewards.dense(self.simulator, task)
        return float(robodesk_rewards.success(self.simulator, task))

    def render(self) -> np.ndarray:
        """A frame for videos, uint8 [video_size, video_size, 3]."""
        return self._filmer.frame()

    def close(self) -> None:
        self._observer.close()
        self._filmer.close()

    def _succeeds(self) -> bool:
        return self._task != FREE and robodesk_rewards.success(self.simulator, self._task)

    def _reward(self, success: bool) -> float:
        if self._task == FREE:
            return 0.0
        if self._kind == "dense":
            return robodesk_rewards.dense(self.simulator, self._task)
        pays = success and not (self._kind == "success" and self._paid)
        self._paid |= success
        return float(pays)


class DeskCamera:
    """The package's view of the desk at any size: uint8 [size, size, 3].

    Up to 64 pixels it draws what the package draws; larger frames are drawn larger, not blurred.
    """

    def __init__(self, simulator: Any, size: int):
        mujoco: Any = importlib.import_module("mujoco")
        camera = mujoco.MjvCamera()
        camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        camera.distance, camera.azimuth, camera.elevation = 1.8, 90, -60
        camera.lookat[:] = (0, 0.535, 1.1)
        scale = max(1, math.ceil(size / 64))
        left, top, right, bottom = (edge * scale for edge in CROP)
        self._box = (left, top, right, bottom)
        self._size, self._data = size, simulator.data
        self._frames = Frames(simulator.model, DRAWN * scale, camera)

    def frame(self) -> np.ndarray:
        """Draw the present state."""
        from PIL import Image

        image = Image.fromarray(self._frames.frame(self._data)).crop(self._box)
        return np.asarray(image.resize((self._size, self._size), Image.Resampling.LANCZOS))

    def close(self) -> None:
        """Release the GL context."""
        self._frames.close()


def make(task: str, variant: str, options: TaskOptions) -> gymnasium.Env:
    """Build `robodesk/<task>:<variant>`, variant being one of `robodesk_rewards.KINDS`."""
    kinds = {kind: kind for kind in robodesk_rewards.KINDS}
    return RoboDeskEnv(task, kinds[variant], options)  # pyright: ignore[reportArgumentType]


SUITE = Suite(
    name="robodesk",
    description="a Franka arm at a desk with a drawer, a sliding door, buttons and three objects",
    tasks={FREE: "the desk without rewards, to explore in", **robodesk_rewards.TASKS},
    make=make,
    variants=robodesk_rewards.KINDS,
    splits={
        "readme9": tuple(robodesk_rewards.README_TASKS),
        "all": tuple(robodesk_rewards.TASKS),
    },
)

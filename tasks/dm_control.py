"""`dm_control`: the tasks of the DeepMind Control Suite, as `dm_control/DOMAIN-TASK`.

`state` is the flattened concatenation of the task's observations, float32; `image` is the first
camera's view. Episodes are truncated at the suite's time limit (1,000 steps; the two lqr tasks have
none); a discount of 0 is a termination. Rewards lie in [0, 1]. The suite defines no success, so
`info["success"]` is always False and the metric is the return.
"""

import importlib
import math
from typing import Any

import gymnasium
import numpy as np

from tasks.adapters import action_space, flat_state, observation_space, rescale
from tasks.contract import SpecExtras
from tasks.rendering import fast
from tasks.settings import TaskOptions
from tasks.suite import Suite

# Listing tasks must not import the simulator, so the table is written out; a test compares it.
TASKS = {
    "acrobot-swingup": "swing two links up and balance them",
    "acrobot-swingup_sparse": "the same, rewarded only at the top",
    "ball_in_cup-catch": "catch a ball on a string in a cup",
    "cartpole-balance": "keep a pole upright",
    "cartpole-balance_sparse": "the same, rewarded only near upright",
    "cartpole-swingup": "swing a pole up and balance it",
    "cartpole-swingup_sparse": "the same, rewarded only near upright",
    "cartpole-two_poles": "swing up a double pole",
    "cartpole-three_poles": "swing up a triple pole",
    "cheetah-run": "run with a planar two-legged body",
    "dog-stand": "stand on four legs with 38 actuators",
    "dog-walk": "walk",
    "dog-trot": "trot",
    "dog-run": "run",
    "dog-fetch": "fetch a ball",
    "finger-spin": "keep a free body spinning with a finger",
    "finger-turn_easy": "turn a free body to a large target",
    "finger-turn_hard": "turn a free body to a small target",
    "fish-upright": "right oneself in water",
    "fish-swim": "swim to a target",
    "hopper-stand": "stand on one leg",
    "hopper-hop": "hop forward",
    "humanoid-stand": "stand with 21 actuators",
    "humanoid-walk": "walk",
    "humanoid-run": "run",
    "humanoid-run_pure_state": "run, seeing generalised coordinates only",
    "humanoid_CMU-stand": "stand with 56 actuators",
    "humanoid_CMU-walk": "walk",
    "humanoid_CMU-run": "run",
    "lqr-lqr_2_1": "linear-quadratic regulation of two masses by one actuator",
    "lqr-lqr_6_2": "linear-quadratic regulation of six masses by two actuators",
    "manipulator-bring_ball": "bring a ball to a target",
    "manipulator-bring_peg": "bring a peg to a target",
    "manipulator-insert_ball": "put a ball into a basket",
    "manipulator-insert_peg": "put a peg into a slot",
    "pendulum-swingup": "swing a pendulum up, rewarded only at the top",
    "point_mass-easy": "push a point mass to the middle",
    "point_mass-hard": "the same with mixed-up actuators",
    "quadruped-walk": "walk on four legs",
    "quadruped-run": "run",
    "quadruped-escape": "climb out of a bowl-shaped terrain",
    "quadruped-fetch": "push a ball to the middle",
    "reacher-easy": "reach a large target with two links",
    "reacher-hard": "reach a small target with two links",
    "stacker-stack_2": "stack two boxes",
    "stacker-stack_4": "stack four boxes",
    "swimmer-swimmer6": "swim to a target with six links",
    "swimmer-swimmer15": "swim to a target with fifteen links",
    "walker-stand": "stand on two planar legs",
    "walker-walk": "walk",
    "walker-run": "run",
}


class ControlSuite(gymnasium.Env):
    """One task of the suite behind the task contract."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (gymnasium's convention)
    render_mode = "rgb_array"

    def __init__(self, task: str, variant: str, options: TaskOptions) -> None:
        suite: Any = importlib.import_module("dm_control.suite")  # late: listing stays cheap
        domain, _, name = task.partition("-")
        # the lqr tasks draw their masses here: the same ones in every run
        self._env = suite.load(domain, name, task_kwargs={"random": 0})
        self._options = options
        model = self._env.physics.model.ptr
        if options.render == "fast":
            fast(model)
        largest = max(options.image_size, options.video_size)
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, largest)
        model.vis.global_.offheight = max(model.vis.global_.offheight, largest)
        parts = self._env.observation_spec().values()
        size = sum(int(np.prod(part.shape)) for part in parts)
        self.observation_space = observation_space(options, size)
        actions = self._env.action_spec()
        self._low, self._high = actions.minimum, actions.maximum
        if np.abs(self._high).max() > 1e3:  # lqr leaves its forces unbounded; 1 N is its scale
            self._low, self._high = -np.ones(actions.shape), np.ones(actions.shape)
        self.action_space = action_space(actions.shape[0])
        limit = self._env._step_limit
        self.episode_length = math.ceil(limit) if math.isfinite(limit) else None
        self.spec_extras = SpecExtras(control_hz=1 / self._env.control_timestep())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        if seed is not None:
            self._env.task._random = np.random.RandomState(seed)
        step = self._env.reset()
        return self._observe(step.observation), {"success": False}

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One control step."""
        step = self._env.step(rescale(action, self._low, self._high))
        terminated = step.last() and step.discount == 0
        truncated = step.last() and not terminated
        observation = self._observe(step.observation)
        return observation, float(step.reward), terminated, truncated, {"success": False}

    def render(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A frame of `video_size`."""
        return self._draw(self._options.video_size)

    def close(self) -> None:
        """Free the simulation and its GL context."""
        self._env.physics.free()

    def _observe(self, parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        observation: dict[str, np.ndarray] = {}
        if "state" in self._options.observe:
            observation["state"] = flat_state(parts)
        if "image" in self._options.observe:
            observation["image"] = self._draw(self._options.image_size)
        return observation

    def _draw(self, size: int) -> np.ndarray:
        return self._env.physics.render(height=size, width=size, camera_id=0)


SUITE = Suite(
    name="dm_control",
    description="The DeepMind Control Suite: 51 tasks of balance, locomotion and reaching.",
    tasks=TASKS,
    make=ControlSuite,
)

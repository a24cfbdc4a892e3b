"""`desk`: a planar two-link arm over a table with a puck, a sliding drawer and a button.

Our own MuJoCo scene (`assets/desk.xml`). Every task has the same observations and actions, so
what was explored on `desk/free` carries over to each of them.

State, float32 [15]: `tasks.desk_state`; rewards: `tasks.desk_rewards`. Action [2]: target speeds of
both joints / 2.5 rad/s. 20 Hz; an episode is truncated after 100 steps and never terminates.

Success at a step: over the last 20 steps the sparse reward was above 0.5 on average, in either
variant (never in `free`, nor in the first 19 steps).
"""

import importlib
import math
from collections import deque
from functools import partial
from importlib.resources import files
from typing import Any

import gymnasium
import numpy as np

from tasks import desk_oracle
from tasks.adapters import action_space, observation_space
from tasks.contract import SpecExtras
from tasks.desk_geometry import (
    BUTTON,
    LINK,
    OPEN,
    PRESSED,
    PUCK_MIDDLE,
    SPEED,
    button_position,
    handle_position,
    puck_position,
    tip_position,
)
from tasks.desk_rewards import GOALS, relabel, reward_of
from tasks.desk_state import STATE, places, state_of
from tasks.rendering import Frames, fast
from tasks.settings import TaskOptions
from tasks.suite import Suite

SUBSTEPS = 5  # of 10 ms
EPISODE = 100
WINDOW = 20  # steps over which success is judged
# radii of two discs that touch, plus 1 cm; the handle and the button are capsules along y
CLEAR_PUCK, CLEAR_HANDLE, CLEAR_BUTTON = 0.085, 0.11, 0.10
MOVED = (0.01, 0.01, 0.005)  # m: puck, drawer, button count as moved


class Desk(gymnasium.Env):
    """One desk. It fulfils `tasks.contract` itself: wrappers would cost as much as the physics."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (gymnasium's convention)
    render_mode = "rgb_array"
    episode_length = EPISODE

    def __init__(self, task: str, variant: str, options: TaskOptions) -> None:
        mujoco: Any = importlib.import_module("mujoco")  # late: listing tasks stays cheap
        self._mujoco = mujoco
        self.goal = GOALS[task]
        self._dense = variant == "dense"
        self._see_state = "state" in options.observe
        self._see_image = "image" in options.observe
        scene = files("assets").joinpath("desk.xml").read_text(encoding="utf-8")
        self.model = mujoco.MjModel.from_xml_string(scene)
        self.data = mujoco.MjData(self.model)
        if options.render == "fast":
            fast(self.model)
        self._show_goal()
        self._image = Frames(self.model, options.image_size, "desk")
        self._video = Frames(self.model, options.video_size, "desk")
        self.observation_space = observation_space(
            options, STATE, {"log/position": 2, "log/moved": 3}
        )
        self.action_space = action_space(2)
        label = partial(relabel, self.goal, dense=self._dense)
        self.spec_extras = SpecExtras(
            metric="return",
            objects=("puck", "drawer", "button"),
            oracle=desk_oracle.act,
            places=places if self._see_state else None,
            relabel=label if self._see_state else None,
            variant={"desk": variant},
            control_hz=1 / (SUBSTEPS * self.model.opt.timestep),
        )
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._steps = 0
        self._moved = np.zeros(3, np.float32)
        self._start = (0.0, 0.0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode: the arm and the puck at random, the drawer ajar by up to 1 cm."""
        super().reset(seed=seed)
        self._mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = self._draw_start(self.np_random)
        self._recent.clear()
        self._steps = 0
        self._moved = np.zeros(3, np.float32)
        x, y, self._drawer_start = self.data.qpos[2:5].tolist()
        self._start = (x, y)
        return self._observe(self.data.qpos.tolist()), {"success": False}

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Advance by 50 ms."""
        left, right = action
        control = self.data.ctrl
        control[0] = SPEED * min(max(float(left), -1.0), 1.0)
        control[1] = SPEED * min(max(float(right), -1.0), 1.0)
        self._mujoco.mj_step(self.model, self.data, SUBSTEPS)
        self._steps += 1
        qpos = self.data.qpos.tolist()
        sparse, reward = reward_of(self.goal, qpos, dense=self._dense)
        self._recent.append(sparse)
        success = len(self._recent) == WINDOW and sum(self._recent) > 0.5 * WINDOW
        truncated = self._steps >= EPISODE
        return self._observe(qpos), reward, False, truncated, {"success": success}

    def render(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A frame of `video_size`."""
        return self._draw(self._video)

    def close(self) -> None:
        """Release the GL contexts."""
        self._image.close()
        self._video.close()

    def _observe(self, qpos: list[float]) -> dict[str, np.ndarray]:
        tip_x, tip_y = tip_position(qpos[0], qpos[1])
        observation: dict[str, np.ndarray] = {}
        if self._see_state:
            observation["state"] = state_of(qpos, self.data.qvel.tolist())
        if self._see_image:
            observation["image"] = self._draw(self._image)
        reach = 2 * LINK
        observation["log/position"] = np.array(
            ((tip_x / reach + 1) / 2, (tip_y / reach + 1) / 2), np.float32
        )
        observation["log/moved"] = self._update_moved(*qpos[2:])
        return observation

    def _update_moved(self, x: float, y: float, drawer: float, button: float) -> np.ndarray:
        puck = math.hypot(x - self._start[0], y - self._start[1])
        way = (puck, abs(drawer - self._drawer_start), button)
        for index, (distance, threshold) in enumerate(zip(way, MOVED, strict=True)):
            if distance > threshold:
                self._moved[index] = 1
        return self._moved.copy()

    def _draw_start(self, random: np.random.Generator) -> np.ndarray:
        """Draw [6] joint positions in which the tip touches nothing."""
        while True:
            low = (-1.6, -2.4, 0.25 - PUCK_MIDDLE[0], -0.08, 0, 0)
            high = (1.6, 2.4, 0.38 - PUCK_MIDDLE[0], 0.08, 0.01, 0)
            qpos = random.uniform(low, high)
            tip = tip_position(*qpos[:2].tolist())
            puck = puck_position(qpos[2], qpos[3])
            if (
                math.dist(tip, puck) > CLEAR_PUCK
                and math.dist(tip, handle_position(qpos[4])) > CLEAR_HANDLE
                and math.dist(tip, BUTTON) > CLEAR_BUTTON
            ):
                return qpos

    def _draw(self, frames: Frames) -> np.ndarray:
        # kinematics alone: it refreshes what is drawn and leaves the physics' memory as it is
        self._mujoco.mj_kinematics(self.model, self.data)
        self._mujoco.mj_camlight(self.model, self.data)
        return frames.frame(self.data)

    def _show_goal(self) -> None:
        places = {
            "tip": self.goal.target,
            "puck": self.goal.target,
            "drawer": handle_position(OPEN),
            "button": button_position(PRESSED),
        }
        if self.goal.part in places:
            self.model.site("goal").pos[:2] = places[self.goal.part]
            self.model.site("goal").rgba[:] = (0.1, 0.7, 0.3, 0.55)


SUITE = Suite(
    name="desk",
    description="A two-link arm over a table with a puck, a drawer and a button; fast, our own.",
    tasks={name: goal.description for name, goal in GOALS.items()},
    variants=("dense", "sparse"),
    make=Desk,
)

"""One Meta-World task: its simulator, its 100 goals, its scripted policy and its pictures.

Against metaworld 3.0.0: goals are drawn without building a benchmark (20 s for ML45), an episode is
a function of its goal alone, pictures stand upright, show the state they are taken in, and show
the goal where it is or not at all.
"""

import importlib
import warnings
from typing import Any

import numpy as np

from tasks.metaworld_space import MOVED, STATE_SIZE, objects, position
from tasks.metaworld_splits import GOAL_SETS, GOALS_SEED, GoalSet
from tasks.rendering import Frames, fast
from tasks.settings import TaskOptions

CAMERA = "corner2"
CAMERA_POSITION = (0.75, 0.075, 0.7)  # nearer than the package's, as in MWM and TD-MPC2

mujoco: Any = importlib.import_module("mujoco")


class Scene:
    """The simulator of one task. `start` it before anything else.

    Args:
        task: a key of `metaworld_splits.TASKS`.
    """

    def __init__(self, task: str, options: TaskOptions):
        environments: Any = importlib.import_module("metaworld.env_dict")
        self._policies: Any = importlib.import_module("metaworld.policies")
        self._key = f"{task}-v3"
        self._env: Any = environments.ENV_CLS_MAP[self._key]()
        self._show_goal = options.goals == "visible"
        self._prepare()
        if options.render == "fast":
            fast(self._env.model)
        self._env.model.camera(CAMERA).pos[:] = CAMERA_POSITION
        self._frames: dict[int, Frames] = {}
        self._vectors: dict[tuple[GoalSet, int], np.ndarray] = {}
        self._full = np.zeros(STATE_SIZE)
        self._moved = False

    def _prepare(self) -> None:
        """What the package's `set_task` does once per task, with our own goals."""
        env = self._env
        env._set_task_called = True
        env.seeded_rand_vec = True
        # The simulator always sees the goal (rewards and scripted policies ask for it);
        # whether the agent does is decided in `state`.
        env._partially_observable = False
        del env.sawyer_observation_space  # cached for a hidden goal

    def start(self, goals: GoalSet, variation: int) -> None:
        """Begin the episode of one of the task's 50 variations of goal and placement."""
        env = self._env
        key = (goals, variation)
        if key not in self._vectors:
            # The package draws what a variation is inside of a reset, with rejection.
            env._freeze_rand_vec = False
            env.np_random = np.random.default_rng([GOALS_SEED, GOAL_SETS.index(goals), variation])
            env.reset()
            self._vectors[key] = env._last_rand_vec.copy()
        env._freeze_rand_vec = True
        env._last_rand_vec = self._vectors[key].copy()
        self._full, _ = env.reset()
        self._policy = self._policies.ENV_POLICY_MAP[self._key]()
        self._first, self._moved = self._objects().copy(), False

    def advance(self, action: np.ndarray) -> tuple[float, bool]:
        """One control step of 12.5 ms.

        Args:
            action: [4] in [-1, 1]: hand (x, y, z) by 1 cm, gripper.

        Returns:
            The task's reward (0 to 10), and whether the goal is reached now.
        """
        self._full, reward, _, _, info = self._env.step(np.asarray(action, np.float32))
        distances = np.linalg.norm(self._objects() - self._first, axis=1)
        self._moved |= bool(distances.max() > MOVED)
        return float(reward), bool(info["success"])

    @property
    def steps(self) -> int:
        return self._env.curr_path_length

    def state(self) -> np.ndarray:
        """The package's observation: float32 [39]; the goal is zeros where it is hidden."""
        state = self._full.astype(np.float32)
        if not self._show_goal:
            state[-3:] = 0
        return state

    def position(self) -> np.ndarray:
        """The hand in its space: float32 [3] in [0, 1]."""
        return position(self._full)

    def moved(self) -> np.ndarray:
        """1 if the task's object, or its second one, moved in this episode: float32 [1]."""
        return np.array([self._moved], np.float32)

    def scripted_action(self) -> np.ndarray:
        """What the package's scripted policy does in the present state: float32 [4]."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"Constant\(s\) may be too high")
            action = self._policy.get_action(self._full)
        return np.clip(action, -1, 1).astype(np.float32)

    def picture(self, size: int) -> np.ndarray:
        """Draw the present state upright: uint8 [size, size, 3]."""
        if size not in self._frames:
            self._frames[size] = Frames(self._env.model, size, CAMERA)
        self._update_drawing()
        return np.ascontiguousarray(self._frames[size].frame(self._env.data)[::-1, ::-1])

    def _update_drawing(self) -> None:
        """A reset leaves old positions of bodies, a step those of goal markers."""
        model, data = self._env.model, self._env.data
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        targets = dict(self._env._target_site_config)
        for site in range(model.nsite):
            name = model.site(site).name
            if name in targets:
                data.site(site).xpos[:] = targets[name]
            if not self._show_goal and (name in targets or "goal" in name.lower()):
                model.site_rgba[site, 3] = 0

    def _objects(self) -> np.ndarray:
        """Positions of the first and the second object (zeros where there is none): [2, 3]."""
        return objects(self._full)

    def close(self) -> None:
        """Release GL contexts and the simulator."""
        for frames in self._frames.values():
            frames.close()
        self._env.close()

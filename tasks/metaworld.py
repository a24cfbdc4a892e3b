"""Meta-World: a Sawyer arm and 50 manipulation tasks that share state and action spaces.

`metaworld/<task>` is one task, whose episodes draw one of its 50 goals and placements by the
reset's seed. `metaworld/<split>-mix` draws one of a split's tasks as well, which makes it a place
to explore in; `metaworld/<split>` stands for the split's tasks.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from tasks import adapters
from tasks.contract import SpecExtras
from tasks.metaworld_records import Relabel
from tasks.metaworld_space import ACTIONS, CONTROL_HZ, EPISODE_LENGTH, OBJECT, STATE_SIZE
from tasks.metaworld_splits import GOAL_SETS, GOALS, GOALS_SEED, MIXES, SPLITS, TASKS, GoalSet
from tasks.settings import TaskOptions
from tasks.suite import Suite

if TYPE_CHECKING:
    from tasks.metaworld_scene import Scene

OPEN_SCENES = 4  # simulators a mix keeps, of 25 MB each; building one again takes 0.03 s


class MetaWorldEnv(gymnasium.Env):
    """One or several Meta-World tasks behind the task contract.

    Observations: `state` float32 [39] (18 numbers now, 18 one step before, the goal or zeros),
    `image` uint8 [S, S, 3]. Actions: [4] in [-1, 1]. Never terminates; 500 steps truncate.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 80}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, tasks: Sequence[str], goals: GoalSet, options: TaskOptions):
        from tasks import metaworld_scene  # imports the simulator

        self._make_scene = metaworld_scene.Scene
        self._tasks, self._options = tuple(tasks), options
        self._goals: GoalSet = goals
        self._scenes: OrderedDict[str, Scene] = OrderedDict()
        self._scene: Scene | None = None
        log = {"log/position": 3, "log/moved": 1}
        self.observation_space = adapters.observation_space(options, STATE_SIZE, log)
        self.action_space = adapters.action_space(ACTIONS)
        self.episode_length = EPISODE_LENGTH
        self.spec_extras = SpecExtras(
            metric="success",
            objects=(OBJECT,),
            oracle=lambda env: env.unwrapped.scene.scripted_action(),
            variant={
                "goals": f"{options.goals}, {goals}, seed {GOALS_SEED}",
                "render": options.render,
            },
            control_hz=CONTROL_HZ,
            relabel=self._relabel(),
            relabels_repeats=True,
        )

    def _relabel(self) -> Relabel | None:
        """Of one task whose variations an observation tells apart."""
        options, one = self._options, len(self._tasks) == 1
        tells = "state" in options.observe and options.goals == "visible"
        return Relabel(self._tasks[0], self._goals, options) if one and tells else None

    @property
    def scene(self) -> "Scene":
        """The present episode's simulator."""
        if self._scene is None:
            raise gymnasium.error.ResetNeeded("call reset before anything else")
        return self._scene

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Draw task and goal by `seed`; without one, continue the last seed's draws."""
        super().reset(seed=seed)
        task = self._tasks[int(self.np_random.integers(len(self._tasks)))]
        variation = int(self.np_random.integers(GOALS))
        self._scene = self._open(task)
        self._scene.start(self._goals, variation)
        return self.observe(), {"success": False, "task": task, "variation": variation}

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        reward, terminated, truncated, info = self.advance(action)
        return self.observe(), reward, terminated, truncated, info

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        """A step without its observation, so that repeated actions draw one picture only."""
        reward, success = self.scene.advance(action)
        return reward, False, self.scene.steps >= self.episode_length, {"success": success}

    def observe(self) -> dict[str, np.ndarray]:
        """The observation of the present state."""
        scene, asked = self.scene, self._options.observe
        observation = {"log/position": scene.position(), "log/moved": scene.moved()}
        if "state" in asked:
            observation["state"] = scene.state()
        if "image" in asked:
            observation["image"] = scene.picture(self._options.image_size)
        return observation

    def render(self) -> np.ndarray:
        """A frame for videos, uint8 [video_size, video_size, 3]."""
        return self.scene.picture(self._options.video_size)

    def close(self) -> None:
        while self._scenes:
            self._scenes.popitem()[1].close()
        self._scene = None

    def _open(self, task: str) -> "Scene":
        if task not in self._scenes:
            while len(self._scenes) >= OPEN_SCENES:
                self._scenes.popitem(last=False)[1].close()
            self._scenes[task] = self._make_scene(task, self._options)
        self._scenes.move_to_end(task)
        return self._scenes[task]


def make(task: str, variant: str, options: TaskOptions) -> gymnasium.Env:
    """Build `metaworld/<task>:<goals>` or `metaworld/<split>-mix:<goals>`."""
    goals: GoalSet = "test-goals" if variant == "test-goals" else "train-goals"
    return MetaWorldEnv(MIXES.get(task, (task,)), goals, options)


SUITE = Suite(
    name="metaworld",
    description="a Sawyer arm and 50 manipulation tasks, with the splits MT10, MT50, ML10, ML45",
    tasks={
        **TASKS,
        **{
            name: f"each episode one of {len(tasks)} tasks of {name.removesuffix('-mix')}"
            for name, tasks in MIXES.items()
        },
    },
    make=make,
    variants=GOAL_SETS,
    splits=SPLITS,
)

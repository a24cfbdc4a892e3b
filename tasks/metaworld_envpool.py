"""`metaworld_envpool`: Meta-World's 50 tasks stepped by EnvPool, as `metaworld_envpool/TASK`.

The tasks, splits, states, rewards and lengths are those of `metaworld`, reimplemented in C++ after
metaworld 3.0.0; its Python rewards are most of a step there. What differs: an episode's placement
and goal are drawn by its seed without end, not from 50 of them, so there are no `:test-goals`; no
scripted policy; states only, and no videos, since drawing ends the process where the system has
another OpenGL than the one that EnvPool brings.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from tasks.adapters import action_space, observation_space
from tasks.contract import SpecExtras
from tasks.envpool_pools import Pools, Recipe, Seen
from tasks.envpool_task import SEEDS, EnvPoolTask, Rows, endings, missing, single
from tasks.metaworld_space import (
    ACTIONS,
    CONTROL_HZ,
    EPISODE_LENGTH,
    MOVED,
    OBJECT,
    STATE_SIZE,
    objects,
    position,
)
from tasks.metaworld_splits import MIXES, SPLITS, TASKS
from tasks.settings import TaskOptions
from tasks.suite import Suite


class MetaWorldTask(EnvPoolTask):
    """One task, or a mix of which each episode draws one."""

    def __init__(self, task: str, variant: str, options: TaskOptions) -> None:
        super().__init__(options)
        self._tasks = MIXES.get(task, (task,))
        log = {"log/position": 3, "log/moved": 1}
        self.observation_space = observation_space(options, STATE_SIZE, log)
        self.action_space = action_space(ACTIONS)
        self.episode_length = EPISODE_LENGTH
        self.spec_extras = SpecExtras(
            metric="success",
            objects=(OBJECT,),
            variant={"goals": options.goals, "simulator": "EnvPool"},
            control_hz=CONTROL_HZ,
        )
        self._origins: dict[int, np.ndarray] = {}  # where the objects were at the reset
        self._moved: dict[int, bool] = {}

    def recipe(self, seed: int) -> Recipe:
        """One of the tasks, and all that the simulator draws."""
        random = np.random.default_rng(seed)
        task = self._tasks[int(random.integers(len(self._tasks)))]
        config = (("partially_observable", self.options.goals == "hidden"),)
        return Recipe(name_of(task), int(random.integers(SEEDS)), config)

    def start(self, pools: Pools, seeds: Mapping[int, int]) -> Rows:
        for index in seeds:
            self._origins.pop(index, None)
        return super().start(pools, seeds)

    def read(self, seen: Seen, indices: Sequence[int]) -> Rows:
        state = seen["obs"]
        for index, places in zip(indices, objects(state), strict=True):
            if index not in self._origins:
                self._origins[index], self._moved[index] = places.copy(), False
            self._moved[index] |= moved(self._origins[index], places)
        flags = [[self._moved[index]] for index in indices]
        return {
            "state": state.astype(np.float32),
            "log/position": position(state),
            "log/moved": np.array(flags, np.float32),
            "reward": seen["reward"],
            "success": seen["info.success"] > 0,
            **endings(seen, self.episode_length),
        }


def name_of(task: str) -> str:
    """EnvPool's name of a task: `pick-place` is `MetaWorld/PickPlace-v3`."""
    return f"MetaWorld/{''.join(part.capitalize() for part in task.split('-'))}-v3"


def moved(origin: np.ndarray, places: np.ndarray) -> bool:
    """Whether one of the objects [2, 3] is away from where it was."""
    return bool(np.linalg.norm(places - origin, axis=-1).max() > MOVED)


SUITE = Suite(
    name="metaworld_envpool",
    description="Meta-World's 50 tasks and splits, stepped by EnvPool (extra envpool)",
    tasks={
        **TASKS,
        **{
            name: f"each episode one of {len(tasks)} tasks of {name.removesuffix('-mix')}"
            for name, tasks in MIXES.items()
        },
    },
    make=single(MetaWorldTask),
    envpool=MetaWorldTask,
    missing=missing,
    observes=("state",),
    splits=SPLITS,
)

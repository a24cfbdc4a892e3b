"""What a Meta-World task pays for recorded episodes.

Its rewards depend on more than an observation tells (finger tips, where the episode began), but an
episode is a function of its variation and its actions: so the variation is found by the first
observation, the actions are taken once more, and the simulator says what was paid.
"""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tasks.contract import Rows, TaskError
from tasks.metaworld_space import EPISODE_LENGTH
from tasks.metaworld_splits import GOALS, GoalSet
from tasks.settings import TaskOptions

if TYPE_CHECKING:
    from tasks.metaworld_scene import Scene

CLOSE = 1e-4  # m, between a recorded state and the simulated one


class Relabel:
    """Rewards of one task's recorded episodes (`SpecExtras.relabel`)."""

    def __init__(self, task: str, goals: GoalSet, options: TaskOptions):
        self._task, self._options = task, options
        self._goals: GoalSet = goals

    def __call__(self, rows: Rows) -> np.ndarray:
        """What is paid for an episode's rows in their order: float32 [T]. A reset pays nothing.

        Args:
            rows: `state` [T, 39], `action` [T, 4], taken after each, and `is_first` [T].

        Raises:
            TaskError: it is no episode of this task from its beginning, or the simulator goes
                another way than was recorded.
        """
        scene, states = self._scene, rows["state"]
        if not rows["is_first"][0]:
            raise TaskError(f"{self._task}: the beginning of a recorded episode is missing")
        scene.start(self._goals, self._variation(states[0]))
        paid = np.zeros(len(states), np.float32)
        for step, action in enumerate(rows["action"][:-1], 1):
            for _ in range(min(self._options.action_repeat, EPISODE_LENGTH - scene.steps)):
                paid[step] += scene.advance(action)[0]
            if not np.allclose(scene.state(), states[step], atol=CLOSE):
                raise TaskError(
                    f"{self._task}: step {step} of a recorded episode comes out otherwise when it "
                    "is simulated again; take an exploration of this machine and these versions"
                )
        return paid

    def _variation(self, first: np.ndarray) -> int:
        distances = np.abs(self._beginnings - first).max(1)
        nearest = int(distances.argmin())
        if distances[nearest] > CLOSE:
            raise TaskError(
                f"{self._task}: a recorded episode begins as none of this task's does; "
                f"explore this task itself, with the same goals"
            )
        return nearest

    @cached_property
    def _scene(self) -> "Scene":
        from tasks.metaworld_scene import Scene  # imports the simulator

        return Scene(self._task, self._options)

    @cached_property
    def _beginnings(self) -> np.ndarray:
        """The first state of every variation: [50, 39]."""
        found = []
        for variation in range(GOALS):
            self._scene.start(self._goals, variation)
            found.append(self._scene.state())
        return np.stack(found)

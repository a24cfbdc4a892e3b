"""`dm_control_envpool`: three tasks of the DeepMind Control Suite, stepped by EnvPool.

Names, states, rewards and lengths are those of `dm_control`; EnvPool's are a reimplementation in
C++, with its own draws of starts. States only, and no videos (see `tasks.metaworld_envpool`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.adapters import action_space, observation_space
from tasks.contract import SpecExtras
from tasks.envpool_pools import Recipe, Seen
from tasks.envpool_task import SEEDS, EnvPoolTask, Rows, endings, missing, single
from tasks.settings import TaskOptions
from tasks.suite import Suite

EPISODE_LENGTH = 1000


@dataclass(frozen=True)
class Kind:
    """A task: EnvPool's name, the state's parts in the order of `dm_control`, and sizes."""

    description: str
    id: str
    parts: tuple[str, ...]
    state: int
    actions: int
    hertz: float


KINDS = {
    "acrobot-swingup_sparse": Kind(
        "swing two links up, rewarded only at the top",
        "AcrobotSwingupSparse-v1",
        ("orientations", "velocity"),
        6,
        1,
        100.0,
    ),
    "cheetah-run": Kind(
        "run with a planar two-legged body",
        "CheetahRun-v1",
        ("position", "velocity"),
        17,
        6,
        100.0,
    ),
    "humanoid-stand": Kind(
        "stand with 21 actuators",
        "HumanoidStand-v1",
        (
            *("joint_angles", "head_height", "extremities"),
            *("torso_vertical", "com_velocity", "velocity"),
        ),
        67,
        21,
        40.0,
    ),
}


class ControlTask(EnvPoolTask):
    """One task of the suite. Nothing terminates; 1,000 steps truncate."""

    def __init__(self, task: str, variant: str, options: TaskOptions) -> None:
        super().__init__(options)
        self._kind = KINDS[task]
        self.observation_space = observation_space(options, self._kind.state)
        self.action_space = action_space(self._kind.actions)
        self.episode_length = EPISODE_LENGTH
        self.spec_extras = SpecExtras(variant={"simulator": "EnvPool"}, control_hz=self._kind.hertz)

    def recipe(self, seed: int) -> Recipe:
        """The start is the only thing that is drawn."""
        return Recipe(self._kind.id, int(np.random.default_rng(seed).integers(SEEDS)))

    def read(self, seen: Seen, indices: Sequence[int]) -> Rows:
        rows = len(indices)
        parts = [seen[f"obs.{part}"].reshape(rows, -1) for part in self._kind.parts]
        return {
            "state": np.concatenate(parts, axis=1, dtype=np.float32, casting="same_kind"),
            "reward": seen["reward"],
            "success": np.zeros(rows, bool),
            **endings(seen, self.episode_length),
        }


SUITE = Suite(
    name="dm_control_envpool",
    description="three tasks of the Control Suite, stepped by EnvPool (extra envpool)",
    tasks={name: kind.description for name, kind in KINDS.items()},
    make=single(ControlTask),
    envpool=ControlTask,
    missing=missing,
    observes=("state",),
)

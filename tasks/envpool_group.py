"""The part of a batch that a process steps, where EnvPool steps it: all environments by one call.

It does what `tasks.group.Group` does with copies one after the other, action repeat and the cap on
an episode's length included. An error in EnvPool cannot be blamed on one environment, so it costs
the episodes of all; a number that is not finite costs the episode it is in.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks import registry
from tasks.contract import TaskSpec
from tasks.envpool_pools import Pools
from tasks.envpool_task import EnvPoolTask
from tasks.envpool_task import Rows as Told
from tasks.group import Fault, Group, Replay, Rows, empty_rows, not_finite, told
from tasks.settings import TaskOptions


class EnvPoolGroup:
    """`number` environments of one process; see `tasks.group.Group` for the methods."""

    def __init__(
        self, task: EnvPoolTask, options: TaskOptions, spec: TaskSpec, pools: Pools, number: int
    ) -> None:
        self._task, self._spec, self._pools = task, spec, pools
        self._repeat, self._length = options.action_repeat, spec.episode_length
        self._count = np.zeros(number, int)  # agent steps since the reset

    def run(
        self, actions: np.ndarray | None, resets: Mapping[int, int]
    ) -> tuple[Rows, list[Fault]]:
        """Reset the environments in `resets` (index -> seed); step the others."""
        number = len(self._count)
        stepped = [] if actions is None else [i for i in range(number) if i not in resets]
        rows = empty_rows(self._spec, number)
        try:
            if resets:
                self._reset(resets, rows)
            if stepped and actions is not None:
                self._step(stepped, actions[stepped], rows)
        except Exception as error:
            return rows, self._abandon([*stepped, *resets], told(error))
        return rows, self._not_finite(rows)

    def replay(self, replays: Mapping[int, Replay]) -> tuple[Rows, list[Fault]]:
        """Bring episodes back; the rows are those of their last action (or of the reset)."""
        rows = empty_rows(self._spec, len(self._count))
        try:
            self._reset({index: replay.seed for index, replay in replays.items()}, rows)
            for step in range(max(len(replay.actions) for replay in replays.values())):
                left = [index for index, replay in replays.items() if step < len(replay.actions)]
                taken = np.stack([replays[index].actions[step] for index in left])
                self._step(left, taken, rows)
        except Exception as error:
            return rows, self._abandon(list(replays), told(error))
        return rows, self._not_finite(rows)

    def oracle(self) -> np.ndarray:
        """No task of EnvPool's has a scripted policy.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"task {self._spec.name} has no scripted policy")

    def render(self) -> np.ndarray:
        """Frames [number, H, W, 3], uint8."""
        return self._task.frames(self._pools, range(len(self._count)))

    def close(self) -> None:
        """End the simulators."""
        self._pools.drop(range(len(self._count)))

    def _reset(self, resets: Mapping[int, int], rows: Rows) -> None:
        indices = list(resets)
        begun = self._task.start(self._pools, resets)
        self._count[indices] = 0
        self._write(indices, begun, rows)
        rows["is_first"][indices] = True
        rows["success"][indices] = begun["success"]

    def _step(self, indices: Sequence[int], actions: np.ndarray, rows: Rows) -> None:
        """One agent step, as `tasks.adapters.Limited` has it: held actions, summed rewards."""
        number = len(self._count)
        total, success = np.zeros(number), np.zeros(number, bool)
        terminated, truncated = np.zeros(number, bool), np.zeros(number, bool)
        left = np.asarray(indices)
        taken = dict(zip(indices, actions, strict=True))
        for _ in range(self._repeat):
            act = np.stack([taken[index] for index in left.tolist()])
            step = self._task.step(self._pools, left.tolist(), act)
            self._write(left, step, rows)
            total[left] += step["reward"]
            success[left] |= step["success"]
            terminated[left], truncated[left] = step["terminated"], step["truncated"]
            left = left[~(step["terminated"] | step["truncated"])]
            if not len(left):
                break
        self._count[indices] += 1
        if self._length is not None:
            truncated |= self._count >= self._length
        rows["reward"][indices] = total[indices]
        rows["is_first"][indices] = False
        rows["is_last"][indices] = (terminated | truncated)[indices]
        rows["is_terminal"][indices] = terminated[indices]
        rows["success"][indices] = success[indices]

    def _write(self, indices: Sequence[int] | np.ndarray, step: Told, rows: Rows) -> None:
        for key in self._spec.arrays:
            rows[key][indices] = step[key]

    def _not_finite(self, rows: Rows) -> list[Fault]:
        found = not_finite(rows, self._spec).items()
        return [fault for index, cause in found for fault in self._abandon([index], cause)]

    def _abandon(self, indices: list[int], cause: str) -> list[Fault]:
        self._pools.drop(indices)
        return [Fault(tuple(sorted(indices)), cause)]


AnyGroup = Group | EnvPoolGroup


def make_group(
    name: str, options: TaskOptions, spec: TaskSpec, number: int, progress: Any = None
) -> AnyGroup:
    """What steps `number` environments of a task in this process.

    Args:
        progress: see `tasks.group.Group`; a batch that is stepped by one call leaves it at 0.
    """
    task = registry.envpool_task(name, options)
    if task is None:
        return Group(name, options, spec, number, progress)
    return EnvPoolGroup(task, options, spec, Pools(number), number)

"""Batched stepping of N copies of a task, in this process or in workers.

    vector = make_vector("desk/reach", options, seeds=[0, 1, 2, 3], workers=2, timeout=60)
    rows = vector.reset()
    rows = vector.step(actions)        # see tasks.contract.VectorTasks for the rows

Episode k of environment i starts from a seed derived from (seeds[i], k), so what is collected does
not depend on the number of workers. The trainer's side keeps, for each environment, the episode and
the actions since its reset: enough to bring any simulator back exactly (`snapshot`, `restore`).

A simulator that raises or returns not-a-number loses its episode; a worker that hangs or dies loses
those of all its environments and is started afresh. Every fault is told in one line to the logger
`craik.tasks`; `vector.faults` keeps the last ones. In this process (workers = 0) a hang cannot be
noticed.
"""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tasks import registry
from tasks.contract import TaskSpec, VectorTasks
from tasks.group import Fault, Replay, Rows
from tasks.pool import Backend, InProcess, Pool
from tasks.settings import TaskOptions

logger = logging.getLogger("craik.tasks")
FAULT_WINDOW = 1000  # steps of the batch within which faults are counted
FAULTS_KEPT = 100  # lines


class TaskFault(RuntimeError):
    """The simulator fails so often that going on makes no sense."""


@dataclass
class Episode:
    """Where one environment stands."""

    seed: int  # of the environment
    number: int = -1
    ended: bool = True
    fault: bool = False
    actions: list[np.ndarray] = field(default_factory=list)  # since the reset

    @property
    def reset_seed(self) -> int:
        """The seed of the present episode."""
        return int(np.random.SeedSequence([self.seed, self.number]).generate_state(1)[0])

    def begin(self) -> int:
        """Go on to the next episode; its seed."""
        self.number, self.ended, self.actions = self.number + 1, False, []
        return self.reset_seed


class Vector:
    """N environments stepped as one batch; implements `tasks.contract.VectorTasks`."""

    def __init__(
        self,
        spec: TaskSpec,
        backend: Backend,
        seeds: Sequence[int],
        max_faults: int = 10,
    ) -> None:
        self.spec, self.number = spec, len(seeds)
        self.faults: list[str] = []
        self._backend = backend
        self._episodes = [Episode(int(seed)) for seed in seeds]
        self._max_faults, self._recent = max_faults, deque[int]()
        self._steps = 0
        self._drawable = True

    def reset(self) -> Rows:
        """Start the next episode of every environment."""
        resets = {index: episode.begin() for index, episode in enumerate(self._episodes)}
        return self._settle(*self._backend.run(None, resets))

    def step(self, actions: np.ndarray) -> Rows:
        """Advance every environment: [N, A] floats in [-1, 1], or [N] choices.

        Raises:
            TaskFault: too many faults within the last thousand steps.
        """
        actions = self._checked(actions)
        self._steps += 1
        resets: dict[int, int] = {}
        for index, episode in enumerate(self._episodes):
            if episode.ended:
                resets[index] = episode.begin()
            else:
                episode.actions.append(actions[index])
        return self._settle(*self._backend.run(actions, resets))

    def oracle_actions(self) -> np.ndarray:
        """Scripted actions for the present states, [N, A] or [N].

        Raises:
            ValueError: the task has no scripted policy.
        """
        if not self.spec.has_oracle:
            raise ValueError(f"task {self.spec.name} has no scripted policy")
        return self._backend.oracle()

    def render(self) -> np.ndarray | None:
        """A frame of every environment, uint8 [N, H, W, 3]; None where nothing can be drawn."""
        if not self._drawable:
            return None
        try:
            return self._backend.render()
        except Exception as error:
            self._drawable = False  # asking again would only repeat the message
            reason = str(error) or type(error).__name__
            logger.warning("task %s cannot be drawn: %s", self.spec.name, reason)
            return None

    def snapshot(self) -> dict[str, Any]:
        """What brings every environment back to where it is: plain numbers and arrays.

        Returns:
            {"task", "seeds" [N], "episodes" [N], "fault" [N], "actions": N arrays [T_i, ...]}.
        """
        return {
            "task": self.spec.name,
            "seeds": [episode.seed for episode in self._episodes],
            "episodes": [episode.number for episode in self._episodes],
            "fault": [episode.fault for episode in self._episodes],
            "actions": [self._history(episode) for episode in self._episodes],
        }

    def restore(self, snapshot: dict[str, Any]) -> Rows:
        """Go to where `snapshot` was taken, by replaying the actions since each reset.

        Returns:
            The rows that were current then.

        Raises:
            ValueError: the snapshot is of another task or another number of environments.
        """
        seeds = [int(seed) for seed in snapshot["seeds"]]
        if snapshot["task"] != self.spec.name or len(seeds) != self.number:
            raise ValueError(
                f"the snapshot holds {len(seeds)} environments of {snapshot['task']}, "
                f"this batch {self.number} of {self.spec.name}"
            )
        self._episodes = [
            Episode(seed, int(number), fault=bool(fault), actions=list(self._typed(actions)))
            for seed, number, fault, actions in zip(
                seeds,
                snapshot["episodes"],
                snapshot["fault"],
                snapshot["actions"],
                strict=True,
            )
        ]
        replays = {
            index: Replay(episode.reset_seed, self._history(episode))
            for index, episode in enumerate(self._episodes)
            if episode.number >= 0
        }
        if not replays:
            return self.reset()
        flags = [episode.fault for episode in self._episodes]
        rows = self._settle(*self._backend.replay(replays))
        rows["fault"] |= flags
        for episode, fault in zip(self._episodes, rows["fault"].tolist(), strict=True):
            episode.fault = fault
        return rows

    def close(self) -> None:
        """End the simulators and workers."""
        self._backend.close()

    def _settle(self, rows: Rows, faults: list[Fault]) -> Rows:
        """Put a fresh episode in the place of every lost one; note which episodes ended."""
        lost: set[int] = set()
        while faults:
            resets: dict[int, int] = {}
            for fault in faults:
                self._report(fault)
                resets |= {index: self._episodes[index].begin() for index in fault.indices}
            again, faults = self._backend.run(None, resets)
            for key, values in rows.items():
                values[list(resets)] = again[key][list(resets)]
            lost |= resets.keys()
        rows["fault"][list(lost)] = True
        flags = zip(self._episodes, rows["is_last"].tolist(), rows["fault"].tolist(), strict=True)
        for episode, ended, fault in flags:
            episode.ended, episode.fault = ended, fault
        return rows

    def _report(self, fault: Fault) -> None:
        index, others = fault.indices[0], fault.indices[1:]
        episode = self._episodes[index]
        also = f"; also dropped: environments {', '.join(map(str, others))}" if others else ""
        line = (
            f"task {self.spec.name}: environment {index} (seed {episode.seed}, episode "
            f"{episode.number} from reset seed {episode.reset_seed}, step {len(episode.actions)}) "
            f"was abandoned: {fault.cause}{also}"
        )
        self.faults = [*self.faults[1 - FAULTS_KEPT :], line]
        logger.warning("%s", line)
        self._recent.append(self._steps)
        while self._recent[0] <= self._steps - FAULT_WINDOW:
            self._recent.popleft()
        if len(self._recent) >= self._max_faults:
            self.close()
            raise TaskFault(
                f"{len(self._recent)} faults within {FAULT_WINDOW} steps, giving up; last: {line}"
            )

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        actions = self._typed(actions)
        if len(actions) != self.number or actions.ndim != self._typed(np.zeros(0)).ndim:
            raise ValueError(f"expected {self.number} actions of {self.spec.action}")
        return actions

    def _history(self, episode: Episode) -> np.ndarray:
        return self._typed(np.array(episode.actions))

    def _typed(self, actions: Any) -> np.ndarray:
        """A copy as float32 [T, A] or int64 [T]."""
        if self.spec.action.kind == "discrete":
            return np.array(actions, np.int64).reshape(len(actions))
        return np.array(actions, np.float32).reshape(len(actions), self.spec.action.size)


def make_vector(
    name: str,
    options: TaskOptions,
    seeds: Sequence[int],
    workers: int = 0,
    timeout: float = 60.0,
    max_faults: int = 10,
) -> Vector:
    """Build a batch with one environment per seed.

    Args:
        name: the task.
        options: how it is built.
        seeds: one for each environment; equal seeds give equal episodes.
        workers: processes that share the environments; 0 steps them in this process.
        timeout: seconds without an answer after which a worker counts as hung.
        max_faults: faults within a thousand steps after which `TaskFault` is raised.

    Raises:
        TaskError: the task is unknown, does not follow the contract, or is not installed.
    """
    options = registry.plain(options)
    spec = registry.spec(name, options)
    registry.check_installed(name)
    if workers == 0:
        backend: Backend = InProcess(name, options, spec, len(seeds))
    else:
        backend = Pool(name, options, spec, len(seeds), workers, timeout)
    return Vector(spec, backend, seeds, max_faults)


def _conforms(vector: Vector) -> VectorTasks:
    """The type checker's proof that `Vector` is what the floors above expect."""
    return vector

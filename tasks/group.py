"""Several copies of a task in one process: the part of a batch that a process steps.

It runs in the training process or in a worker (`tasks.worker`). Environments are built with
their first reset, so that a worker makes its simulators and GL contexts itself. An environment
that raises or returns not-a-number is abandoned and built afresh at its next reset.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from tasks import registry
from tasks.adapters import oracle_action
from tasks.contract import FAULTS, MASK, TaskSpec
from tasks.settings import TaskOptions

Rows = dict[str, np.ndarray]
FLAGS = ("is_first", "is_last", "is_terminal", "success", "fault")


@dataclass(frozen=True)
class Fault:
    """Episodes that were lost: `indices` are environments, the first one is to blame."""

    indices: tuple[int, ...]
    cause: str


@dataclass(frozen=True)
class Replay:
    """An episode to bring back: its seed and the actions since its reset, [T] or [T, A]."""

    seed: int
    actions: np.ndarray


def empty_rows(spec: TaskSpec, number: int) -> Rows:
    """Zeroed rows of a batch: observations, log keys, reward, flags; a mask that allows all."""
    rows = {
        key: np.zeros((number, *array.shape), array.dtype) for key, array in spec.arrays.items()
    }
    if spec.masked:
        rows[MASK][:] = True
    rows["reward"] = np.zeros(number, np.float32)
    rows |= {flag: np.zeros(number, bool) for flag in FLAGS}
    return rows


class Group:
    """`number` environments of one process, stepped one after the other."""

    def __init__(
        self, name: str, options: TaskOptions, spec: TaskSpec, number: int, progress: Any = None
    ) -> None:
        """`progress[0]` is set to the environment being stepped, for whoever watches a hang."""
        self._name, self._options, self._spec = name, options, spec
        self._envs: list[gymnasium.Env | None] = [None] * number
        self._keys = tuple(spec.arrays)
        self._progress = progress if progress is not None else bytearray(1)

    def run(
        self, actions: np.ndarray | None, resets: Mapping[int, int]
    ) -> tuple[Rows, list[Fault]]:
        """Reset the environments in `resets` (index -> seed); step the others.

        With `actions` None nothing is stepped, and only the rows of `resets` mean anything.
        """
        rows = empty_rows(self._spec, len(self._envs))
        faults: list[Fault] = []
        for index in range(len(self._envs)):
            if index not in resets and actions is None:
                continue
            self._progress[0] = index
            try:
                if index in resets:
                    self._reset(index, resets[index], rows)
                else:
                    assert actions is not None
                    self._step(index, actions[index], rows)
            except FAULTS as error:
                faults.append(self._abandon(index, told(error)))
        return rows, faults + self._not_finite(rows, {fault.indices[0] for fault in faults})

    def replay(self, replays: Mapping[int, Replay]) -> tuple[Rows, list[Fault]]:
        """Bring episodes back; the rows are those of their last action (or of the reset)."""
        rows = empty_rows(self._spec, len(self._envs))
        faults: list[Fault] = []
        for index, episode in replays.items():
            self._progress[0] = index
            try:
                self._reset(index, episode.seed, rows)
                for action in episode.actions:
                    self._step(index, action, rows)
            except FAULTS as error:
                faults.append(self._abandon(index, told(error)))
        return rows, faults + self._not_finite(rows, {fault.indices[0] for fault in faults})

    def oracle(self) -> np.ndarray:
        """Scripted actions [number, A] (or [number]) for the present states."""
        actions = []
        for env in self._envs:
            assert env is not None, "reset first"
            actions.append(oracle_action(env))
        return np.stack(actions)

    def render(self) -> np.ndarray:
        """Frames [number, H, W, 3], uint8."""
        frames = []
        for env in self._envs:
            assert env is not None, "reset first"
            frames.append(env.render())
        return np.stack(frames)

    def close(self) -> None:
        """Close every environment."""
        for index in range(len(self._envs)):
            self._drop(index)

    def _reset(self, index: int, seed: int, rows: Rows) -> None:
        env = self._envs[index]
        if env is None:
            env = self._envs[index] = registry.make(self._name, self._options)
        observation, info = env.reset(seed=seed)
        self._write(index, observation, rows)
        rows["reward"][index] = 0
        rows["is_first"][index] = True
        rows["is_last"][index] = rows["is_terminal"][index] = False
        rows["success"][index] = info.get("success", False)

    def _step(self, index: int, action: Any, rows: Rows) -> None:
        env = self._envs[index]
        assert env is not None, "reset first"
        observation, reward, terminated, truncated, info = env.step(action)
        self._write(index, observation, rows)
        rows["reward"][index] = reward
        rows["is_first"][index] = False
        rows["is_last"][index] = terminated or truncated
        rows["is_terminal"][index] = terminated
        rows["success"][index] = info.get("success", False)

    def _write(self, index: int, observation: Mapping[str, np.ndarray], rows: Rows) -> None:
        for key in self._keys:
            rows[key][index] = observation[key]

    def _not_finite(self, rows: Rows, known: set[int]) -> list[Fault]:
        """Abandon the environments whose rows hold infinities or not-a-numbers."""
        found = not_finite(rows, self._spec).items()
        return [self._abandon(index, cause) for index, cause in found if index not in known]

    def _abandon(self, index: int, cause: str) -> Fault:
        self._drop(index)
        return Fault((index,), cause)

    def _drop(self, index: int) -> None:
        env, self._envs[index] = self._envs[index], None
        if env is not None:
            with contextlib.suppress(*FAULTS):  # it may be broken already
                env.close()


def not_finite(rows: Rows, spec: TaskSpec) -> dict[int, str]:
    """The environments whose rows hold infinities or not-a-numbers, and what does."""
    floats = [key for key, array in spec.arrays.items() if array.dtype.startswith("float")]
    found: dict[int, str] = {}
    for key in ("reward", *floats):
        finite = np.isfinite(rows[key])
        if finite.all():
            continue
        for index in np.flatnonzero(~finite.reshape(len(finite), -1).all(1)).tolist():
            found.setdefault(index, f"{key} is not a finite number")
    return found


def told(error: BaseException) -> str:
    """An error in one line, with the place that raised it."""
    place, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f" ({code.co_filename}:{trace.tb_lineno})"
        trace = trace.tb_next
    return " ".join(f"{type(error).__name__}: {error}".split()) + place

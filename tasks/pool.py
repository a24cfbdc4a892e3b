"""Where a batch is stepped: in this process, or spread over workers."""

import contextlib
import functools
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy as np

from tasks.contract import TaskSpec
from tasks.envpool_group import make_group
from tasks.group import Fault, Replay, Rows, empty_rows
from tasks.settings import TaskOptions
from tasks.worker import Worker, WorkerLost

T = TypeVar("T")


class Backend(Protocol):
    """What steps the environments; see `tasks.group.Group` for each method."""

    def run(
        self, actions: np.ndarray | None, resets: Mapping[int, int]
    ) -> tuple[Rows, list[Fault]]: ...
    def replay(self, replays: Mapping[int, Replay]) -> tuple[Rows, list[Fault]]: ...
    def oracle(self) -> np.ndarray: ...
    def render(self) -> np.ndarray: ...
    def close(self) -> None: ...


class InProcess:
    """All environments in this process.

    A GL context belongs to the thread that made it (elsewhere drawing fails, or gives black
    pictures), while a trainer may collect in one thread and evaluate in another. So whatever
    draws runs in one thread that all batches of this process share.
    """

    def __init__(self, name: str, options: TaskOptions, spec: TaskSpec, number: int) -> None:
        self._group = make_group(name, options, spec, number)
        self._step_draws = "image" in options.observe

    def run(
        self, actions: np.ndarray | None, resets: Mapping[int, int]
    ) -> tuple[Rows, list[Fault]]:
        """Step or reset."""
        if self._step_draws:
            return _drawing(self._group.run, actions, resets)
        return self._group.run(actions, resets)

    def replay(self, replays: Mapping[int, Replay]) -> tuple[Rows, list[Fault]]:
        """Bring episodes back."""
        return _drawing(self._group.replay, replays)

    def oracle(self) -> np.ndarray:
        """Scripted actions of all environments."""
        return self._group.oracle()

    def render(self) -> np.ndarray:
        """Frames of all environments."""
        return _drawing(self._group.render)

    def close(self) -> None:
        """Close the environments."""
        _drawing(self._group.close)


def _drawing(method: Callable[..., T], *arguments: Any) -> T:
    """Call in the thread that owns the GL contexts."""
    return _draughtsman().submit(method, *arguments).result()


def _one_core_each(workers: int) -> list[int]:
    """A core for each worker where there are as many, else none.

    They are woken within microseconds of each other by a process that is still busy, and Linux then
    now and then puts two of them on one core: one vector step in ten took twice its time. Such a
    worker is also scheduled as batch work, which takes no core away when it is woken: the one on
    this process's core else ran before the others had been sent anything (a tenth of a step).
    """
    if not hasattr(os, "sched_getaffinity"):  # not Linux
        return []
    cores = sorted(os.sched_getaffinity(0))
    return cores if 1 < workers == len(cores) else []


@functools.cache
def _draughtsman() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="craik-drawing")


class Pool:
    """Environments spread over worker processes, one message per step and worker."""

    def __init__(
        self,
        name: str,
        options: TaskOptions,
        spec: TaskSpec,
        number: int,
        workers: int,
        timeout: float,
    ) -> None:
        self._recipe, self._timeout = (name, options, spec), timeout
        self._slices = [
            range(int(part[0]), int(part[-1]) + 1)
            for part in np.array_split(np.arange(number), min(workers, number))
        ]
        self._cores = _one_core_each(len(self._slices))
        self._workers = [self._start(index) for index in range(len(self._slices))]

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.pid for worker in self._workers]

    def run(
        self, actions: np.ndarray | None, resets: Mapping[int, int]
    ) -> tuple[Rows, list[Fault]]:
        """Step or reset, all workers at once."""
        asked: list[int] = []
        for index, slots in enumerate(self._slices):
            own = {i - slots.start: resets[i] for i in slots if i in resets}
            if actions is not None:
                self._workers[index].run(actions[slots.start : slots.stop], own)
            elif own:
                self._workers[index].run(None, own)
            else:
                continue
            asked.append(index)
        return self._gather(asked, self._timeout)

    def replay(self, replays: Mapping[int, Replay]) -> tuple[Rows, list[Fault]]:
        """Bring episodes back; the time limit grows with the actions to repeat."""
        asked: list[int] = []
        longest = 0
        for index, slots in enumerate(self._slices):
            own = {i - slots.start: replays[i] for i in slots if i in replays}
            longest = max(longest, sum(len(replay.actions) for replay in own.values()))
            if own:
                self._workers[index].replay(own)
                asked.append(index)
        return self._gather(asked, self._timeout * (1 + longest))

    def oracle(self) -> np.ndarray:
        """Scripted actions of all environments."""
        return self._ask("oracle")

    def render(self) -> np.ndarray:
        """Frames of all environments."""
        return self._ask("render")

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.close()

    def _start(self, index: int) -> Worker:
        number, threads = len(self._slices[index]), len(self._slices)
        worker = Worker(*self._recipe, number=number, threads=threads)
        if self._cores:
            with contextlib.suppress(OSError):  # it died already, which its first answer tells
                os.sched_setaffinity(worker.pid, {self._cores[index]})
                os.sched_setscheduler(worker.pid, os.SCHED_BATCH, os.sched_param(0))
        return worker

    def _gather(self, asked: list[int], timeout: float) -> tuple[Rows, list[Fault]]:
        """Join the rows of the workers that were `asked`; a lost one is replaced."""
        deadline = time.monotonic() + timeout
        parts: list[Rows | None] = [None] * len(self._workers)
        faults: list[Fault] = []
        for index in asked:
            parts[index], found = self._collect(index, deadline)
            faults.extend(found)
        return self._join(parts), faults

    def _collect(self, index: int, deadline: float) -> tuple[Rows | None, list[Fault]]:
        slots, worker = self._slices[index], self._workers[index]
        try:
            if not worker.alive:
                raise WorkerLost("died while nothing was stepped", 0)
            rows, faults = worker.rows(deadline)
        except (WorkerLost, RuntimeError) as error:
            worker.close()
            self._workers[index] = self._start(index)
            cause, blamed = error.args if isinstance(error, WorkerLost) else (str(error), 0)
            first = slots.start + min(blamed, len(slots) - 1)
            others = tuple(slot for slot in slots if slot != first)
            return None, [Fault((first, *others), f"worker {index} {cause}")]
        return rows, [Fault(tuple(slots.start + i for i in f.indices), f.cause) for f in faults]

    def _join(self, parts: list[Rows | None]) -> Rows:
        """Rows of the whole batch; zeros where a worker gave none."""
        spec = self._recipe[2]
        filled = [
            empty_rows(spec, len(slots)) if part is None else part
            for part, slots in zip(parts, self._slices, strict=True)
        ]
        return {key: np.concatenate([part[key] for part in filled]) for key in filled[0]}

    def _ask(self, method: str) -> np.ndarray:
        """Ask every worker; one that is lost here is noticed again, and reported, by `run`."""
        for worker in self._workers:
            worker.send(method)
        deadline = time.monotonic() + self._timeout
        answers, errors = [], []
        for worker in self._workers:
            try:
                answers.append(worker.receive(deadline))
            except (WorkerLost, RuntimeError) as error:
                errors.append(str(error.args[0]))
        if errors:
            raise RuntimeError(errors[0])
        return np.concatenate(answers)

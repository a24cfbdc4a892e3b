"""Where jobs run: in this process, or on a pool of long-lived worker processes.

A pool's workers are spawned once and take job after job, so that what JAX compiled for one job is
warm for the next. Jobs share nothing but the run's folder, so that another back end (a cluster)
needs only `execute`.
"""

import contextlib
import multiprocessing as mp
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

from pipeline.environment import pin_gpu, share_cores
from pipeline.jobs import Job, Stage
from pipeline.work import Result, Task, do, leave_error

_TICK = 0.5  # seconds between looks at progress
_GRACE = 60.0  # seconds for a busy worker to write its checkpoint and end when asked


class Watcher(Protocol):
    """Who is told what happens."""

    def started(self, job: Job) -> None: ...
    def finished(self, job: Job, result: Result) -> None: ...
    def skipped(self, job: Job, cause: str) -> None: ...
    def tick(self) -> None: ...


@dataclass
class Queue:
    """Jobs that wait for their inputs; a job whose input failed is skipped.

    An input that is not among the jobs is taken as finished.
    """

    waiting: dict[str, Task]
    watcher: Watcher
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, tasks: Sequence[Task], watcher: Watcher) -> "Queue":
        """A queue of tasks in order."""
        queue = cls({task.job.id: task for task in tasks}, watcher)
        queue.blocking = set(queue.waiting)
        return queue

    blocking: set[str] = field(default_factory=set)  # ids that are not finished yet
    running: list[Task] = field(default_factory=list)
    compiled: set[tuple[Stage, bool]] = field(default_factory=set)  # kinds finished once

    def next(self) -> Task | None:
        """Take the first task whose inputs are finished; None if there is none now.

        The first job of a kind compiles its training step, which its likes then find in the cache.
        So while it runs, other kinds go before its likes, which would compile the same beside it.
        """
        ready = [
            task
            for task in self.waiting.values()
            if not self.blocking.intersection(task.job.inputs)
        ]
        if not ready:
            return None
        compiling = {task.job.kind for task in self.running} - self.compiled
        chosen = next((task for task in ready if task.job.kind not in compiling), ready[0])
        self.running.append(chosen)
        return self.waiting.pop(chosen.job.id)

    def close(self, task: Task, result: Result) -> None:
        """A task has ended: free or skip what waits for it."""
        self.watcher.finished(task.job, result)
        self.running.remove(task)
        if result.outcome == "finished":
            self.compiled.add(task.job.kind)
            self.blocking.discard(task.job.id)
        else:
            self.failed.append(task.job.id)
            self._skip(task.job.id)

    def _skip(self, cause: str) -> None:
        for id in [id for id, task in self.waiting.items() if cause in task.job.inputs]:
            task = self.waiting.pop(id)
            self.skipped.append(id)
            self.watcher.skipped(task.job, cause)
            self._skip(id)

    @property
    def outcome(self) -> "Outcome":
        """What came of it."""
        return Outcome(tuple(self.failed), tuple(self.skipped))


@dataclass(frozen=True)
class Outcome:
    """Ids of the jobs that failed, and of those that could not start therefore."""

    failed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def execute(tasks: Sequence[Task], workers: int, watcher: Watcher) -> Outcome:
    """Run jobs as their inputs get done.

    Raises:
        KeyboardInterrupt: after every worker has ended.
    """
    queue = Queue.of(tasks, watcher)
    workers = min(workers, len(tasks))
    if workers <= 1:
        _serial(queue)
    else:
        _pool(queue, workers)
    return queue.outcome


def _serial(queue: Queue) -> None:
    share_cores(os.environ, 1)
    with _ticking(queue.watcher):
        while (task := queue.next()) is not None:
            queue.watcher.started(task.job)
            queue.close(task, do(task))


@contextlib.contextmanager
def _ticking(watcher: Watcher) -> Iterator[None]:
    """Tell the watcher to look at progress while this process is busy with a job."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(_TICK):
            watcher.tick()

    thread = threading.Thread(target=loop, daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@dataclass
class _Worker:
    number: int
    process: BaseProcess
    pipe: Connection
    task: Task | None = None
    since: float = 0.0


def _pool(queue: Queue, number: int) -> None:
    share_cores(os.environ, number)
    workers = [_hire(i) for i in range(number)]
    try:
        while _assign(queue, workers):
            ready = wait([worker.pipe for worker in workers if worker.task], timeout=_TICK)
            for i, worker in enumerate(workers):
                if worker.pipe in ready and not _collect(queue, worker):
                    workers[i] = _hire(worker.number)
            queue.watcher.tick()
    finally:
        _dismiss(workers)


def _assign(queue: Queue, workers: list[_Worker]) -> bool:
    """Give idle workers what is ready; whether any work is under way."""
    for worker in workers:
        if worker.task is None and (task := queue.next()) is not None:
            worker.task, worker.since = task, time.monotonic()
            worker.pipe.send(task)
            queue.watcher.started(task.job)
    return any(worker.task for worker in workers)


def _collect(queue: Queue, worker: _Worker) -> bool:
    """Take a worker's result; False if it died instead."""
    task = worker.task
    assert task is not None
    try:
        result: Result = worker.pipe.recv()
        alive = True
    except (EOFError, ConnectionResetError):
        worker.process.join()
        worker.pipe.close()
        seconds = time.monotonic() - worker.since
        result = Result(task.job.id, "failed", seconds, _cause_of_death(worker.process.exitcode))
        leave_error(task.root / task.job.id, result.message + "\n")
        alive = False
    worker.task = None
    queue.close(task, result)
    return alive


def _cause_of_death(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "its process was killed (signal 9), perhaps for want of memory: try fewer --jobs"
    return f"its process died (exit code {code}); see log.txt in its folder"


def _hire(number: int) -> _Worker:
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(number, theirs), name=f"craik-{number}")
    before = os.environ.copy()
    try:
        pin_gpu(os.environ, number)  # a spawned process reads its environment once, at its start
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
    theirs.close()
    return _Worker(number, process, ours)


def _dismiss(workers: list[_Worker]) -> None:
    """End every worker: idle ones when their pipe closes, busy ones by a signal.

    A busy one writes a checkpoint first; a second Ctrl-C does not wait for that.
    """
    busy = [worker for worker in workers if worker.task is not None]
    if busy:
        print(f"stopping {len(busy)} jobs at their next checkpoint", file=sys.stderr, flush=True)
    for worker in workers:
        worker.pipe.close()
    for worker in busy:
        worker.process.terminate()
    deadline = time.monotonic() + _GRACE
    with contextlib.suppress(KeyboardInterrupt):
        for worker in workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
    for worker in workers:
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _work(number: int, pipe: Connection) -> None:
    """A worker's life: take a task, do it, answer; end when the pipe closes or it is told to."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and says so by SIGTERM
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt, EOFError, OSError):
        while True:
            task: Task = pipe.recv()
            with _output_to(task):
                result = do(task)
            pipe.send(result)


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """Leave at once when the parent is gone, even in the middle of a job."""
    parent = mp.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextlib.contextmanager
def _output_to(task: Task) -> Iterator[None]:
    """Send what a job prints, native libraries included, to `log.txt` in its folder."""
    folder = task.root / task.job.id
    _flush()
    saved = os.dup(1), os.dup(2)
    with contextlib.suppress(OSError):  # on a full disk the job itself says so
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log.txt").open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        _flush()
        for target, source in enumerate(saved, start=1):
            os.dup2(source, target)
            os.close(source)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()

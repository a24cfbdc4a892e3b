"""A process that steps a part of a batch, and the handle by which the trainer holds it.

Workers are started afresh, not forked (a GL context or JAX's threads do not survive a fork), with
nothing inherited but three descriptors: the message socket, one end of a pipe that closes when the
parent is gone, and a file of shared memory for actions, rows and which environment is being stepped
(`tasks.shared_rows`). They do not import the parent's main module.
"""

import contextlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from tasks.contract import TaskSpec
from tasks.envpool_group import AnyGroup, make_group
from tasks.group import Fault, Replay, Rows, told
from tasks.rendering import choose_gl
from tasks.settings import TaskOptions
from tasks.shared_rows import SharedRows, memory_file

STARTUP = 120.0  # s, added to the first answer's time limit: imports and building simulators
STOPS = (signal.SIGINT, signal.SIGTERM)
GRACE = 5.0  # s, for closing simulators in order before a process is ended


class WorkerLost(Exception):
    """The worker hung or died; the message says which, and it has been ended."""


class Worker:
    """The trainer's handle of one worker process with `number` environments."""

    def __init__(
        self, name: str, options: TaskOptions, spec: TaskSpec, number: int, threads: int = 1
    ) -> None:
        choose_gl()  # found out once here, inherited by every worker
        ours, theirs = socket.socketpair()
        life_read, life_write = os.pipe()
        memory = memory_file(spec, number)
        self._shared = SharedRows(memory.fileno(), spec, number)
        inherited = (theirs.fileno(), life_read, memory.fileno())
        with _stops_blocked():  # the worker inherits that, until it ignores them
            self._process = subprocess.Popen(
                [sys.executable, "-c", _program(inherited)],
                pass_fds=inherited,
                stdin=subprocess.DEVNULL,
                stdout=2,  # a simulator's chatter must not mix with a command's output
                env=_environment(threads),
            )
        theirs.close()
        os.close(life_read)
        memory.close()
        self._connection = Connection(ours.detach())
        self._answers = select.poll()
        self._answers.register(self._connection.fileno(), select.POLLIN)
        self._fresh = True
        self.alive = True
        self._finalizer = weakref.finalize(self, _end, self._process, self._connection, life_write)
        self._tell((name, options, spec, number))

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def current(self) -> int:
        """The environment (counted within this worker) that is or was last being stepped."""
        return int(self._shared.progress[0])

    def run(self, actions: np.ndarray | None, resets: Mapping[int, int]) -> None:
        """Ask for `Group.run`; the answer comes by `rows`."""
        if actions is not None:
            self._shared.actions[...] = actions
        self.send("run", actions is not None, resets)

    def replay(self, replays: Mapping[int, Replay]) -> None:
        """Ask for `Group.replay`; the answer comes by `rows`."""
        self.send("replay", replays)

    def rows(self, deadline: float) -> tuple[Rows, list[Fault]]:
        """What `run` or `replay` gave; the rows are overwritten by the next. See `receive`."""
        faults = self.receive(deadline)
        return self._shared.rows, faults

    def send(self, method: str, *arguments: Any) -> None:
        """Ask for `method(*arguments)` of `_Served`; the answer comes by `receive`."""
        self._tell((method, arguments))

    def receive(self, deadline: float) -> Any:
        """The answer, waiting until `deadline` (of `time.monotonic`; later for a fresh worker).

        Raises:
            WorkerLost: none came; the process has been ended.
            RuntimeError: the method itself raised.
        """
        wait = max(0.0, deadline - time.monotonic()) + (STARTUP if self._fresh else 0.0)
        try:
            if not self._answers.poll(1e3 * wait):
                raise self._lost(f"hung: no answer for {wait:.0f} s")
            failed, answer = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            raise self._lost(f"died {self._obituary()}") from None
        self._fresh = False
        if failed:
            raise RuntimeError(answer)
        return answer

    def close(self) -> None:
        """End the process, giving it a moment to close its simulators."""
        self.alive = False
        self._finalizer()

    def _tell(self, message: tuple[Any, ...]) -> None:
        with contextlib.suppress(OSError):  # a dead worker is noticed when it does not answer
            # `Connection.send` would make a pickler of its own kind every time
            self._connection.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))

    def _lost(self, cause: str) -> WorkerLost:
        self.alive = False
        if self._process.poll() is None:
            self._process.kill()
        current = self.current
        self._finalizer()
        return WorkerLost(cause, current)

    def _obituary(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        code = self._process.poll()
        if code is None:
            return "without closing"
        return f"(signal {-code})" if code < 0 else f"(exit code {code})"


@contextlib.contextmanager
def _stops_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _program(descriptors: tuple[int, ...]) -> str:
    # the parent's search path, so that `tasks` and the user's modules are the same there
    return (
        f"import sys; sys.path[:] = {sys.path!r}; "
        f"from tasks.worker import main; main{descriptors!r}"
    )


def _environment(threads: int) -> dict[str, str]:
    one = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    defaults: dict[str, str] = dict.fromkeys(one, "1")
    if threads > 1:  # with a process per core, software GL's own threads only get in the way
        defaults["LP_NUM_THREADS"] = "0"
    # a simulator written in JAX must not reserve the accelerator on which the trainer learns
    return defaults | dict(os.environ) | {"JAX_PLATFORMS": "cpu"}


def _end(process: subprocess.Popen, connection: Connection, life: int) -> None:
    """Close the pipes, which ends the worker, and wait for it."""
    connection.close()
    os.close(life)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class _Served:
    """What a worker does: its part of the batch, with actions and rows in shared memory."""

    def __init__(self, group: AnyGroup, shared: SharedRows) -> None:
        self._group, self._shared = group, shared
        self.oracle, self.render = group.oracle, group.render

    def run(self, stepped: bool, resets: Mapping[int, int]) -> list[Fault]:
        actions = self._shared.actions.copy() if stepped else None  # a simulator may keep its own
        rows, faults = self._group.run(actions, resets)
        self._shared.write(rows)
        return faults

    def replay(self, replays: Mapping[int, Replay]) -> list[Fault]:
        rows, faults = self._group.replay(replays)
        self._shared.write(rows)
        return faults


def main(messages: int, life: int, memory: int) -> None:
    """The worker's life: build what the first message says, then answer until the pipe closes."""
    for number in STOPS:  # they go to the whole group; the parent decides, and closes the pipe
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    threading.Thread(target=_watch, args=(life,), daemon=True).start()
    connection = Connection(messages)
    group: AnyGroup | None = None
    try:
        name, options, spec, number = pickle.loads(connection.recv_bytes())
        shared = SharedRows(memory, spec, number)
        group = make_group(name, options, spec, number, shared.progress)
        served = _Served(group, shared)
        while True:
            method, arguments = pickle.loads(connection.recv_bytes())
            answer = _answer(served, method, arguments)
            connection.send_bytes(pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))
    except (EOFError, OSError):
        pass  # the parent closed the pipe, or is gone
    finally:
        if group is not None:
            group.close()


def _answer(served: _Served, method: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return False, getattr(served, method)(*arguments)
    except Exception as error:
        return True, told(error)


def _watch(life: int) -> None:
    """End this process soon after the parent's, even in the middle of a hung step."""
    os.read(life, 1)  # returns when the parent's end closes
    time.sleep(GRACE / 2)
    os._exit(1)

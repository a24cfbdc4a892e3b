"""Stopping on request: SIGTERM and Ctrl-C let a job write a checkpoint first."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Interrupted(Exception):
    """A job stopped on request, after a checkpoint; running it again goes on."""


@contextmanager
def watched() -> Iterator[Callable[[], bool]]:
    """Within the context, signals are noted instead of obeyed; the callable says if one came.

    A second Ctrl-C does not wait for the checkpoint.

    Raises:
        KeyboardInterrupt: in the main thread, at that second Ctrl-C.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def note(number: int, _: object) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, note)
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

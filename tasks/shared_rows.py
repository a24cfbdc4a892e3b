"""Actions and rows of a worker's environments, in memory that it shares with the trainer.

What passes at every step is written here by one and read by the other; through their socket go only
what to do and what failed. That halves what a step takes beside the simulators
(docs/performance.md).
"""

import mmap
import os
import tempfile
from typing import IO

import numpy as np

from tasks.contract import TaskSpec
from tasks.group import Rows, empty_rows

ALIGNMENT = 64  # bytes, a cache line
_PROGRESS, _ACTIONS = " progress", " actions"  # no key of a row begins so


class SharedRows:
    """Arrays of `number` environments over one open file, laid out alike wherever it is mapped.

    `progress[0]` is the environment that is being stepped, `actions` are the last ones to take.
    """

    progress: np.ndarray  # int64 [1]
    actions: np.ndarray  # float32 [number, A] or int64 [number]
    rows: Rows

    def __init__(self, descriptor: int, spec: TaskSpec, number: int) -> None:
        arrays = _arrays(spec, number)
        memory = mmap.mmap(descriptor, _size(arrays))
        offset = 0
        views: Rows = {}
        for name, array in arrays.items():
            flat = np.frombuffer(memory, array.dtype, array.size, offset)
            views[name] = flat.reshape(array.shape)
            offset += _padded(array)
        self.progress, self.actions = views.pop(_PROGRESS), views.pop(_ACTIONS)
        self.rows = views

    def write(self, rows: Rows) -> None:
        """Put `rows` where the other process reads them."""
        for key, values in self.rows.items():
            values[...] = rows[key]


def memory_file(spec: TaskSpec, number: int) -> IO[bytes]:
    """An open file without a name, as large as `SharedRows` needs; in memory where that can be."""
    if hasattr(os, "memfd_create"):  # Linux
        file: IO[bytes] = os.fdopen(os.memfd_create("craik"), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    file.write(bytes(_size(_arrays(spec, number))))  # a hole could not be filled on a full disk
    file.flush()
    return file


def _arrays(spec: TaskSpec, number: int) -> Rows:
    """Arrays like those that are shared, in their order."""
    if spec.action.kind == "discrete":
        actions = np.zeros(number, np.int64)
    else:
        actions = np.zeros((number, spec.action.size), np.float32)
    return {_PROGRESS: np.zeros(1, np.int64), _ACTIONS: actions} | empty_rows(spec, number)


def _padded(array: np.ndarray) -> int:
    return -(-array.nbytes // ALIGNMENT) * ALIGNMENT


def _size(arrays: Rows) -> int:
    return sum(map(_padded, arrays.values()))

"""What the command line prints to: streams that were closed, and those that take no more."""

import contextlib
import errno
import os
import sys
from typing import NoReturn, TypeGuard

_UNHEARD = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT)


def open_closed() -> None:
    """Give streams that were closed (`>&-`) to nobody, lest the next file opened takes their place,
    and with it what is printed."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free: this one
            os.set_inheritable(descriptor, True)  # as a stream is
            setattr(sys, name, os.fdopen(descriptor, mode))


def unheard(error: Exception) -> TypeGuard[OSError]:
    """Whether what was printed could not be written; a stream, unlike a file, has no name."""
    return isinstance(error, OSError) and error.filename is None and error.errno in _UNHEARD


def give_up(error: OSError) -> NoReturn:
    """End with exit code 1, without more words than one line where somebody may read it."""
    if error.errno != errno.EPIPE:
        with contextlib.suppress(OSError):
            print(f"craik: what is printed cannot be written: {error.strerror}", file=sys.stderr)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):  # for what is still buffered, and flushed at the end
        os.dup2(nowhere, stream.fileno())
    sys.exit(1)

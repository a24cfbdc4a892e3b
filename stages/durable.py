"""Writing so that neither a kill, a full disk nor a power cut leaves half a file in a file's place.

What is written lies beside the file until it is whole and on disk for good; then it takes the
file's name. If anything goes wrong before, the file is as it was.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it becomes `path` at the end of the context."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    try:
        yield partial
        sync(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write(path: Path, content: str | bytes) -> None:
    """Write a whole file."""
    with replaced(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on disk for good."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """The same for a folder with all that is in it."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)

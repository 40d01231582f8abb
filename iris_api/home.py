"""Folders that last as long as their process: in one, entries are made before anybody sees them."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bentoml._internal.configuration.containers import BentoMLContainer

PREFIX = "iris-import-"
"""Of the folders that are made and cleared here; others in the same place are somebody else's."""


@contextlib.contextmanager
def staging() -> Iterator[Path]:
    """Lend a new folder on the store's file system, and clear away what killed imports left.

    A folder in use is locked by its process, and the lock ends with the process, however it ends.
    """
    base = Path(BentoMLContainer.bentoml_home.get()) / "staging"
    folder, handle = new_folder(base, PREFIX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def new_folder(base: Path, prefix: str) -> tuple[Path, int]:
    """Make and lock a folder, and clear away those whose process has ended.

    Args:
        base: where it is made; what else is there is left alone.
        prefix: of its name, and of those that are cleared away.

    Returns:
        The folder, and the handle that holds its lock until it is closed.

    Raises:
        OSError: it cannot be made or locked, such as in a read-only home.
    """
    base.mkdir(parents=True, exist_ok=True)
    # Nobody clears while somebody else is between making a folder and locking it.
    with lock(base):
        for left in base.glob(f"{prefix}*"):
            # In use, gone by itself just now, or another user's.
            with contextlib.suppress(OSError), lock(left, wait=False):
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
    return folder, handle


@contextlib.contextmanager
def lock(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a folder's lock for the block; with no wait, a lock in use is an OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)

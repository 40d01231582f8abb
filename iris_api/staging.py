"""Folders beside the model store, in which entries are made before anybody sees them."""

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
    base.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        # Nobody clears while somebody else is between making a folder and locking it.
        with lock(base):
            for left in base.glob(f"{PREFIX}*"):
                # In use, gone by itself just now, or another user's.
                with contextlib.suppress(OSError), lock(left, wait=False):
                    shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
            held.enter_context(lock(folder))
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


@contextlib.contextmanager
def lock(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a folder's lock for the block; with no wait, a lock in use is an OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)

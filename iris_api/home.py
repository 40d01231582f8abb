"""The paths below BENTOML_HOME, their locks, and folders that last as long as their process."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.configuration.helpers import expand_env_var

STAGING_PREFIX = "iris-import-"
METRICS_PREFIX = "iris-service-"
"""Prefixes of the folders that are made and cleared here; others beside them are left alone."""

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The variable of prometheus_client that says where a worker writes its metrics."""


def bentoml_home() -> Path:
    """Return BENTOML_HOME by BentoML's own rule; BentoML's function also makes the folder."""
    default = str(Path.home() / "bentoml")
    return Path(expand_env_var(os.environ.get("BENTOML_HOME", default)))


def model_store() -> Path:
    """Return the model store of BENTOML_HOME, which imports write to; it may not exist yet."""
    return bentoml_home() / "models"


def bento_model_store() -> Path:
    """Return the model store that BentoML uses now: in a served Bento, the Bento's own."""
    return Path(BentoMLContainer.model_store.get()._path)  # noqa: SLF001 (no public name)


def carried_model_store() -> Path | None:
    """Return the model store of the Bento that this code is in, if it is in one."""
    bento = Path(__file__).parents[2]
    return bento / "models" if (bento / "bento.yaml").is_file() else None


def bento_files() -> Iterator[Path]:
    """Return the `bento.yaml` of each Bento in BENTOML_HOME."""
    return bentoml_home().glob("bentos/*/*/bento.yaml")


def registry_status_file(store_name: str) -> Path:
    """Return the file that says what the registry answered last about a registered model."""
    return bentoml_home() / "registry" / f"{store_name}.json"


def ready_file(pid: int) -> str:
    """Return the name of the file in the metrics folder with which a worker says it is ready."""
    return f"ready_{pid}.txt"


def new_metrics_folder() -> Path:
    """Make the folder for the metrics of the workers that this process starts.

    BentoML has one folder for all services of a BENTOML_HOME and empties it whenever one starts,
    even one that then finds its port in use: the counts of a running service would be lost. This
    folder is locked until this process ends, and removed when the next service starts.
    """
    # The handle is never closed, so that the lock ends with this process and not before.
    locked, _ = _new_folder(bentoml_home() / "metrics", METRICS_PREFIX)
    # One level below, because the workers lock their folder themselves for each scrape.
    folder = locked / "workers"
    folder.mkdir()
    return folder


@contextlib.contextmanager
def staging() -> Iterator[Path]:
    """Lend a new folder on the store's file system, and remove what killed imports left behind."""
    folder, handle = _new_folder(bentoml_home() / "staging", STAGING_PREFIX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def clear_staging() -> None:
    """Remove what killed imports left on the store's file system, if they left anything."""
    base = bentoml_home() / "staging"
    with contextlib.suppress(OSError), lock(base):
        _clear(base, STAGING_PREFIX)


def _new_folder(base: Path, prefix: str) -> tuple[Path, int]:
    """Make and lock a folder, and remove those of the same prefix whose process has ended.

    Closing the returned handle, or the end of the process, releases the lock.
    """
    base.mkdir(parents=True, exist_ok=True)
    # No other process may remove folders between the making of this one and its locking.
    with lock(base):
        _clear(base, prefix)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
    return folder, handle


def _clear(base: Path, prefix: str) -> None:
    """Remove the folders whose process has ended; the caller holds the lock of their folder."""
    for left in base.glob(f"{prefix}*"):
        # It may be in use, removed just now, or another user's.
        with contextlib.suppress(OSError), lock(left, wait=False):
            shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def lock(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a folder's lock for the block; without waiting, a lock in use is an OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)

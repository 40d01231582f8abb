"""The files in which prometheus_client keeps the metrics of a service with several workers.

Each worker has files of its own, named by its process id, and the page adds them up. The counters
of a worker that ended stay, or else they would fall when it is replaced; each such worker adds 2 ms
to the page. Its other files are no longer read.
"""

import contextlib
import errno
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import TypeVar

from iris_api.errors import one_line
from iris_api.home import METRICS_VARIABLE, ready_file

T = TypeVar("T")

Sample = tuple[str, dict[str, str], float]
"""Name of an instrument, its labels, and the value."""

COUNTERS = ("counter_", "histogram_")
"""Prefixes of the files that count on after their worker ended."""

RESERVED_BYTES = 256 * 1024
"""Initial size of each file: room for about 1 500 series, where a model version adds 100."""

logger = logging.getLogger("bentoml.service")


class WorkerFiles:
    """The folder with the files of all workers, which is new at each start of a service."""

    def __init__(self) -> None:
        self.folder = Path(os.environ[METRICS_VARIABLE])
        self._unreadable: set[Path] = set()

    def prepare(self) -> None:
        """Create the files of this worker, before it creates any metric."""
        self.folder.mkdir(parents=True, exist_ok=True)  # it may have been deleted
        with self.lock():
            # A worker that was killed may have had the same process id.
            for path in self.folder.glob(f"*_{os.getpid()}.*"):
                if not path.name.startswith(COUNTERS):
                    path.unlink(missing_ok=True)
        self.reserve()

    def reserve(self) -> None:
        """Allocate disk space for the files of this worker, with room to grow.

        prometheus_client writes to memory-mapped files without allocated blocks. On a full disk
        that ends the process with SIGBUS; here it is an OSError.
        """
        # The kinds of metrics that BentoML and this service have.
        for kind in ("counter", "histogram", "gauge_all", "gauge_livesum"):
            with (self.folder / f"{kind}_{os.getpid()}.db").open("ab+") as file:
                file.seek(0)
                # A file begins with the number of its bytes that are in use.
                used = int.from_bytes(file.read(4), sys.byteorder)
                _allocate(file.fileno(), max(RESERVED_BYTES, 2 * used))

    @contextlib.contextmanager
    def lock(self, seconds: float = 1) -> Iterator[bool]:
        """Lock the files against other threads and workers, after some seconds at most.

        Yields:
            Whether the lock is held. If a worker hangs, a page with half an update is better than
            none; if the folder is gone, no request fails for that.
        """
        with contextlib.ExitStack() as opened:
            held = False
            with contextlib.suppress(OSError):
                # A new descriptor each time: two threads that share one would both get the lock.
                descriptor = os.open(self.folder, os.O_RDONLY)
                opened.callback(os.close, descriptor)
                held = _try_lock(descriptor, seconds)
            yield held

    def of(self, living: set[int], suffix: str) -> list[Path]:
        """Return the files with a suffix: counters of all workers, and the rest of living ones.

        None is living once the service has ended; then all files are returned.
        """
        pids = {str(pid) for pid in living}
        return [
            path
            for path in sorted(self.folder.glob(f"*_*{suffix}"))
            if not living or path.name.startswith(COUNTERS) or path.stem.split("_")[-1] in pids
        ]

    def read(self, path: Path, read: Callable[[Path], T]) -> T | None:
        """Return the content of a file; None if it cannot be read, which is logged once."""
        try:
            return read(path)
        except Exception as error:  # noqa: BLE001 (a damaged file raises anything)
            if path not in self._unreadable:
                self._unreadable.add(path)
                text = "/metrics leaves out the numbers in %s: %s"
                logger.warning(text, path, one_line(error))
            return None

    def mark_ready(self) -> None:
        """Record for the process that supervises the workers that this one became ready."""
        with contextlib.suppress(OSError):  # if it dies soon, it then counts as a failed start
            (self.folder / ready_file(os.getpid())).touch()

    def write_model(self, samples: list[Sample]) -> None:
        """Replace the gauges of the model that this worker serves."""
        path = self.folder / f"irismodel_{os.getpid()}.json"
        written = path.with_suffix(".part")
        written.write_text(json.dumps(samples), encoding="utf-8")
        written.replace(path)

    def models(self, living: set[int]) -> Iterator[Sample]:
        """Read the gauges of the models that the workers serve."""
        for path in self.of(living, ".json"):
            yield from self.read(path, lambda path: json.loads(path.read_bytes())) or ()


def _allocate(descriptor: int, size: int) -> None:
    """Allocate blocks for a file, on systems that can."""
    if sys.platform != "linux":
        return
    try:
        os.posix_fallocate(descriptor, 0, max(size, os.fstat(descriptor).st_size))
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:  # others: the file system has no such call
            raise


def _try_lock(descriptor: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(BlockingIOError):
            flock(descriptor, LOCK_EX | LOCK_NB)
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.001)

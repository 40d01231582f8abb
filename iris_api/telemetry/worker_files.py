"""The files in which prometheus_client keeps the numbers of a service with several workers.

Each worker has its own, named by its process id. The page adds them up, those of ended workers too:
or else a counter would fall whenever a worker is replaced.
"""

import contextlib
import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

from iris_api.telemetry.service_folder import VARIABLE, ready_file

Sample = tuple[str, dict[str, str], float]
"""Name of an instrument, its labels, and the value."""

LOCK_SECONDS = 1.0
"""Better a page that may have half of an update than none, should a worker hang in its update."""

RESERVED_BYTES = 256 * 1024
"""Of each file of a worker: some 1 500 series, where a model version adds 100."""

_PREFIXES = ("counter", "histogram", "gauge_all", "gauge_livesum")
"""Of the files that our instruments and BentoML's are kept in."""

_USED_BYTES = 4
"""In which a file begins with how many of it are used, in the order of this machine."""

ENDED = 0
"""In the place of a process id: the file of all workers that ended. No process has it."""


class MetricsFolder:
    """The folder that is made anew at each start of a service.

    Attributes:
        path: of it.
    """

    def __init__(self) -> None:
        self.path = Path(os.environ[VARIABLE])

    def prepare(self) -> None:
        """Make the files of this worker, with room; to be called before it makes an instrument.

        Raises:
            OSError: they cannot be made, such as on a full disk.
        """
        self.path.mkdir(parents=True, exist_ok=True)  # where it was lost
        with self.lock():
            # Left by a worker that was killed, and had the process id that is this one's now.
            self.forget(os.getpid())
        self.reserve()

    def reserve(self) -> None:
        """See to it that the files of this worker have blocks on the disk, and room to grow.

        prometheus_client writes into the memory of files that have none yet. On a full disk that
        ends the process by SIGBUS, where here it is an error.

        Raises:
            OSError: there is no room.
        """
        for prefix in _PREFIXES:
            path = self.path / f"{prefix}_{os.getpid()}.db"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                used = int.from_bytes(os.read(descriptor, _USED_BYTES), sys.byteorder)
                _allocate(descriptor, max(RESERVED_BYTES, 2 * used))
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def lock(self, seconds: float = LOCK_SECONDS) -> Iterator[bool]:
        """Keep pages from having half of an update, over threads and workers.

        Args:
            seconds: to wait at most.

        Yields:
            Whether the lock is held; it is not when the folder is lost, which no request may feel.
        """
        with contextlib.ExitStack() as opened:
            held = False
            with contextlib.suppress(OSError):
                # Opened each time: two threads with one descriptor would both hold the lock.
                descriptor = os.open(self.path, os.O_RDONLY)
                opened.callback(os.close, descriptor)
                held = _try_lock(descriptor, seconds)
            yield held

    def workers(self) -> set[int]:
        """Return the process ids that have files."""
        return {_pid(path) for path in self.path.glob("*_*.*")} - {ENDED}

    def forget(self, pid: int) -> None:
        """Remove what a worker that ended said of its present; what it counted stays."""
        for path in self._of(pid):
            if path.suffix != ".db" or path.name.startswith("gauge_"):
                path.unlink(missing_ok=True)

    def retire(self, pid: int) -> None:
        """Forget a worker that ended, and add what it counted to all that ended before.

        Its files would otherwise be read for each page, as long as the service runs. Whoever is
        killed in here counts some of it twice, which is less of a harm than a counter that falls.
        """
        self.forget(pid)
        for path in self._of(pid):
            total = self.path / f"{path.stem.rpartition('_')[0]}_{ENDED}.db"
            values = MmapedDict(str(path))
            if total.exists():
                for key, value, *_ in MmapedDict.read_all_values_from_file(str(total)):
                    values.write_value(key, values.read_value(key)[0] + value, 0)
            values.close()
            path.replace(total)

    def tell_ready(self) -> None:
        """Tell the process that looks after the workers that this one became ready."""
        with contextlib.suppress(OSError):  # then it counts as one that did not, should it die soon
            (self.path / ready_file(os.getpid())).touch()

    def write_model(self, samples: list[Sample]) -> None:
        """Replace what this worker says of its model."""
        path = self.path / f"irismodel_{os.getpid()}.json"
        written = path.with_suffix(".part")
        written.write_text(json.dumps(samples), encoding="utf-8")
        written.replace(path)

    def models(self) -> Iterator[Sample]:
        """Read what the workers say of their models."""
        for path in sorted(self.path.glob("irismodel_*.json")):
            yield from json.loads(path.read_text("utf-8"))

    def _of(self, pid: int) -> list[Path]:
        return [path for path in self.path.glob("*_*.*") if _pid(path) == pid]


def _pid(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def _allocate(descriptor: int, size: int) -> None:
    """Give a file blocks for so many bytes, where the system can."""
    if sys.platform != "linux":
        return
    try:
        os.posix_fallocate(descriptor, 0, max(size, os.fstat(descriptor).st_size))
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:  # others: this file system has no such call
            raise


def _try_lock(descriptor: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.001)
        else:
            return True

"""The processes of the service: the one that `bentoml serve` started with, and its workers."""

import contextlib
import os
from collections.abc import Iterator

import psutil

from iris_api.telemetry import instruments
from iris_api.telemetry.worker_files import Sample


class ServiceProcesses:
    """Measures all processes of the service from any worker."""

    def __init__(self) -> None:
        self._parent = psutil.Process(os.getppid())

    def living(self) -> set[int]:
        """Return the process ids of the workers that have not ended; none if the parent has."""
        found = set()
        for child in self._parent.children():
            with contextlib.suppress(psutil.Error):
                if child.status() != psutil.STATUS_ZOMBIE:
                    found.add(child.pid)
        return found

    def samples(self) -> Iterator[Sample]:
        """Measure all processes together; nothing once the parent has ended."""
        if not self._parent.is_running():
            return
        resident_bytes = open_files = 0
        with contextlib.suppress(psutil.NoSuchProcess):  # it ends now
            for process in (self._parent, *self._parent.children()):
                with contextlib.suppress(psutil.Error):
                    resident_bytes += process.memory_info().rss
                    open_files += process.num_fds()
            yield instruments.WORKERS.name, {}, len(self.living())
            yield instruments.CPU_SECONDS.name, {}, self._cpu_seconds()
            yield instruments.RESIDENT_BYTES.name, {}, resident_bytes
            yield instruments.OPEN_FILES.name, {}, open_files
            yield instruments.START_TIME.name, {}, self._parent.create_time()

    def _cpu_seconds(self) -> float:
        """Add up the processor times, including those of ended workers.

        The kernel adds the time of an ended worker to its parent's. A worker that ends between two
        readings would count twice or not at all, and the sum would fall at this or the next scrape.
        """
        total = 0.0
        for _ in range(5):
            times = self._parent.cpu_times()
            ended = times.children_user + times.children_system
            total = times.user + times.system + ended
            for worker in self._parent.children():
                with contextlib.suppress(psutil.Error):
                    total += sum(worker.cpu_times()[:2])
            again = self._parent.cpu_times()
            if again.children_user + again.children_system == ended:
                break
        return float(total)

"""The processes of the service: the one that `bentoml serve` began with, and its workers."""

import os
from collections.abc import Iterator

import psutil

from iris_api.telemetry import instruments
from iris_api.telemetry.instruments import Instrument

ATTEMPTS = 5
"""How often times are read at most, because a worker ended while they were read."""


class ServiceProcesses:
    """What any worker can tell of all of them."""

    def __init__(self) -> None:
        self._parent = psutil.Process(os.getppid())

    def ended(self, workers: set[int]) -> set[int]:
        """Return which of these were workers and are no more; of a lost parent nobody can tell.

        Args:
            workers: process ids that are or were workers'.
        """
        if not self._parent.is_running():
            return set()
        return workers - self._living()

    def samples(self) -> Iterator[tuple[Instrument, float]]:
        """Measure all of them; nothing where the first process is gone, and the service with it."""
        if not self._parent.is_running():
            return
        processes = [self._parent, *self._parent.children()]
        yield instruments.WORKERS, len(self._living())
        yield instruments.CPU_SECONDS, self._cpu_seconds()
        yield instruments.RESIDENT_BYTES, sum(map(_resident_bytes, processes))
        yield instruments.OPEN_FILES, sum(map(_open_files, processes))
        yield instruments.START_TIME, self._parent.create_time()

    def _living(self) -> set[int]:
        return {child.pid for child in self._parent.children() if _is_alive(child)}

    def _cpu_seconds(self) -> float:
        """Add up the times; the kernel keeps those of workers that ended with their parent's.

        One that ends between two readings would count in both or in none, and the sum would fall
        at this or at the next scrape.
        """
        total = 0.0
        for _ in range(ATTEMPTS):
            ended = _seconds_of_ended(self._parent)
            workers = sum(map(_seconds, self._parent.children()))
            total = _seconds(self._parent) + ended + workers
            if _seconds_of_ended(self._parent) == ended:
                break
        return total


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0
    return float(times.user + times.system)


def _seconds_of_ended(parent: psutil.Process) -> float:
    times = parent.cpu_times()
    return float(times.children_user + times.children_system)


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _open_files(process: psutil.Process) -> int:
    try:
        return int(process.num_fds())
    except psutil.NoSuchProcess:
        return 0

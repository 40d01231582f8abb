"""The page of `GET /metrics`: BentoML's page of counters, with gauges that are computed for it."""

import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client import Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from iris_api.store import degraded, registry_status
from iris_api.telemetry import instruments
from iris_api.telemetry.processes import ServiceProcesses
from iris_api.telemetry.worker_files import Sample, WorkerFiles

_BY_NAME = {instrument.name: instrument for instrument in instruments.INSTRUMENTS}

SETTLE_SECONDS = 0.075
"""Delay of a page, in which other workers count what they answered: FLUSH_SECONDS and a half."""

logger = logging.getLogger("bentoml.service")


class MetricsPage(Collector):
    """Prepares BentoML's page, and completes it."""

    def __init__(self, files: WorkerFiles, name: str | None, flush: Callable[[], None]) -> None:
        self._files = files
        self._name = name  # of the registered model whose registry status is shown, if any
        self._flush = flush  # counts what this worker has answered
        self._processes = ServiceProcesses()
        self._living: set[int] = set()  # the workers when the page was requested

    @contextlib.contextmanager
    def rendering(self) -> Iterator[None]:
        """Hold the lock of the files while BentoML reads them, with all earlier requests counted.

        Raises:
            FileNotFoundError: The folder of the files is gone.
        """
        time.sleep(SETTLE_SECONDS)
        self._flush()
        if not self._files.folder.is_dir():
            gone = "the metrics are lost: %s is gone; restart the service"
            logger.error(gone, self._files.folder)
            raise FileNotFoundError(self._files.folder)
        self._living = self._processes.living()
        with self._files.lock():
            yield

    def merge_files(self) -> list[Metric]:
        """Add up the metrics of all workers for BentoML's page, except for unreadable files."""
        files = self._files.of(self._living, ".db")
        try:
            return _merge(files)
        except Exception:  # noqa: BLE001 (as in `read`, which says what is wrong with which file)
            readable = [
                path for path in files if self._files.read(path, lambda path: _merge([path]))
            ]
            return _merge(readable)

    def complete(self, page: str) -> str:
        """Add the gauges of models, registry and processes to BentoML's page."""
        return page + generate_latest(self).decode()

    def collect(self) -> Iterator[Metric]:
        """Compute those gauges; where several workers report one, the highest value counts."""
        samples = [
            *self._files.models(self._living),
            *self._of_registry(),
            *self._processes.samples(),
            (instruments.MODEL_DEGRADED.name, {}, float(degraded.read() is not None)),
        ]
        highest: defaultdict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
        for name, labels, value in samples:
            key = tuple(labels[label] for label in _BY_NAME[name].labels)
            highest[name][key] = max(value, highest[name].get(key, value))
        for name, series in highest.items():
            family = instruments.family(_BY_NAME[name])
            for key, value in series.items():
                family.add_metric(key, value)
            yield family

    def _of_registry(self) -> Iterator[Sample]:
        status = registry_status.read(self._name) if self._name else None
        if status is None:
            return
        yield instruments.REGISTRY_UP.name, {}, float(status.error is None)
        if status.checked_at is not None:
            yield instruments.REGISTRY_CHECKED.name, {}, status.checked_at.timestamp()
            yield instruments.REGISTRY_FOUND.name, {}, float(status.version is not None)
            rejected = status.rejected
            incompatible = rejected.version if rejected and rejected.incompatible else 0
            yield instruments.REGISTRY_INCOMPATIBLE.name, {}, incompatible
        if status.in_stage:
            yield instruments.REGISTRY_IN_STAGE.name, {}, len(status.in_stage)
        if status.version is not None:
            yield instruments.REGISTRY_VERSION.name, {}, status.version


def _merge(files: list[Path]) -> list[Metric]:
    return list(MultiProcessCollector.merge(files))

"""The page of `GET /metrics`: the counters of all workers, and what is true now."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from bentoml._internal.server.metrics.prometheus import PrometheusClient
from prometheus_client import Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from iris_api import instruments, registry_status
from iris_api.process_metrics import ServiceProcesses

Sample = tuple[str, dict[str, str], float]
"""Name of an instrument, its labels, and the value."""

MODEL_FILE = "irismodel_{}.json"
"""What the model of the worker with that process id says of itself."""

LOCK_SECONDS = 1.0
"""Better a page that may have half of an update than none, should a worker hang in its update."""

_BY_NAME = {instrument.name: instrument for instrument in instruments.INSTRUMENTS}


class MetricsFolder:
    """The files of all workers' metrics, which this version of the service began with."""

    def __init__(self) -> None:
        self.path = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])

    @contextmanager
    def lock(self, seconds: float = LOCK_SECONDS) -> Iterator[bool]:
        """Keep pages from having half of an update, over threads and workers.

        Args:
            seconds: to wait at most.

        Yields:
            Whether the lock is held.
        """
        # Opened each time: two threads with one descriptor would both hold the lock.
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            yield _try_lock(descriptor, seconds)
        finally:
            os.close(descriptor)

    def clear(self, pid: int) -> None:
        """Remove what a worker said of its present, and keep what it counted."""
        for path in self.path.glob(f"*_{pid}.*"):
            if path.name.startswith("gauge_") or path.suffix == ".json":
                path.unlink(missing_ok=True)

    def clear_ended(self, living: set[int]) -> None:
        """Do so for all workers that ended; prometheus_client wants to be told of each."""
        known = {int(path.stem.rpartition("_")[2]) for path in self.path.glob("*_*.*")}
        for pid in known - living:
            self.clear(pid)

    def write_model(self, samples: list[Sample]) -> None:
        """Replace what this worker says of its model."""
        path = self.path / MODEL_FILE.format(os.getpid())
        written = path.with_suffix(".part")
        written.write_text(json.dumps(samples), encoding="utf-8")
        written.replace(path)

    def models(self) -> Iterator[Sample]:
        """Read what the workers say of their models."""
        for path in sorted(self.path.glob(MODEL_FILE.format("*"))):
            yield from json.loads(path.read_text("utf-8"))


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


class MetricsPage(PrometheusClient):
    """BentoML's page with ours in it.

    Args:
        folder: of the workers' metrics.
        name: of the registered model whose registry is told of, if any.
        settle: called before all is read, so that what was answered before is counted.
    """

    def __init__(self, folder: MetricsFolder, name: str | None, settle: Callable[[], None]) -> None:
        super().__init__()
        _ = self.registry  # which makes what BentoML needs when it lets go of the client
        self._folder = folder
        self._name = name
        self._settle = settle
        self._processes = ServiceProcesses()

    def generate_latest(self) -> bytes:
        """Write the page. BentoML reads all files twice for it; here it is once."""
        self._settle()
        living = self._processes.living()
        with self._folder.lock():
            self._folder.clear_ended(living)
            families = list(MultiProcessCollector(None, str(self._folder.path)).collect())
            samples = list(self._folder.models())
        for metric in families:
            metric.samples.sort(key=self._histogram_sample_sort_key)
        samples += self._of_registry()
        samples += [(of.name, {}, value) for of, value in self._processes.samples()]
        return generate_latest(_Families([*families, *_group(samples)]))

    def _of_registry(self) -> Iterator[Sample]:
        status = registry_status.read(self._name) if self._name else None
        if status is None:
            return
        yield instruments.REGISTRY_UP.name, {}, float(status.error is None)
        if status.checked_at is not None:
            yield instruments.REGISTRY_CHECKED.name, {}, status.checked_at
        if status.version is not None:
            yield instruments.REGISTRY_VERSION.name, {}, status.version


def _group(samples: list[Sample]) -> list[Metric]:
    """Make families; of what several workers say, the highest is taken."""
    highest: dict[str, dict[tuple[str, ...], float]] = {}
    for name, labels, value in samples:
        series = highest.setdefault(name, {})
        key = tuple(labels[label] for label in _BY_NAME[name].labels)
        series[key] = max(value, series.get(key, value))
    families: list[Metric] = []
    for name, series in highest.items():
        family = instruments.family(_BY_NAME[name])
        for key, value in series.items():
            family.add_metric(key, value)
        families.append(family)
    return families


class _Families(Collector):
    """What is to be written, in the form that `generate_latest` takes."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families

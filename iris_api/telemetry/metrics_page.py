"""The page of `GET /metrics`: the counters of all workers, and what is true now."""

import logging
from collections.abc import Callable, Iterator

from bentoml._internal.server.metrics.prometheus import PrometheusClient
from prometheus_client import Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.exceptions import HTTPException

from iris_api.store import registry_status
from iris_api.telemetry import instruments
from iris_api.telemetry.processes import ServiceProcesses
from iris_api.telemetry.worker_files import MetricsFolder, Sample

_BY_NAME = {instrument.name: instrument for instrument in instruments.INSTRUMENTS}

logger = logging.getLogger("bentoml.service")


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
        """Write the page. BentoML reads all files twice for it; here it is once.

        Raises:
            HTTPException: the folder is lost.
        """
        self._settle()
        if not self._folder.path.is_dir():
            logger.error("the metrics are lost: %s is gone; start anew", self._folder.path)
            raise HTTPException(503)
        with self._folder.lock() as held:
            for pid in self._processes.ended(self._folder.workers()) if held else ():
                self._folder.retire(pid)
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

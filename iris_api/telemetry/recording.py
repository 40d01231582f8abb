"""What the service tells Prometheus, beside BentoML's request counts and times.

A request only leaves its rows and answer; they are counted together, some milliseconds later, for
many requests at once: what a dozen counters would do for each, numpy then does for all of them.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from iris_api.model.loaded import Answer, Classifier
from iris_api.telemetry import instruments
from iris_api.telemetry.counting import Answered, Bins, Instruments, Tally, answered, take_all
from iris_api.telemetry.instruments import Reason, Result
from iris_api.telemetry.metrics_page import MetricsPage
from iris_api.telemetry.worker_files import LOCK_SECONDS, Sample, WorkerFiles

FLUSH_SECONDS = 0.05
"""How late a request may be counted: at 4 000 a second for a worker, 200 share the cost."""

SETTLE_SECONDS = 1.5 * FLUSH_SECONDS
"""How long a page waits, so that the other workers too have counted what they answered before."""

MAXIMUM_PENDING = 1000
"""Requests that wait at most: more than a worker can answer until they are counted."""

logger = logging.getLogger("bentoml.service")


class Metrics:
    """The instruments of one worker.

    Args:
        name: of the registered model.
        follows: whether the service follows a store that knows of its registry.
    """

    def __init__(self, name: str, *, follows: bool) -> None:
        self._files = WorkerFiles()
        self._instruments = Instruments()
        self._tallies: dict[int, Tally] = {}
        self._pending: deque[tuple[int, Answered]] = deque()
        self._others: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._loop_thread = threading.get_ident()
        rejected = instruments.counter(instruments.REJECTED)
        self._rejected = {reason: rejected.labels(reason) for reason in instruments.REASONS}
        reloads = instruments.counter(instruments.MODEL_RELOADS)
        self._reloads = {result: reloads.labels(result) for result in instruments.RESULTS}
        self.page = MetricsPage(self._files, name if follows else None, self.flush, SETTLE_SECONDS)

    def activate(self, model: Classifier) -> None:
        """Tell that this worker answers with a model from now on, and with no other."""
        if model.version not in self._tallies:
            self._tallies[model.version] = Tally(model, self._instruments)
        try:
            self._files.write_model(list(_describe(model)))
            self._files.reserve()
        except OSError as error:
            # It answers all the same. One line says it.
            logger.error("/metrics does not tell of version %s: %s", model.version, error)  # noqa: TRY400

    def observe(
        self, model: Classifier, rows: NDArray[np.float64], answer: Answer, seconds: float
    ) -> None:
        """Count an answered call, soon.

        Args:
            model: that answered; it was activated, and may have been succeeded since.
            rows: shape (n, 4).
            answer: to those rows.
            seconds: that the model took.
        """
        self._pending.append((model.version, answered(rows, answer, seconds)))
        if threading.get_ident() != self._loop_thread:
            self.flush()  # a long body, whose thread may take the time
        elif len(self._pending) >= MAXIMUM_PENDING:
            self.flush(seconds=0)
        else:
            self.count_soon()

    def tell_ready(self) -> None:
        """Tell that this worker has begun to answer."""
        self._files.mark_ready()

    def reject(self, reason: Reason) -> None:
        """Count a prediction call that is refused."""
        self._rejected[reason].inc()

    def reloaded(self, result: Result) -> None:
        """Count a model that was loaded after its activation, or that could not be."""
        self._reloads[result].inc()

    def count_with(self, count: Callable[[], None]) -> None:
        """Have something else counted whenever these metrics are."""
        self._others.append(count)

    def count_soon(self) -> None:
        """See to it that what waits is counted in time; to be called in the loop."""
        if self._timer is None:
            self._flush_later()

    def flush(self, seconds: float = LOCK_SECONDS) -> None:
        """Count what was answered until now.

        Args:
            seconds: to wait at most for a page that is being read.
        """
        with self._files.lock(seconds):
            self._count()

    def _flush_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(FLUSH_SECONDS, self._flush_now)

    def _flush_now(self) -> None:
        """Count, unless that would keep the event loop waiting for a page or another worker."""
        self._timer = None
        with self._files.lock(seconds=0) as held:
            if held:
                self._count()
            else:
                self._flush_later()

    def _count(self) -> None:
        calls = defaultdict(list)
        for version, call in take_all(self._pending):
            calls[version].append(call)
        for version, of_version in calls.items():
            self._tallies[version].add(of_version)
        for count in self._others:
            # Of a folder that is lost, a file that is not open yet. No request fails for it.
            with contextlib.suppress(OSError):
                count()


def _describe(model: Classifier) -> Iterator[Sample]:
    version = {"model_version": str(model.version)}
    texts = {label: str(model.info.get(label, "")) for label in instruments.MODEL_INFO.labels}
    yield instruments.MODEL_INFO.name, texts | version, 1
    yield instruments.MODEL_LOADED.name, version, time.time()
    if model.profile is None:
        return
    for label in map(str, model.classes):
        ratio = model.profile.classes.get(label, 0.0)
        yield instruments.LABEL_EXPECTED.name, version | {"label": label}, ratio
    for feature, profile in model.profile.features.items():
        bins = Bins(profile)
        for name, ratio in zip(bins.names, bins.expected, strict=True):
            labels = version | {"feature": feature, "bin": name}
            yield instruments.FEATURE_EXPECTED.name, labels, ratio

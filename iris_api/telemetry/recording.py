"""The metrics of one worker, beside BentoML's request counts and times.

A request only queues its rows and answer. Up to 50 ms later numpy counts all that are queued at
once. A dozen counters updated for each request would halve the requests/s
(`benchmarks/ABLATION.md`: deferred counting).
"""

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from iris_api.model.engines import Answer
from iris_api.model.loaded_model import Model
from iris_api.telemetry import instruments
from iris_api.telemetry.counting import (
    AnsweredCall,
    Bins,
    Instruments,
    VersionCounters,
    bins_of,
    take_all,
)
from iris_api.telemetry.instruments import Reason, Result
from iris_api.telemetry.metrics_page import MetricsPage
from iris_api.telemetry.processes import ServiceProcesses
from iris_api.telemetry.worker_files import Sample, WorkerFiles

FLUSH_SECONDS = 0.05
"""Maximum delay of counting: 200 requests share its cost, at 4 000 requests/s in each worker."""

MAXIMUM_PENDING = 1000
"""Maximum length of the queue, which it reaches only while a page takes long."""

logger = logging.getLogger("bentoml.service")


class Metrics:
    """The metrics of one worker, with the status of the registry where the service follows one."""

    def __init__(self, name: str, *, follows: bool) -> None:
        self._files = WorkerFiles()
        self._instruments = Instruments()
        self._versions: dict[
            str, VersionCounters
        ] = {}  # by tag: a new registry counts from 1 again
        self._pending: deque[tuple[str, AnsweredCall]] = deque()
        self.count_requests: Callable[[], None] = lambda: None  # called whenever these are counted
        self._timer: asyncio.TimerHandle | None = None
        self._loop_thread = threading.get_ident()
        rejected = instruments.counter(instruments.REJECTED)
        self._rejected = {reason: rejected.labels(reason) for reason in instruments.REASONS}
        reloads = instruments.counter(instruments.MODEL_RELOADS)
        self._reloads = {result: reloads.labels(result) for result in instruments.RESULTS}
        self.page = MetricsPage(self._files, name if follows else None, self.flush)

    def activate(self, model: Model) -> None:
        """Report that this worker serves a model from now on, and no other."""
        if model.tag not in self._versions:
            self._versions[model.tag] = VersionCounters(model, self._instruments)
        try:
            self._files.write_model(list(_describe(model)))
            self._files.reserve()
        except OSError as error:
            # The model is served all the same.
            logger.error("/metrics does not show version %s: %s", model.version, error)  # noqa: TRY400 (no traceback)

    def another_serves(self) -> bool:
        """Return whether another living worker has a model."""
        others = ServiceProcesses().living() - {os.getpid()}
        return bool(others and self._files.of(others, ".json"))

    def observe(
        self, model: Model, rows: NDArray[np.float64], answer: Answer, seconds: float
    ) -> None:
        """Queue an answered call to be counted; its model may have been replaced since."""
        self._pending.append((model.tag, AnsweredCall(rows, answer, seconds)))
        if threading.get_ident() != self._loop_thread:
            self.flush()  # a long body, whose thread may take the time
        elif len(self._pending) >= MAXIMUM_PENDING:
            self._count()
        else:
            self.count_soon()

    def reject(self, reason: Reason) -> None:
        """Count a rejected prediction call."""
        self._rejected[reason].inc()

    def count_reload(self, result: Result) -> None:
        """Count a model that was loaded after its activation, or failed to load."""
        self._reloads[result].inc()

    def count_soon(self) -> None:
        """Start the timer of the queue, if it is not running; to be called in the event loop."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._expire)

    def flush(self) -> None:
        """Count what is queued, after a page that is being rendered."""
        with self._files.lock():
            self._count()

    def _expire(self) -> None:
        """Count what is queued, or later if the event loop would have to wait for the lock."""
        self._timer = None
        with self._files.lock(seconds=0) as held:
            if held:
                self._count()
            else:
                self.count_soon()

    def _count(self) -> None:
        calls = defaultdict(list)
        for tag, call in take_all(self._pending):
            calls[tag].append(call)
        for tag, of_version in calls.items():
            self._versions[tag].add(of_version)
        # If the folder is gone, a new file cannot be opened. No request fails for that.
        with contextlib.suppress(OSError):
            self.count_requests()


def _describe(model: Model) -> Iterator[Sample]:
    version = {"model_version": str(model.version)}
    of_entry = [label for label in instruments.MODEL_INFO.labels if label not in version]
    texts = {label: str(getattr(model.metadata, label) or "") for label in of_entry}
    yield instruments.MODEL_INFO.name, texts | version, 1
    yield instruments.MODEL_LOADED.name, version, time.time()
    if model.profile is None:
        return
    predicted = Bins.of_predictions(model)
    for label, ratio in zip(predicted.names, predicted.expected, strict=True):
        yield instruments.LABEL_EXPECTED.name, version | {"label": label}, ratio
    for feature, bins in bins_of(model).items():
        for name, ratio in zip(bins.names, bins.expected, strict=True):
            labels = version | {"feature": feature, "bin": name}
            yield instruments.FEATURE_EXPECTED.name, labels, ratio

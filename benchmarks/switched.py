"""The service, which observes its predictions in some turns and does not in others.

Both are timed in one process, in turns of a tenth of a second in random order, because two
processes with the same code differ by 3 %. After each turn the worker writes the processor time of
a request in µs to the file that BENCH_TIMES names: the median of all turns with requests.
"""

import asyncio
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from iris_api.telemetry.recording import Metrics

SECONDS = 0.1
WARM_SECONDS = 1.0

_observe: Callable[..., None] = Metrics.observe


class Turns:
    """The turns of one worker, which start with its first request."""

    def __init__(self) -> None:
        self.calls = 0
        self._times: dict[str, list[float]] = {"observed": [], "unobserved": []}
        self._coming: list[str] = []

    def begin(self, metrics: Metrics) -> None:
        """Start the turns."""
        asyncio.get_running_loop().call_later(WARM_SECONDS, self._next, metrics)

    def _next(self, metrics: Metrics) -> None:
        if not self._coming:
            self._coming = random.sample(list(self._times), len(self._times))
        kind = self._coming.pop()
        _switch({"observed": observed, "unobserved": unobserved}[kind])
        start, before = time.thread_time(), self.calls
        asyncio.get_running_loop().call_later(SECONDS, self._end, metrics, kind, start, before)

    def _end(self, metrics: Metrics, kind: str, start: float, before: int) -> None:
        metrics.flush()  # a turn counts what was observed in it
        if calls := self.calls - before:
            self._times[kind].append((time.thread_time() - start) / calls * 1e6)
            self._write()
        self._next(metrics)

    def _write(self) -> None:
        times = {kind: median(each) for kind, each in self._times.items() if each}
        Path(os.environ["BENCH_TIMES"]).write_text(json.dumps(times), encoding="utf-8")


def _switch(observe: Callable[..., None]) -> None:
    Metrics.observe = observe  # type: ignore[method-assign]


turns = Turns()


def first(metrics: Metrics, *call: Any) -> None:
    """Observe the first call, and start the turns."""
    _switch(observed)
    turns.begin(metrics)
    observed(metrics, *call)


def observed(*call: Any) -> None:
    """Observe a call as the service does."""
    turns.calls += 1
    _observe(*call)


def unobserved(*_call: Any) -> None:
    """Do not observe a call."""
    turns.calls += 1


_switch(first)

from service import IrisClassifier  # noqa: E402, F401 (bentoml serve looks for it here)

"""BentoML's request metrics, with bounded labels, counted for many requests at once.

BentoML's middleware takes its label from the raw path of each request, and has no setting for it.
So this one class stands in its place; the metrics that it fills, and their page, are BentoML's.
"""

import functools
from collections import defaultdict, deque
from time import perf_counter, time
from typing import TYPE_CHECKING, Any, ClassVar

from bentoml._internal.context import server_context
from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from iris_api.serving.openapi import ERRORS, PREDICTIONS

if TYPE_CHECKING:
    from iris_api.telemetry.recording import Metrics

OTHER_PATHS = "other"
"""The label of every path that is not served: one label each would grow without bound."""


class RequestMetrics(RunnerTrafficMetricsMiddleware):
    """Notes what BentoML's middleware would count, until the worker's metrics are counted.

    Args:
        app: what is measured.
        paths: that keep their own label.
        options: of BentoML's middleware.

    Attributes:
        of_worker: the one of this process, for what is answered before it comes here.
    """

    of_worker: "ClassVar[RequestMetrics | None]" = None

    def __init__(self, app: ASGIApp, paths: frozenset[str], **options: Any) -> None:
        super().__init__(app, **options)
        RequestMetrics.of_worker = self
        self._paths = paths
        self._probes = tuple(self.skip_paths)
        self._fixed = {
            "service_name": server_context.bento_name,
            "service_version": server_context.bento_version,
            "runner_name": server_context.service_name,
        }
        self._answered: deque[tuple[str, int, float]] = deque()
        self._in_progress: defaultdict[str, int] = defaultdict(int)
        self._last_request = 0.0
        self._of_answer = functools.cache(self._find_of_answer)

    def begin(self, metrics: "Metrics") -> None:
        """Count with the worker's metrics; to be called before its first request.

        Every status of a prediction is on the page from the beginning, at 0: of a series that
        begins at 1000 Prometheus sees no increase. BentoML itself begins with 200 and 500.
        """
        self._setup()
        for path in PREDICTIONS:
            for status in ERRORS:
                labels = self._fixed | {"endpoint": path, "http_response_code": status}
                self.metrics_request_total.labels(**labels)
        metrics.count_with(self.count)
        self._metrics = metrics

    def _find_of_answer(self, path: str, status: int) -> tuple[Any, Any]:
        # Not at the top: the process that only starts the workers need not load numpy.
        from iris_api.telemetry.counting import BulkHistogram  # noqa: PLC0415

        labels = self._fixed | {"endpoint": path, "http_response_code": status}
        return (
            self.metrics_request_total.labels(**labels),
            BulkHistogram(self.metrics_request_duration.labels(**labels)),
        )

    def count(self) -> None:
        """Bring BentoML's metrics up to date, on whatever thread."""
        # Not at the top: the process that only starts the workers need not load numpy.
        from iris_api.telemetry.counting import take_all  # noqa: PLC0415

        times: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
        for path, status, seconds in take_all(self._answered):
            times[path, status].append(seconds)
        for answer, seconds_each in times.items():
            total, duration = self._of_answer(*answer)
            total.inc(len(seconds_each))
            duration.observe(seconds_each)
        for path, number in list(self._in_progress.items()):
            self.metrics_request_in_progress.labels(endpoint=path, **self._fixed).set(number)
        if self._last_request:
            self.metrics_last_request_timestamp.labels(**self._fixed).set(self._last_request)

    def count_refused(self, path: str) -> None:
        """Count a request that was answered with 429, which took no time."""
        path = path if path in self._paths else OTHER_PATHS
        self._of_answer(path, 429)[0].inc()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note and time one request."""
        if scope["type"] != "http" or scope["path"] == "/metrics":
            await self.app(scope, receive, send)
            return
        start = perf_counter()
        path = scope["path"] if scope["path"] in self._paths else OTHER_PATHS
        if not path.startswith(self._probes):
            self._last_request = time()
        status = 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif not message.get("more_body"):
                self._answered.append((path, status, perf_counter() - start))
            await send(message)

        self._in_progress[path] += 1
        self._metrics.count_soon()
        try:
            await self.app(scope, receive, note)
        except Exception:
            # Starlette answers it with 500, outside of here.
            self._answered.append((path, 500, perf_counter() - start))
            raise
        finally:
            self._in_progress[path] -= 1
            self._metrics.count_soon()

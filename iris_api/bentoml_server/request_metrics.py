"""BentoML's request metrics with bounded labels, counted for many requests at once.

Gains: memory that does not grow with the paths that clients invent (5 000 random ones: 110 MB and a
page of 17 MB), and 1.4 times the requests/s (`benchmarks/ABLATION.md`: deferred counting).
No supported way: BentoML labels a request by its raw path, and counts it before the next one.
Relies on: `RunnerTrafficMetricsMiddleware`, its `_setup` and the metrics that this makes, and
`MultiProcessCollector`, which reads the files for the page. Metrics and page stay BentoML's.
"""

import contextlib
import functools
from collections import defaultdict, deque
from collections.abc import Sequence
from time import perf_counter, time
from typing import Any, ClassVar

import anyio.to_thread
from bentoml import server_context
from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from iris_api.serving.openapi import ERRORS, PREDICTION_PATHS
from iris_api.serving.responses import error_response
from iris_api.telemetry.counting import BulkHistogram, take_all
from iris_api.telemetry.recording import Metrics

OTHER_PATHS = "other"
"""The label of all paths that are not served."""


class RequestMetrics(RunnerTrafficMetricsMiddleware):
    """Collects what BentoML's middleware would count, until the worker counts all its metrics.

    A path has the label of its route, which may be for many paths; all other paths share one.
    """

    of_worker: "ClassVar[RequestMetrics | None]" = None
    """The instance of this process, for requests that are answered without it."""

    def __init__(self, app: ASGIApp, routes: Sequence[Route], **options: Any) -> None:
        super().__init__(app, **options)
        RequestMetrics.of_worker = self
        self._routes = routes
        self._label = functools.lru_cache(self._find_label)
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

    def begin(self, metrics: Metrics) -> None:
        """Count together with the worker's metrics; call this before its first request.

        Every status of a prediction is on the page from the start with 0, because Prometheus sees
        no increase when a series begins with 1000. BentoML itself adds 200 and 500.
        """
        self._setup()
        for path in PREDICTION_PATHS:
            for status in ERRORS:
                labels = self._fixed | {"endpoint": path, "http_response_code": status}
                self.metrics_request_total.labels(**labels)
        metrics.count_requests = self.count
        # The original raises an error where it cannot read a file.
        MultiProcessCollector.collect = lambda _: metrics.page.merge_files()  # type: ignore[method-assign]
        self._metrics = metrics

    def _find_of_answer(self, path: str, status: int) -> tuple[Any, Any]:
        labels = self._fixed | {"endpoint": path, "http_response_code": status}
        return (
            self.metrics_request_total.labels(**labels),
            BulkHistogram(self.metrics_request_duration.labels(**labels)),
        )

    def count(self) -> None:
        """Update BentoML's metrics; any thread may call this."""
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

    def count_answered(self, path: str, status: int, seconds: float) -> None:
        """Collect a prediction call that was answered without coming here."""
        self._last_request = time()
        self._answered.append((self._label(path), status, seconds))
        self._metrics.count_soon()

    def count_rejected(self, path: str) -> None:
        """Count a request that was answered with 429 before it came here."""
        label = self._label(path)
        if label in PREDICTION_PATHS:
            self._metrics.reject("overloaded")
        self._of_answer(label, 429)[0].inc()

    def _find_label(self, path: str) -> str:
        matching = (route.path for route in self._routes if route.path_regex.match(path))
        return next(matching, OTHER_PATHS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count and time one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"] == "/metrics":
            await self._render_page(scope, receive, send)
            return
        start = perf_counter()
        path = self._label(scope["path"])
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
            # Starlette answers it with 500, outside of this middleware.
            self._answered.append((path, 500, perf_counter() - start))
            raise
        finally:
            self._in_progress[path] -= 1
            self._metrics.count_soon()

    async def _render_page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have BentoML read the files of all workers while none of them is updated."""
        with contextlib.ExitStack() as stack:
            rendering = self._metrics.page.rendering()
            try:
                # In a thread, because it waits for the other workers.
                await anyio.to_thread.run_sync(stack.enter_context, rendering)
            except FileNotFoundError:
                await error_response(503, "Service Unavailable")(scope, receive, send)
            else:

                async def release_and_send(message: Message) -> None:
                    stack.close()  # the page is rendered: no slow client may hold the lock
                    await send(message)

                await self.app(scope, receive, release_and_send)

"""BentoML's server without the work per request that this service has no use for.

BentoML builds one application for all kinds of services. For each request it opens a trace that
nobody collects, writes a line of access log, starts a task and a timer for the time limit, keeps a
request context, inspects the method's signature and walks its dependency injection for the headers
of the answer: together several times the work of a prediction. Here is the one place where that is
taken out or put right. The routes, the documents, the clients and the metrics stay BentoML's.
"""

import asyncio
import functools
import gc
import logging
from collections.abc import Mapping, Sequence
from timeit import default_timer
from typing import Any

from _bentoml_sdk.service import Service, get_current_service
from bentoml._internal.context import server_context
from bentoml._internal.resource import NvidiaGpuResource
from bentoml._internal.server.http.access import AccessLogMiddleware
from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from iris_api.http import error_page, server_error
from iris_api.settings import settings

logger = logging.getLogger("bentoml.service")

OTHER_PATHS = "other"
"""The label of every path that is not served: one label each would grow without bound."""


class NoGpus(NvidiaGpuResource, resource_id="nvidia.com/gpu"):
    """In the place of BentoML's count of GPUs, for which it loads pynvml: 17 MB in each process."""

    @classmethod
    def from_system(cls) -> list[int]:  # type: ignore[override]
        """Find none, because none would be of use."""
        return []


class LeanService(Service):
    """A service whose methods take the request and return the response, and nothing between."""

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """Build BentoML's application, and keep of it what is needed."""
        # What is loaded by now stays. The collector would go through it twice until the service is
        # ready, for 0.15 s.
        gc.freeze()
        app: Starlette = super().to_asgi(is_main)
        app.user_middleware = self._middleware(app)
        app.add_exception_handler(HTTPException, error_page)
        app.add_exception_handler(Exception, server_error)
        return app

    def _middleware(self, app: Starlette) -> list[Middleware]:
        """Choose from BentoML's middleware, which is outermost first."""
        kept: dict[Any, Any] = {RunnerTrafficMetricsMiddleware: RequestMetrics}
        if settings().otlp_endpoint:
            # Not at the top: the process that only starts the workers need not load it.
            from opentelemetry.instrumentation.asgi import (  # noqa: PLC0415
                OpenTelemetryMiddleware,
            )

            # Without its spans for each message of the request and of the answer.
            kept[OpenTelemetryMiddleware] = functools.partial(
                OpenTelemetryMiddleware, exclude_spans=["receive", "send"]
            )
        if settings().access_log:
            kept[AccessLogMiddleware] = AccessLogMiddleware
        paths = frozenset(_paths(app.routes))
        chosen = []
        for middleware in app.user_middleware:
            if cls := kept.get(middleware.cls):
                options: dict[str, Any] = dict(middleware.kwargs)
                if cls is RequestMetrics:
                    options["paths"] = paths
                chosen.append(Middleware(cls, *middleware.args, **options))
        methods = {api.route: api.func for api in self.apis.values()}
        return [*chosen, Middleware(DirectCalls, methods)]


def _paths(routes: Sequence[BaseRoute]) -> set[str]:
    found = {route.path for route in routes if isinstance(route, Route)}
    mounts = [route for route in routes if isinstance(route, Mount)]
    return found.union(*(_paths(mount.routes) for mount in mounts))


class DirectCalls:
    """Calls the service's own methods, and leaves all else to the router.

    Args:
        app: the router.
        methods: of the service, by their paths; they take the request and return the response.
    """

    def __init__(self, app: ASGIApp, methods: Mapping[str, Any]) -> None:
        self.app = app
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        method = self._methods.get(scope.get("path", ""))
        if method is None or scope.get("method") != "POST":
            await self.app(scope, receive, send)
            return
        try:
            response = await method(get_current_service(), Request(scope, receive))
            await response(scope, receive, send)
        except asyncio.CancelledError:
            # By uvicorn, at the end of its patience: nothing to log as a fault.
            logger.warning("a request was not over within IRIS_DRAIN_SECONDS; dropped")


class RequestMetrics(RunnerTrafficMetricsMiddleware):
    """BentoML's request metrics with a bounded set of paths, each label looked up once.

    Args:
        app: what is measured.
        paths: that keep their own label.
        options: of BentoML's middleware.
    """

    def __init__(self, app: ASGIApp, paths: frozenset[str], **options: Any) -> None:
        super().__init__(app, **options)
        self._paths = paths
        self._fixed = {
            "service_name": server_context.bento_name,
            "service_version": server_context.bento_version,
            "runner_name": server_context.service_name,
        }
        self._of_path = functools.cache(self._find_of_path)
        self._of_answer = functools.cache(self._find_of_answer)

    def _find_of_path(self, path: str) -> tuple[Any, Any]:
        if not self._is_setup:
            self._setup()
        is_probe = path.startswith(tuple(self.skip_paths))
        return (
            self.metrics_request_in_progress.labels(endpoint=path, **self._fixed),
            None if is_probe else self.metrics_last_request_timestamp.labels(**self._fixed),
        )

    def _find_of_answer(self, path: str, status: int) -> tuple[Any, Any]:
        labels = self._fixed | {"endpoint": path, "http_response_code": status}
        return (
            self.metrics_request_total.labels(**labels),
            self.metrics_request_duration.labels(**labels),
        )

    def _count(self, path: str, status: int, start: float) -> None:
        total, duration = self._of_answer(path, status)
        total.inc()
        duration.observe(default_timer() - start)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count and time one request."""
        if scope["type"] != "http" or scope["path"] == "/metrics":
            await self.app(scope, receive, send)
            return
        start = default_timer()
        path = scope["path"] if scope["path"] in self._paths else OTHER_PATHS
        in_progress, last_request = self._of_path(path)
        if last_request:
            last_request.set_to_current_time()
        status = 0

        async def count(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif not message.get("more_body"):
                self._count(path, status, start)
            await send(message)

        in_progress.inc()
        try:
            await self.app(scope, receive, count)
        except Exception:
            # Starlette answers it with 500, outside of here.
            self._count(path, 500, start)
            raise
        finally:
            in_progress.dec()

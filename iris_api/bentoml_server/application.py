"""BentoML's server without the work per request that this service has no use for.

BentoML builds one application for all kinds of services. For each request it opens a trace that
nobody collects, writes a line of access log, starts a task and a timer for the time limit, keeps a
request context, inspects the method's signature and walks its dependency injection for the headers
of the answer: together several times the work of a prediction. Here that is taken out. Elsewhere
other parts are replaced: those of uvicorn in `connections.py` and `balance.py`, the page of metrics
in `metrics_client.py`, what looks after the workers in `supervision.py`. The routes, the documents
and the clients stay BentoML's.
"""

import asyncio
import functools
import gc
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from _bentoml_sdk.service import Service, get_current_service
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.resource import NvidiaGpuResource
from bentoml._internal.server.http.access import AccessLogMiddleware
from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from iris_api.bentoml_server.request_metrics import RequestMetrics
from iris_api.serving.responses import error_page, server_error
from iris_api.settings import settings
from iris_api.telemetry.worker_files import WorkerFiles

logger = logging.getLogger("bentoml.service")


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
        _prepare_metrics()
        # Nobody sees uvicorn's own access log, whose lines would be put together all the same.
        logging.getLogger("uvicorn.access").propagate = False
        app: Starlette = super().to_asgi(is_main)
        # A path with a slash too many would be sent to whatever host its request names.
        app.router.redirect_slashes = False
        app.user_middleware = self._middleware(app)
        app.add_exception_handler(HTTPException, error_page)
        app.add_exception_handler(Exception, server_error)
        return app

    def _middleware(self, app: Starlette) -> list[Middleware]:
        """Choose from BentoML's middleware, which is outermost first."""
        kept: dict[Any, Any] = {RunnerTrafficMetricsMiddleware: RequestMetrics}
        if settings().otlp_endpoint:
            # Not at the top: the process that only starts the workers need not load it.
            from opentelemetry import trace  # noqa: PLC0415
            from opentelemetry.instrumentation.asgi import (  # noqa: PLC0415
                OpenTelemetryMiddleware,
            )

            # BentoML keeps its provider to itself, and the steps of a prediction need it.
            trace.set_tracer_provider(BentoMLContainer.tracer_provider.get())

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


def _prepare_metrics() -> None:
    """Make the files of this worker's metrics, or end it with one line that says why not."""
    files = WorkerFiles()
    try:
        files.prepare()
    except OSError as error:
        logger.critical(
            "%s: %s; free some space, or set BENTOML_HOME to another folder",
            files.folder,
            error.strerror,
        )
        sys.exit(1)


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

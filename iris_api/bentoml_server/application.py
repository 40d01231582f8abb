"""BentoML's application without the work per request that this service does not need.

Gains: 4.8 times the requests/s (`benchmarks/ABLATION.md`). For each request BentoML opens a trace
that is not exported, starts a task and a timer, keeps a request context, inspects the method's
signature and resolves dependency injection for the headers of the answer.
No supported way: middleware can be added to a service, and none of BentoML's own removed.
Relies on: `Service.to_asgi`, the list `Starlette.user_middleware` of what it returns, and the
classes in that list.
"""

import asyncio
import gc
import logging
import sys
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import bentoml
from bentoml import get_current_service
from bentoml._internal.resource import NvidiaGpuResource
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from iris_api.errors import explain
from iris_api.home import bento_model_store
from iris_api.serving.compression import LEVEL, SHORT_BYTES
from iris_api.serving.responses import error_page, server_error
from iris_api.settings import settings
from iris_api.store import entry
from iris_api.telemetry import logs, traces
from iris_api.telemetry.worker_files import WorkerFiles

if TYPE_CHECKING:  # the process that starts the workers must not load numpy
    from iris_api.serving.handlers import Handlers

logger = logging.getLogger("bentoml.service")


class LeanService(bentoml.Service):
    """A service whose methods take a starlette request and return a starlette response."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        # To count GPUs BentoML loads pynvml: 16 MB and 0.17 s in each process. It does so before it
        # calls any hook.
        NvidiaGpuResource.from_system = list  # type: ignore[method-assign, assignment]

        # Whether the middleware of a worker only counts requests, or traces or logs them as well.
        self.only_counts = False

    def carried_model(self) -> entry.Entry | None:
        """Return the model that a Bento carries, if this is a Bento and carries one."""
        carried = [model.tag for model in self.bento.info.all_models] if self.bento else []
        return entry.get(carried[0], bento_model_store()) if carried else None

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """Build BentoML's application, and keep the middleware that is needed."""
        # What is loaded by now stays. The collector would go through it twice until the service is
        # ready, which takes 0.15 s.
        gc.freeze()
        logs.configure()
        traces.correct_variables()
        _prepare_metrics()
        app: Starlette = super().to_asgi(is_main)
        # Starlette would redirect a path with a trailing slash to the host that its request names.
        app.router.redirect_slashes = False
        chosen = self._middleware(app)
        self.only_counts = len(chosen) == 1
        app.user_middleware = [
            *chosen,
            Middleware(DirectCalls),
            Middleware(GZipMiddleware, minimum_size=SHORT_BYTES, compresslevel=LEVEL),
        ]
        app.add_exception_handler(HTTPException, error_page)
        app.add_exception_handler(Exception, server_error)
        return app

    def _middleware(self, app: Starlette) -> list[Middleware]:
        """Choose from BentoML's middleware, the outermost first."""
        # Not at the top: the process that starts the workers must not load numpy.
        from iris_api.bentoml_server.request_metrics import RequestMetrics  # noqa: PLC0415

        chosen = []
        for middleware in app.user_middleware:
            cls, options = cast("Any", middleware.cls), cast("dict[str, Any]", middleware.kwargs)
            if issubclass(RequestMetrics, cls):
                metrics: Any = RequestMetrics
                chosen.append(Middleware(metrics, routes=_routes(app.routes), **options))
            elif cls.__name__ in {"AccessLogMiddleware", "CORSMiddleware"}:  # there if they are on
                chosen.append(middleware)
            elif cls.__name__ == "OpenTelemetryMiddleware" and settings().traced:
                resource = options["tracer_provider"].resource.attributes
                if changes := traces.export(resource):
                    chosen.append(Middleware(cls, **options | changes))
        return chosen


def _prepare_metrics() -> None:
    """Create this worker's files of metrics, or end it with one line that says why not."""
    files = WorkerFiles()
    try:
        files.prepare()
    except OSError as error:
        logger.critical("%s", explain(error, files.folder))
        sys.exit(1)


def _routes(found: Sequence[BaseRoute]) -> list[Route]:
    below = [_routes(mount.routes) for mount in found if isinstance(mount, Mount)]
    return [*(route for route in found if isinstance(route, Route)), *chain.from_iterable(below)]


class DirectCalls:
    """Middleware that answers prediction calls by their path, and passes all else to the router."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope.get("method") != "POST":
            await self.app(scope, receive, send)
            return
        handlers: Handlers = get_current_service().handlers
        try:
            kind = handlers.kinds.get(scope["path"])
            if kind is None:
                await self.app(scope, receive, send)
                return
            response = await handlers.answer(Request(scope, receive), kind)
            await response(scope, receive, send)
        except asyncio.CancelledError:
            # uvicorn cancels what is left at the end of the graceful shutdown. That is no fault.
            logger.warning("a request was not over within IRIS_DRAIN_SECONDS; dropped")

"""The service without one of its parts, which the variable BENCH_WITHOUT names.

A part is replaced before the service is imported; the service itself has no setting for it.
"""
# ruff: noqa: SLF001 (parts are private)

import asyncio
import os
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware

from iris_api.bentoml_server import balancing, connections
from iris_api.bentoml_server.application import DirectCalls, LeanService
from iris_api.bentoml_server.straight_path import StraightPath
from iris_api.serving import admission
from iris_api.serving.responses import SECURITY
from iris_api.telemetry.recording import Metrics

VARIABLE = "BENCH_WITHOUT"


def _keep_request_path() -> None:
    """Keep all of BentoML's middleware, and its way from the route to the method."""
    choose: Any = vars(LeanService)["_middleware"]

    def keep(service: LeanService, app: Starlette) -> list[Middleware]:
        return [choose(service, app)[0], *app.user_middleware[1:]]  # the labels stay bounded

    def to_asgi(service: LeanService, is_main: bool = True) -> Any:
        app = build(service, is_main)
        app.user_middleware = [each for each in app.user_middleware if each.cls is not DirectCalls]
        return app

    build: Any = LeanService.to_asgi
    _replace(LeanService, "_middleware", keep)
    _replace(LeanService, "to_asgi", to_asgi)


def _keep_connections() -> None:
    """Keep uvicorn's connections."""

    class NoGuard:
        def __init__(self, server: uvicorn.Server, *_parts: Any) -> None:
            self.connections = server.server_state.connections

        async def watch(self) -> None:
            await asyncio.Event().wait()

    def guard(server: uvicorn.Server, *_arguments: Any) -> None:
        server.config.encoded_headers += SECURITY

    _replace(connections, "Guard", NoGuard)
    _replace(connections, "guard_connections", guard)


def _keep_listening() -> None:
    """Leave it to the kernel which worker accepts a connection."""
    _replace(balancing, "balance_connections", lambda _guard: None)


def _keep_balancing() -> None:
    """Never leave the connections to the loop's own server."""
    _replace(balancing, "MANY", 10**9)


def _reject_at_once() -> None:
    """Send each rejection as soon as its request is read."""
    _replace(admission, "REJECT_SECONDS", 0)


def _accept_all() -> None:
    """Reject no request, however many wait."""
    start: Any = vars(connections.Connection)["_start_asgi_task"]

    def begin(connection: Any, cycle: Any, app: Any) -> None:
        connection._guard.admission.limit = 10**9
        start(connection, cycle, app)

    _replace(connections.Connection, "_start_asgi_task", begin)


def _count_at_once() -> None:
    """Count each request when it is answered."""
    _replace(Metrics, "count_soon", Metrics._count)


def _observe_nothing() -> None:
    """Observe nothing of the model's rows and answers."""
    _replace(Metrics, "observe", lambda *_call: None)


def _keep_layers() -> None:
    """Start a task for each request, which goes through the layers of uvicorn and starlette."""
    _replace(StraightPath, "answer", lambda _path, cycle, start, app: start(cycle, app))


def _replace(owner: Any, name: str, value: Any) -> None:
    patch.object(owner, name, value).start()


PARTS: dict[str, Callable[[], None]] = {
    "": lambda: None,
    "the short request path": _keep_request_path,
    "the connection class": _keep_connections,
    "the straight path": _keep_layers,
    "deferred counting": _count_at_once,
    "what is observed of the model": _observe_nothing,
    "balanced connections": _keep_listening,
    "the loop's own server": _keep_balancing,
    "rejections in turn": _reject_at_once,
    "load shedding": _accept_all,
}
"""The function that removes a part, by the name of the part in the table."""

PARTS[os.environ.get(VARIABLE, "")]()

from service import IrisClassifier  # noqa: E402, F401 (bentoml serve looks for it here)

"""The straight path: a prediction call that has arrived whole is answered in one function.

Gains: 1.4 times the requests/s (`benchmarks/ABLATION.md`: the straight path). The ordinary path
starts a task for each request, which goes through uvicorn's and starlette's layers, and sends the
answer back through them in two messages.
No supported way: an ASGI server calls its application in a task.
Relies on: uvicorn's `STATUS_LINE` and `RequestResponseCycle`, the request of a connection.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Any, cast

from starlette.responses import Response
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from iris_api.bentoml_server.request_metrics import RequestMetrics
from iris_api.serving.handlers import Handlers


class StraightPath:
    """Answers prediction calls for all connections of a worker."""

    def __init__(self, handlers: Handlers, requests: RequestMetrics) -> None:
        self._handlers = handlers
        self._requests = requests
        self.paths = handlers.kinds

    def answer(self, cycle: RequestResponseCycle, start: Callable[..., None], app: Any) -> None:
        """Answer a request, or start the task of the ordinary path.

        Key, model, parsing, inference and writing are those of the ordinary path, which answers
        requests that are long or still uploading, and clients that do not read.
        """
        is_whole = not (cycle.more_body or cycle.waiting_for_100_continue or cycle.disconnected)
        is_short = len(cycle.body) <= self._handlers.short_bytes
        if not (is_whole and is_short) or cycle.flow.write_paused:
            start(cycle, app)
            return
        started, scope = perf_counter(), cast("Scope", cycle.scope)
        path = scope["path"]
        try:
            response = self._handlers.answer_whole(scope, self.paths[path], bytes(cycle.body))
        except Exception:  # noqa: BLE001 (the ordinary path meets it again, logs it and answers 500)
            response = None
        if response is None:
            start(cycle, app)
            return
        self._handlers.admission.held -= 1
        self._requests.count_answered(path, response.status_code, perf_counter() - started)
        _write(cycle, response)


def _write(cycle: RequestResponseCycle, response: Response) -> None:
    """Write an answer with one system call, and end its request as uvicorn does."""
    parts = [STATUS_LINE[response.status_code]]
    for name, value in (*cycle.default_headers, *response.raw_headers):
        parts += (name, b": ", value, b"\r\n")
    if not cycle.keep_alive:
        parts.append(b"connection: close\r\n")
    parts += (b"\r\n", bytes(response.body))
    cycle.transport.write(b"".join(parts))
    cycle.response_started = cycle.response_complete = True
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    cycle.on_response = lambda: None  # it and the connection refer to each other


class OneWrite:
    """The transport of an answer on the ordinary path; sends head and body with one system call."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self.close = transport.close

    def write(self, data: bytes) -> None:
        """Keep the head until the first part of the body comes, which may be empty."""
        if self._head is None:
            self._head = data
        else:
            self._transport.write(self._head + data)
            self._head = b""

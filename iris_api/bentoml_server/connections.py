"""Connections that are safe without a proxy in front, and that reject requests under overload.

Gains: slow and hostile clients, idle connections and too many requests cost the others nothing
(tests: test_abuse.py, test_overload.py).
No supported way: uvicorn limits neither the time of a client nor the size of a request's head, and
its `limit_concurrency` counts idle connections, too.
Relies on: `HttpToolsProtocol` and `RequestResponseCycle` of uvicorn, and their attributes.
"""

import asyncio
import functools
import resource
import sys
from typing import Any, cast

import httptools
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from iris_api.bentoml_server.request_metrics import RequestMetrics
from iris_api.bentoml_server.shutdown import POLL_SECONDS
from iris_api.bentoml_server.straight_path import OneWrite, StraightPath
from iris_api.serving.admission import RETRY, WHOLE_BODY, Admission, OverloadedError
from iris_api.serving.responses import CLOSE, SECURITY, STRICT_TRANSPORT, error_response

STALL_SECONDS = 10
"""Time for a client to send a request or the rest of its body, or to read some of an answer."""

MAX_HEAD_BYTES = 64 * 1024
"""Maximum size of the head of a request, as in h11, and of trailers."""

KEEP_ALIVE = (b"connection", b"keep-alive")
"""The header with which a client of HTTP/1.0 is answered that asked to keep its connection."""

MAX_PIPELINED = 100
"""Requests of one client that may wait for an earlier answer."""

OTHER_FILES = 256
"""File handles of a worker that are reserved for all but its connections."""


class Guard:
    """The limits that all connections of a worker share."""

    def __init__(
        self, server: uvicorn.Server, admission: Admission, straight_path: StraightPath | None
    ) -> None:
        self.admission = admission
        self.straight_path = straight_path
        self.app = admission.releasing(server.config.loaded_app)
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)  # supervision.py raises it
        self.max_connections = sys.maxsize if files < 0 else max(files - OTHER_FILES, 1)
        self.connections = cast("set[Connection]", server.server_state.connections)
        self.surplus = 0  # connections to close after their next answers

    def drop_one(self, new: "Connection") -> None:
        """Close an idle connection, or else the new one."""
        idle = (each for each in self.connections if each is not new and each.is_idle())
        next(idle, new).transport.abort()

    async def reject(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with 429, in its turn."""
        if RequestMetrics.of_worker:
            RequestMetrics.of_worker.count_rejected(scope["path"])
        await self.admission.wait_for_turn()
        path, text = scope["path"], str(OverloadedError())
        await error_response(429, text, headers=RETRY, path=path)(scope, receive, send)

    async def watch(self) -> None:
        """Check for stalled clients, forever; a timer for each request would cost more."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            for connection in list(self.connections):
                connection.abort_if_stalled(asyncio.get_running_loop().time())


class Connection(HttpToolsProtocol):
    """A connection of uvicorn with limits."""

    def __init__(self, guard: Guard, **options: Any) -> None:
        super().__init__(**options)
        self.access_log = False  # formatting its lines, which are not shown, takes 4 % of a request
        self._guard = guard
        self._data = b""  # that the parser reads now
        self._unread = b""  # the part of it that the parser must read again
        self._fruitless = 0  # bytes since the last complete head or part of a body
        # The request that keeps the connection if its whole body arrives before its answer.
        self._kept: RequestResponseCycle | None = None
        self._progress: Any = None  # the request and its unsent bytes at the last change
        self._since = 0.0  # time of that change

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, if need be in the place of an idle one."""
        super().connection_made(transport)
        if len(self.connections) > self._guard.max_connections:
            self._guard.drop_one(self)

    def data_received(self, data: bytes) -> None:
        """Parse what was received."""
        self._unread = data
        while self._unread and not self.transport.is_closing():
            data, self._unread = self._unread, b""
            self._read(data)

    def _read(self, data: bytes) -> None:
        self._data = data
        self._fruitless += len(data)
        if self.timeout_keep_alive_task:
            self._progress = None  # a request begins
        super().data_received(data)
        # What is left of a body after its answer is read, so that the client may send it and keep
        # the connection. A body that may be longer than those that are accepted is not.
        cycle = self.cycle
        if cycle is not None and cycle.more_body and cycle.keep_alive and self._may_be_long():
            self._close_unless_whole()
        if self._fruitless <= MAX_HEAD_BYTES or self.transport.is_closing():
            return
        if cycle is not None and cycle.body and not cycle.response_complete:
            self._fruitless = 0  # it belongs to a body that is being read
        elif self.scope is not None and "method" in self.scope:
            if not cycle.response_complete:
                self.transport.close()  # trailers
        else:
            self.send_400_response(f"the head has more than {MAX_HEAD_BYTES} bytes")

    def on_headers_complete(self) -> None:
        """Start a request, unless its head or the queue before it is too long."""
        if self._wants_upgrade():
            return
        if self._fruitless > MAX_HEAD_BYTES:  # most of it may be the body
            length = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if length > MAX_HEAD_BYTES:
                raise ValueError  # uvicorn answers it with 400
        self._fruitless = 0
        super().on_headers_complete()
        self.headers = []  # trailers must not become headers, which a proxy may have checked
        if len(self.pipeline) > MAX_PIPELINED:
            self.transport.abort()
        # A client that gets an answer instead of "100 Continue" may not send its body. HTTP/1.0
        # keeps connections as well, which uvicorn does not.
        if self.expect_100_continue or self.scope["http_version"] == "1.0":
            self._close_unless_whole()
        if self._guard.surplus:
            self._guard.surplus -= 1
            self.shutdown()

    def on_message_complete(self) -> None:
        """Mark a request as completely received."""
        if self._wants_upgrade():
            return
        super().on_message_complete()
        self.scope[WHOLE_BODY] = True  # type: ignore[literal-required]
        self._fruitless = 0
        cycle, self._kept = self._kept, None
        if cycle is not None and not cycle.response_started:
            cycle.keep_alive = True
            if cycle.scope["http_version"] == "1.0":
                cycle.default_headers = [*cycle.default_headers, KEEP_ALIVE]
        if self.cycle.response_complete and self.timeout_keep_alive_task is None:
            # The rest of an ignored body ended the timer that its answer had started.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _close_unless_whole(self) -> None:
        """Have an answer that comes before the end of the body say `Connection: close`."""
        self._kept = self.cycle if self.parser.should_keep_alive() else None
        self.cycle.keep_alive = False

    def _may_be_long(self) -> bool:
        lengths = [each for name, each in self.cycle.scope["headers"] if name == b"content-length"]
        return not lengths or int(lengths[0]) > self._guard.admission.max_body_bytes

    def shutdown(self) -> None:
        """Close the connection after the answer, however the body comes."""
        self._kept = None
        super().shutdown()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        guard = self._guard
        if cycle.scope["method"] != "POST":
            super()._start_asgi_task(cycle, app)
        elif guard.admission.is_full:
            self._start_post(cycle, guard.reject)
        else:
            guard.admission.held += 1
            if guard.straight_path and cycle.scope["path"] in guard.straight_path.paths:
                # Not now: its body is parsed after its head, and other requests count first.
                start = self._start_post
                self.loop.call_soon(guard.straight_path.answer, cycle, start, guard.app)
            else:
                self._start_post(cycle, guard.app)

    def _start_post(self, cycle: RequestResponseCycle, app: Any) -> None:
        if not cycle.waiting_for_100_continue:
            cycle.transport = OneWrite(self.transport)  # type: ignore[assignment]
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP with JSON, as all errors."""
        answer = error_response(400, msg, headers=CLOSE)
        headers = (*self.server_state.default_headers, *answer.raw_headers)
        lines = (b"HTTP/1.1 400 Bad Request", *(name + b": " + value for name, value in headers))
        self.transport.write(b"\r\n".join((*lines, b"", bytes(answer.body))))
        self.transport.close()

    def is_idle(self) -> bool:
        """Return whether no request is being answered, and no answer is left to be sent."""
        unsent = self.transport.get_write_buffer_size()
        return not (unsent or self._is_working() or self.transport.is_closing())

    def _is_working(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wants_upgrade(self) -> bool:
        return bool(self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT")

    def _unsupported_upgrade_warning(self) -> None:
        """Parse a request that offers WebSockets or HTTP/2 again, without the offer.

        httptools stops there: what follows would be the other protocol. But it is a body, which
        would be lost or parsed as the next request. Java's client offers HTTP/2 with its first one.
        """
        if not self._wants_upgrade():
            return  # CONNECT, which nothing follows
        error = sys.exception()
        assert isinstance(error, httptools.HttpParserUpgrade)  # noqa: S101 (uvicorn calls it there)
        version = self.parser.get_http_version().encode()
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        for name, value in self.headers:
            if name != b"connection":
                lines.append(name + b": " + value)
            elif b"close" in value.lower():
                lines.append(b"connection: close")
        self._unread = b"\r\n".join((*lines, b"", self._data[error.args[0] :]))
        self._fruitless = 0
        self.parser = httptools.HttpRequestParser(self)

    def abort_if_stalled(self, now: float) -> None:
        """Close the connection if its client made no progress for STALL_SECONDS."""
        unsent = self.transport.get_write_buffer_size()
        if (self._is_working() and not unsent) or (self.cycle, unsent) != self._progress:
            self._progress, self._since = (self.cycle, unsent), now
        elif now - self._since > STALL_SECONDS and (unsent or not self.timeout_keep_alive_task):
            self.transport.abort()


def guard_connections(server: uvicorn.Server, guard: Guard, keep_alive_seconds: float) -> None:
    """Replace the connections of a server that does not listen yet."""
    config = server.config
    if "--timeout-keep-alive" not in sys.argv:  # BentoML passes it on, or else sets 5 s
        config.timeout_keep_alive = keep_alive_seconds  # type: ignore[assignment]
    config.encoded_headers += SECURITY + [STRICT_TRANSPORT] * config.is_ssl
    config.ws_protocol_class = None  # there are no WebSockets here
    config.http_protocol_class = functools.partial(Connection, guard)  # type: ignore[assignment]

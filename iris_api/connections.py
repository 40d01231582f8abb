"""Connections: what uvicorn leaves to a proxy in front, for a service that may have none.

uvicorn waits without end for the head of a request and for an answer to be taken, takes heads of
any size, any number of connections, and begins every request that it has read. Here a worker gives
up on clients that do not get on, and says 429 before a request costs more than its head.
"""

import asyncio
import functools
import resource
from collections import Counter, deque
from typing import Any, cast

import uvicorn
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from iris_api.admission import RETRY, WHOLE_BODY, Admission, OverloadedError
from iris_api.http import error_response
from iris_api.metrics import Metrics
from iris_api.request_metrics import RequestMetrics, take_all

STALL_SECONDS = 10
"""For a client to say its request, to send what is left of a body that was answered already, and to
take some of an answer."""

MAX_HEAD_BYTES = 64 * 1024
"""As h11, uvicorn's other parser, has it. Also of trailers, and of a body that is not wanted."""

LOOK_SECONDS = 1
"""Between two looks after the connections: a timer for each request would cost more."""

REFUSALS_PER_SECOND = 20_000
"""That a worker has the time for, a third of it; the rest is for those that are accepted.

More are answered later, which slows down clients that do not wait, and nobody else.
"""

REFUSAL_SECONDS = 0.005
"""Between two times that refusals are sent."""

PREDICTIONS = (b"/predict", b"/predict_proba")

MAX_FILES = 65_536
"""Handles that a worker asks the system for; each connection takes one."""

OTHER_FILES = 256
"""Handles that are kept for all else."""

CONTENT_POLICY = (
    b"default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    b"frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", CONTENT_POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
"""Of every answer; those that OWASP's cheat sheet for REST asks for."""

Headers = list[tuple[bytes, bytes]]


class Guard:
    """What the connections of one worker share.

    Attributes:
        admission: the worker's slots.
        app: that answers and gives its slot back.
        max_connections: that are held at once.
    """

    def __init__(self, server: uvicorn.Server, admission: Admission, metrics: Metrics) -> None:
        self.admission = admission
        self.app = admission.releasing(server.config.loaded_app)
        self.max_connections = _raise_file_limit() - OTHER_FILES
        self._state = server.server_state
        self._metrics = metrics
        self._refused: deque[bytes] = deque()
        metrics.count_with(self._count)
        self._refusal_headers: Headers = []
        self._refusal = b""
        self._waiting: deque[Connection] = deque()

    def refuse(self, connection: "Connection", url: bytes) -> None:
        """Count a request that finds no slot, and have it answered when there is time."""
        self._refused.append(url if url in PREDICTIONS else b"")
        self._metrics.count_soon()
        if not self._waiting:
            asyncio.get_running_loop().call_later(REFUSAL_SECONDS, self._send_refusals)
        self._waiting.append(connection)

    def _send_refusals(self) -> None:
        # A new list each second, with the time in it.
        if (headers := self._state.default_headers) is not self._refusal_headers:
            self._refusal_headers = headers
            self._refusal = _message(_overloaded(), headers)
        for _ in range(min(len(self._waiting), round(REFUSALS_PER_SECOND * REFUSAL_SECONDS))):
            self._waiting.popleft().send_refusal(self._refusal)
        if self._waiting:
            asyncio.get_running_loop().call_later(REFUSAL_SECONDS, self._send_refusals)

    async def answer_refusal(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that finds no slot after those before it on its connection."""
        self._refused.append(b"")
        self._metrics.count_soon()
        await _overloaded()(scope, receive, send)

    def connections(self) -> "list[Connection]":
        """Return those that are open."""
        return cast("list[Connection]", list(self._state.connections))

    async def look(self) -> None:
        """Look after the connections; never ends."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for connection in self.connections():
                connection.look(loop.time())

    def _count(self) -> None:
        """Bring the metrics up to date, on whatever thread."""
        refused = Counter(take_all(self._refused))
        self._metrics.reject("overloaded", refused.total())
        for url, requests in refused.items():
            if RequestMetrics.of_worker is not None:  # BentoML's metrics can be switched off
                RequestMetrics.of_worker.count_refused(url.decode(), requests)


class Connection(HttpToolsProtocol):
    """A connection of uvicorn that can refuse, and that can be given up.

    Args:
        guard: what it shares with the others.
        options: of uvicorn.
    """

    def __init__(self, guard: Guard, **options: Any) -> None:
        super().__init__(**options)
        self._guard = guard
        self._head_bytes = 0
        self._in_message = False  # between a head and the end of its body
        self._closes = False
        self._closes_refused = False
        self._stage: Any = None
        self._since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, if need be in the place of one that only waits."""
        super().connection_made(transport)
        if len(self.connections) > self._guard.max_connections:
            others = self._guard.connections()
            idle = (other for other in others if other is not self and other.is_idle())
            next(idle, self).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it is too much before anything comes of it."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            if self.cycle is not None and self.cycle.body:
                self._head_bytes = 0  # it was a body that is being read
            elif self._in_message:
                self.transport.close()
            elif not self.transport.is_closing():
                self.send_400_response(f"the head has more than {MAX_HEAD_BYTES} bytes")

    def on_headers_complete(self) -> None:
        """Begin a request, or refuse it before anything else is done for it."""
        self._head_bytes = 0
        self._in_message = True
        if (
            self._guard.admission.is_full
            and self.is_idle()
            and self.parser.get_method() == b"POST"
            and not self.transport.is_closing()
        ):
            self._refuse()
            return
        super().on_headers_complete()
        if self.expect_100_continue:
            # After an answer instead of "100 Continue" a client may leave its body out.
            self.cycle.keep_alive = False
        if not self.cycle.keep_alive:
            self.cycle.transport = _Lingering(self)  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        """Note that nothing is left to be received of a request."""
        super().on_message_complete()
        self.scope[WHOLE_BODY] = True  # type: ignore[literal-required]
        self._in_message = False
        if self._closes:
            self.transport.close()

    def close_after_body(self) -> None:
        """Close in good time: sooner, a client that still sends could not read its answer."""
        self._closes = True
        if not self._in_message:
            self.transport.close()

    def is_idle(self) -> bool:
        """Tell whether no request of this connection is at work."""
        return self.cycle is None or self.cycle.response_complete

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if cycle.scope["method"] == "POST":
            if self._guard.admission.is_full:
                app = self._guard.answer_refusal
            else:
                self._guard.admission.held += 1
                app = self._guard.app
        super()._start_asgi_task(cycle, app)

    def _refuse(self) -> None:
        self._stage = None
        self._closes_refused = self.expect_100_continue or not self.parser.should_keep_alive()
        self.cycle = _REFUSING
        self._guard.refuse(self, self.url)

    def send_refusal(self, message: bytes) -> None:
        """Send what a request is answered that found no slot, and go on."""
        if self.transport.is_closing():
            return
        self.transport.write(message)
        if self.cycle is _REFUSING:
            self.cycle = _REFUSED
        if self._closes_refused:
            self.close_after_body()
        elif self.pipeline:
            self.on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, as all errors are answered."""
        headers = [*self.server_state.default_headers, (b"connection", b"close")]
        self.transport.write(_message(error_response(400, msg), headers))
        self.transport.close()

    def look(self, now: float) -> None:
        """Give the connection up when its client did not get on since some looks before.

        Args:
            now: in seconds, of the loop's clock.
        """
        unsent = self.transport.get_write_buffer_size()
        if not self.is_idle() or (self.cycle, unsent) != self._stage:
            self._stage, self._since = (self.cycle, unsent), now
        elif now - self._since > STALL_SECONDS and (unsent or not self.timeout_keep_alive_task):
            self.transport.abort()


class _Lingering:
    """A transport for an answer that closes its connection once the request is received."""

    def __init__(self, connection: Connection) -> None:
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing
        self.close = connection.close_after_body


class _Refused:
    """In the place of uvicorn's cycle of request and response, for requests that get none."""

    body = property(lambda _: b"", lambda _, _body: None)

    def __init__(self, *, response_complete: bool) -> None:
        self.response_complete = response_complete
        self.disconnected = False
        self.more_body = False
        self.keep_alive = True
        self.message_event = asyncio.Event()


_REFUSING: Any = _Refused(response_complete=False)
_REFUSED: Any = _Refused(response_complete=True)


def _overloaded() -> Response:
    return error_response(429, str(OverloadedError()), headers=RETRY)


def _message(response: Response, headers: Headers) -> bytes:
    """Write a response as it goes over a connection, with more headers."""
    lines = [name + b": " + value + b"\r\n" for name, value in (*headers, *response.raw_headers)]
    return b"".join((STATUS_LINE[response.status_code], *lines, b"\r\n", response.body))


def _raise_file_limit() -> int:
    """Have as many file handles as the system allows, and return their number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    return count


def guard_connections(server: uvicorn.Server, admission: Admission, metrics: Metrics) -> Guard:
    """Have a server, which does not listen yet, guard its connections."""
    server.config.encoded_headers.extend(HEADERS)
    server.config.ws_protocol_class = None  # there are no WebSockets here
    guard = Guard(server, admission, metrics)
    server.config.http_protocol_class = functools.partial(Connection, guard)  # type: ignore[assignment]
    return guard

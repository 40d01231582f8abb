"""Connections: what uvicorn leaves to a proxy in front, for a service that may have none.

uvicorn waits without end for the head of a request and for an answer to be taken, takes heads of
any size and as many connections as there are file handles, and begins every request that it has
read. Here a worker gives up on clients that make no progress, and refuses what it has no place for.
"""

import asyncio
import functools
import resource
import sys
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from iris_api.bentoml_server.load_shedding import Refusals
from iris_api.serving.admission import WHOLE_BODY, Admission
from iris_api.serving.responses import CLOSE, error_response, security_headers, to_bytes
from iris_api.telemetry.recording import Metrics

STALL_SECONDS = 10
"""For a client to say its request, to send what is left of a body that was answered already, and to
take some of an answer."""

MAX_HEAD_BYTES = 64 * 1024
"""As h11, uvicorn's other parser, has it. Also of trailers, and of a body that is not wanted."""

LOOK_SECONDS = 1
"""Between two looks after the connections: a timer for each request would cost more."""

MAX_PIPELINED = 100
"""Requests of a client that wait for the answer before: uvicorn reads on at each answer."""

MAX_FILES = 65_536
"""Handles that a worker asks the system for; each connection takes one."""

OTHER_FILES = 256
"""Handles that are kept for all else."""


class Guard:
    """What the connections of one worker share.

    Args:
        server: that does not listen yet.
        admission: the worker's places.
        metrics: that count what is refused.

    Attributes:
        refusals: for requests that find no place.
        app: that answers and gives its place back.
        max_connections: that are held at once.
    """

    def __init__(self, server: uvicorn.Server, admission: Admission, metrics: Metrics) -> None:
        self.admission = admission
        self.app = admission.releasing(server.config.loaded_app)
        self.refusals = Refusals(server.server_state, metrics, admission.limit)
        self.max_connections = _raise_file_limit() - OTHER_FILES
        self._connections = cast("set[Connection]", server.server_state.connections)

    def drop_one(self, new: "Connection") -> None:
        """Close a connection that only waits, or else the new one."""
        waits = (each for each in self._connections if each is not new and each.only_waits())
        next(waits, new).transport.abort()

    async def look(self) -> None:
        """Look after the connections; never ends."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for connection in list(self._connections):
                connection.look(loop.time())


class Connection(HttpToolsProtocol):
    """A connection of uvicorn that can be refused a request, and that can be given up.

    Args:
        guard: what it shares with the others.
        options: of uvicorn.
    """

    def __init__(self, guard: Guard, **options: Any) -> None:
        super().__init__(**options)
        self._guard = guard
        self._data = b""  # that is being read
        self._unread = b""  # of it, to be read anew
        self._fruitless = 0  # bytes since the last head or part of a body
        self._stage: Any = None
        self._since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, if need be in the place of one that only waits."""
        super().connection_made(transport)
        if len(self.connections) > self._guard.max_connections:
            self._guard.drop_one(self)

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it is too much before anything comes of it."""
        self._read(data)
        while self._unread and not self.transport.is_closing():
            unread, self._unread = self._unread, b""
            self._read(unread)

    def _read(self, data: bytes) -> None:
        self._data = data
        self._fruitless += len(data)
        if self.timeout_keep_alive_task:
            self._stage = None  # it begins a request
        super().data_received(data)
        if self._fruitless <= MAX_HEAD_BYTES or self.transport.is_closing():
            return
        if self.cycle is not None and self.cycle.body and not self.cycle.response_complete:
            self._fruitless = 0  # it was a body that is being read
        elif self.scope is not None and "method" in self.scope:
            self.transport.close()  # trailers, or a body that is not wanted
        else:
            self.send_400_response(f"the head has more than {MAX_HEAD_BYTES} bytes")

    def on_headers_complete(self) -> None:
        """Begin a request, unless its head or the queue of those before is too long."""
        if self._wants_upgrade():
            return
        if self._fruitless > MAX_HEAD_BYTES:  # of which a body may be the most
            length = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if length > MAX_HEAD_BYTES:
                raise ValueError  # which uvicorn answers with 400
        self._fruitless = 0
        super().on_headers_complete()
        self.headers = []  # trailers are no headers: a proxy may have looked at these alone
        if len(self.pipeline) > MAX_PIPELINED:
            self.transport.abort()
        if self.expect_100_continue:
            # After an answer instead of "100 Continue" a client may leave its body out.
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Note that nothing is left to be received of a request."""
        if self._wants_upgrade():
            return
        super().on_message_complete()
        self.scope[WHOLE_BODY] = True  # type: ignore[literal-required]

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if cycle.scope["method"] == "POST":
            if self._guard.admission.is_full:
                self._guard.refusals.refuse(self, cycle)
                return
            self._guard.admission.held += 1
            app = self._guard.app
            if not cycle.waiting_for_100_continue:
                cycle.transport = _InOne(self.transport)  # type: ignore[assignment]
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, as all errors are answered."""
        answer = error_response(400, msg, headers=CLOSE)
        self.transport.write(to_bytes(answer, self.server_state.default_headers))
        self.transport.close()

    def is_idle(self) -> bool:
        """Tell whether no request of this connection is at work."""
        return self.cycle is None or self.cycle.response_complete

    def only_waits(self) -> bool:
        """Tell whether its client has nothing to expect, not even the rest of an answer."""
        unsent = self.transport.get_write_buffer_size()
        return self.is_idle() and not unsent and not self.transport.is_closing()

    def _wants_upgrade(self) -> bool:
        return bool(self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT")

    def _unsupported_upgrade_warning(self) -> None:
        """Begin a request anew that asks for WebSockets or HTTP/2, as if it did not.

        httptools takes what comes after its head for the other protocol, and reads no further. But
        that is a body: Java's client, for one, offers HTTP/2 beside its first request. Left alone
        it would be lost, or taken for the next request.
        """
        if not self._wants_upgrade():
            return  # CONNECT, after which there is nothing
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

    def look(self, now: float) -> None:
        """Give the connection up when its client made no progress since some looks before.

        Args:
            now: in seconds, of the loop's clock.
        """
        unsent = self.transport.get_write_buffer_size()
        works = not unsent and not self.is_idle()
        if works or (self.cycle, unsent) != self._stage:
            self._stage, self._since = (self.cycle, unsent), now
        elif now - self._since > STALL_SECONDS and (unsent or not self.timeout_keep_alive_task):
            self.transport.abort()


class _InOne:
    """The transport of one answer, which sends its head together with its body.

    uvicorn writes one after the other: two system calls and two packets, for 7 % of the time of a
    request of one row. Not for answers that stream.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = b""
        self.close = transport.close

    def write(self, data: bytes) -> None:
        """Keep the head until the body comes, empty or not; what comes then passes."""
        if self._head is None:
            self._transport.write(data)
        elif self._head:
            self._transport.write(self._head + data)
            self._head = None
        else:
            self._head = data


def _raise_file_limit() -> int:
    """Have MAX_FILES file handles, or as many as the system allows, and never fewer than before.

    Returns:
        Their number; MAX_FILES where there is no limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_FILES
    count = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if count > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    return max(count, soft, OTHER_FILES + 1)


def guard_connections(server: uvicorn.Server, admission: Admission, metrics: Metrics) -> Guard:
    """Have a server, which does not listen yet, guard its connections."""
    config = server.config
    config.encoded_headers.extend(security_headers(tls=config.is_ssl))
    config.ws_protocol_class = None  # there are no WebSockets here
    guard = Guard(server, admission, metrics)
    config.http_protocol_class = functools.partial(Connection, guard)  # type: ignore[assignment]
    return guard

"""New connections go to the worker that has the fewest, and else to each in turn.

The workers of a service share a listening socket, and whoever is first takes a connection. Left to
itself that is nearly always the same one: of 64 that were opened one by one, two workers took 63
and 1. Clients keep their connections, so that one worker would answer while the others wait.
"""

import asyncio
import contextlib
import mmap
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from bentoml._internal.context import server_context

from iris_api.home import METRICS_VARIABLE

WORKERS = "_IRIS_WORKERS"
"""Where the process that starts the workers leaves their number for them."""

LEAVE_SECONDS = 0.001
"""For a worker with fewer connections to take a new one; then it is taken here, come what may."""

FULL_SECONDS = 1
"""Until a new connection is tried again when there was no file descriptor for it."""

LOOK_SECONDS = 1
"""Between two looks at how many connections come."""

MANY = 200
"""Connections that a worker takes between two looks, of clients that do not keep theirs."""

_FILE = "connections"
_NUMBER_BYTES = 4
_LAST = 0
"""The place of the worker that took the newest one; theirs begin at 1."""


class Counts:
    """How many connections each worker has, in memory that they share.

    Args:
        file: of that memory, made where it is missing.
        worker: number of this one, from 1.
        workers: of the service; while one is replaced, a number may be up to twice as high.
    """

    def __init__(self, file: Path, worker: int, workers: int) -> None:
        size = _NUMBER_BYTES * (2 * workers + 1)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(descriptor).st_size < size:
                os.write(descriptor, bytes(size))  # a full disk is told here, and not by SIGBUS
            self._numbers = memoryview(mmap.mmap(descriptor, size)).cast("i")
        finally:
            os.close(descriptor)
        self._worker = worker

    def tell(self, count: int) -> None:
        """Note how many this worker has."""
        self._numbers[self._worker] = count + 1  # 0 is where there is no worker

    def take(self) -> None:
        """Note that this worker took the newest one."""
        self._numbers[_LAST] = self._worker

    def is_next(self, count: int) -> bool:
        """Tell whether a worker that has so many should take the next one.

        Of those with equally many the last one should not. A worker that died counts until it is
        replaced, which costs the others a pause each time.
        """
        numbers = self._numbers.tolist()
        last = numbers[_LAST]
        numbers[_LAST] = numbers[self._worker] = 0
        least = min(filter(None, numbers), default=0) - 1
        return least < 0 or count < least or (count == least and last != self._worker)


class Listener:
    """What uvicorn listens with, in the place of an `asyncio.Server`.

    Where clients open a connection for each request there is nothing to even out, and taking it
    here would cost such a request a sixth of its time. While many come, the loop's own server takes
    them.

    Args:
        server: of this worker.
        counts: of all workers.
        listening: the socket that they share.
        make: the protocol of a connection.
        options: of the loop's own server.
    """

    def __init__(
        self,
        server: uvicorn.Server,
        counts: Counts,
        listening: socket.socket,
        make: Callable[[], asyncio.Protocol],
        options: dict[str, Any],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connections = server.server_state.connections
        self._opening: set[asyncio.Task[Any]] = set()
        self._counts = counts
        self._socket = listening
        self._socket.setblocking(False)
        self._make = make
        self._options = options
        self._came = 0  # since the last look
        self._timer: asyncio.TimerHandle | None = None
        self._own: asyncio.Server | None = None
        self._looking = self._loop.create_task(self._look())
        self._listen()

    def close(self) -> None:
        """Take no more; what was taken stays."""
        self._looking.cancel()
        self._leave()

    async def wait_closed(self) -> None:
        """Do nothing: it is closed at once."""

    async def _look(self) -> None:
        """Change over to the loop's own server, and back."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            many, self._came = self._came > MANY, 0
            if many and not self._own:
                try:
                    await self._leave_to_loop()
                except OSError:  # no file descriptor for it
                    self._listen()
            elif self._own and not many:
                self._leave()
                self._listen()
            self._tell()

    async def _leave_to_loop(self) -> None:
        shared = self._socket.dup()
        self._leave()
        self._own = await type(self._loop).create_server(
            self._loop, self._begin, sock=shared, **self._options
        )

    def _begin(self) -> asyncio.Protocol:
        self._came += 1
        return self._make()

    def _listen(self) -> None:
        self._tell()
        self._loop.add_reader(self._socket, self._ready)

    def _leave(self) -> None:
        self._loop.remove_reader(self._socket)
        if self._timer:
            self._timer.cancel()
        if self._own:
            self._own.close()
            self._own = None

    def _ready(self) -> None:
        """Take a connection, or give those that have fewer some time to."""
        self._tell()
        if self._counts.is_next(self._held()):
            self._take()
        else:
            self._pause(LEAVE_SECONDS)

    def _take(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # another worker has it, or nobody wants it any more
        except OSError:  # as asyncio does where there is no file descriptor for it
            self._pause(FULL_SECONDS)
            return
        connection.setblocking(False)
        ssl = self._options["ssl"]
        opened = self._loop.connect_accepted_socket(self._begin, connection, ssl=ssl)
        task = self._loop.create_task(opened)
        self._opening.add(task)
        task.add_done_callback(self._opened)
        self._counts.take()
        self._tell()

    def _opened(self, task: "asyncio.Task[Any]") -> None:
        self._opening.discard(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):  # a handshake that failed
            task.result()

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._socket)
        self._timer = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._listen()
        self._take()

    def _held(self) -> int:
        return len(self._connections) + len(self._opening)

    def _tell(self) -> None:
        self._counts.tell(self._held())


def balance_connections(server: uvicorn.Server) -> None:
    """Have a server, which does not listen yet, share the connections with the other workers."""
    workers = int(os.environ.get(WORKERS, "1"))
    if workers == 1:
        return
    # The folder that is made anew at each start, for what the workers share.
    file = Path(os.environ[METRICS_VARIABLE], _FILE)
    counts = Counts(file, server_context.worker_index or 1, workers)

    async def create_server(
        make: Callable[[], asyncio.Protocol], *, sock: socket.socket, **options: Any
    ) -> Listener:
        return Listener(server, counts, sock, make, options)

    # Which uvicorn calls with the socket of the workers; there is no setting for it.
    loop = asyncio.get_running_loop()
    loop.create_server = create_server  # type: ignore[method-assign, assignment]

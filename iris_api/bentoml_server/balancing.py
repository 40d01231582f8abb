"""The balance of connections: a new one goes to the worker that has the fewest.

Gains: workers that share the clients who keep their connections (test_balance.py). Left to the
kernel, the worker that wakes up first takes nearly all: 63 of 64 that were opened one by one, and
the replacement of a killed worker gets none of those that are kept.
Clients that connect for each request need no balance, and would pay for it with 14 % of their
requests/s: while many come, the loop's own server accepts them.
No supported way: BentoML gives one listening socket to all workers, and uvicorn can only listen
with a server that accepts whatever comes.
Relies on: uvicorn calling `create_server` of the running loop with `sock` and `ssl`, and closing
what it returns.
"""

import asyncio
import contextlib
import mmap
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bentoml import server_context

from iris_api.bentoml_server.connections import Guard
from iris_api.bentoml_server.shutdown import POLL_SECONDS, WORKERS
from iris_api.home import METRICS_VARIABLE

LEAVE_SECONDS = 0.001
"""Time for a worker with fewer connections to accept a new one, before any other accepts it."""

MANY = 200
"""Connections of a worker between two checks from which on the loop's own server accepts them."""

SLACK = 4
"""Connections by which a worker may have more than twice as many as another one."""


class Counts:
    """The connections of each worker, counted in a file that the workers map to their memory."""

    def __init__(self, file: Path, worker: int, workers: int) -> None:
        # Workers are numbered from 1, up to twice as high while they are replaced.
        size = 4 * (2 * workers + 1)
        with file.open("ab+", buffering=0) as opened:
            if opened.tell() < size:
                opened.write(bytes(size))  # fails on a full disk, where mmap ends in SIGBUS
            self._numbers = memoryview(mmap.mmap(opened.fileno(), size)).cast("i")
        self._worker = worker

    def publish(self, count: int) -> None:
        """Show the others how many connections this worker has."""
        self._numbers[self._worker] = count + 1  # 0 means that there is no such worker

    def is_next(self, count: int) -> bool:
        """Return whether a worker with so many connections should accept the next one.

        A worker that died counts until it is replaced, which costs the others a pause each time.
        """
        numbers = self._numbers.tolist()
        numbers[self._worker] = 0
        return all(count < number for number in numbers if number)

    def surplus(self, count: int) -> int:
        """Return how many of its connections a worker should close, for others to accept them.

        It is 0 unless another worker has less than half as many, because it has just started.
        """
        numbers = self._numbers.tolist()
        numbers[self._worker] = count + 1
        counts = [number - 1 for number in numbers if number]
        return count - sum(counts) // len(counts) if count > 2 * min(counts) + SLACK else 0


class Listener:
    """A listener for uvicorn, in the place of an `asyncio.Server`.

    `make` makes the protocol of a connection; `options` are those of the loop's own server.
    """

    def __init__(
        self,
        guard: Guard,
        counts: Counts,
        listening: socket.socket,
        make: Callable[[], asyncio.Protocol],
        options: dict[str, Any],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._guard = guard
        self._counts = counts
        self._socket = listening
        self._make = make
        self._options = options
        self._opening: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._came = 0  # since the last check
        self._own: asyncio.Server | None = None
        self._socket.setblocking(False)
        self._watch()
        self._checking = self._loop.create_task(self._check())

    def close(self) -> None:
        """Accept no more connections."""
        self._checking.cancel()
        self._stop()

    async def wait_closed(self) -> None:
        """Return at once; uvicorn calls this after `close`."""

    def _watch(self) -> None:
        self._publish()
        self._loop.add_reader(self._socket, self._ready)

    def _stop(self) -> None:
        self._loop.remove_reader(self._socket)
        if self._timer:
            self._timer.cancel()
        if self._own:
            self._own.close()
            self._own = None

    def _publish(self) -> int:
        held = len(self._guard.connections) + len(self._opening)
        self._counts.publish(held)
        return held

    def _ready(self) -> None:
        """Accept a connection, or give workers with fewer connections time to."""
        if self._counts.is_next(self._publish()):
            self._accept()
        else:
            self._pause(LEAVE_SECONDS)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # another worker accepted it, or its client left
        except OSError:  # no file descriptor is left
            self._pause(POLL_SECONDS)
            return
        connection.setblocking(False)
        ssl = self._options["ssl"]
        opened = self._loop.connect_accepted_socket(self._begin, connection, ssl=ssl)
        task = self._loop.create_task(opened)
        self._opening.add(task)
        task.add_done_callback(self._opened)
        self._publish()

    def _begin(self) -> asyncio.Protocol:
        self._came += 1
        return self._make()

    def _opened(self, task: "asyncio.Task[Any]") -> None:
        self._opening.discard(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):  # the TLS handshake failed
            task.result()

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._socket)
        self._timer = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._watch()
        self._accept()

    async def _check(self) -> None:
        """Change to the loop's own server while many connections come, and back."""
        create: Any = type(self._loop).create_server
        while True:
            await asyncio.sleep(POLL_SECONDS)
            many, self._came = self._came > MANY, 0
            if many != bool(self._own):
                self._stop()
                if many:
                    with contextlib.suppress(OSError):  # no file descriptor is left
                        copy = self._socket.dup()
                        self._own = await create(
                            self._loop, self._begin, sock=copy, **self._options
                        )
                if self._own is None:
                    self._watch()
            self._guard.surplus = self._counts.surplus(self._publish())


def balance_connections(guard: Guard) -> None:
    """Have a server that does not listen yet share the connections with the other workers."""
    workers = int(os.environ.get(WORKERS, "1"))
    if workers == 1:
        return
    file = Path(os.environ[METRICS_VARIABLE], "connections")  # the folder is new at each start
    counts = Counts(file, server_context.worker_index or 1, workers)

    async def create_server(
        make: Callable[[], asyncio.Protocol], *, sock: socket.socket, **options: Any
    ) -> Listener:
        return Listener(guard, counts, sock, make, options)

    loop = asyncio.get_running_loop()
    loop.create_server = create_server  # type: ignore[method-assign, assignment]

"""The workers of a service: replaced when they die, and ended without a loss, in limited time.

BentoML starts its workers with circus, which looks after them every ten seconds, waits a day for
one that should stop, and in a container goes on with those that are left. This is for the process
that starts them; `iris_api/bentoml_server/shutdown.py` is for each worker.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import circus.watcher
from tornado import gen

from iris_api.bentoml_server.balancing import WORKERS
from iris_api.bentoml_server.shutdown import PARENT
from iris_api.home import METRICS_VARIABLE, new_metrics_folder, ready_file
from iris_api.settings import settings

LOOK_SECONDS = 1
"""Between two looks after the workers."""

SPARE_SECONDS = 2
"""After the time limit for requests, for a worker's own shutdown."""

ACCEPT_SECONDS = 0.1
"""For the workers to take the connections that wait already, when no more come in."""

FAILED_STARTS = 5
"""Deaths of workers that had not become ready, and nothing else between, until the service ends: a
fault that passes within the first does not end it."""

STARTS_EACH = 2
"""As many of each worker at least, because all of them begin together."""

SO_BINDTOIFINDEX = 62
"""Of Linux' asm-generic/socket.h; Python has no name for it."""

NO_INTERFACE = 2**31 - 1
"""A number that no network interface has: Linux counts them from 1."""

logger = logging.getLogger("bentoml.service")


class WorkerWatcher(circus.watcher.Watcher):
    """Starts the workers, replaces the dead ones, and ends the service where it may not."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options["graceful_timeout"] = settings().drain_seconds + SPARE_SECONDS
        os.environ[WORKERS] = str(options["numprocesses"])
        # Where none can be made, it stays BentoML's: in a read-only home that is a temporary one.
        with contextlib.suppress(OSError):
            options["env"][METRICS_VARIABLE] = str(new_metrics_folder())
        self._folder = Path(options["env"][METRICS_VARIABLE])
        self._known: set[int] = set()  # process ids of the workers at the last look
        self._failed = 0
        super().__init__(*arguments, **options)

    def initialize(self, evpub_socket: Any, sockets: Any, arbiter: Any) -> None:
        """Have the arbiter look more often than BentoML's ten seconds."""
        super().initialize(evpub_socket, sockets, arbiter)
        arbiter.ctrl.check_delay = LOOK_SECONDS * 1000

    @gen.coroutine
    def manage_processes(self) -> Iterator[Any]:
        """Replace a dead worker. In a container end the rest, for its orchestrator to see."""
        died = not self.is_stopped() and len(self.get_active_processes()) < self.numprocesses
        self._count_failed()
        if not died or self.is_stopping():
            yield super().manage_processes()
        elif not self.respawn:
            yield self._end("a worker died; ending the service, for its orchestrator to start anew")
        elif self._failed >= max(FAILED_STARTS, STARTS_EACH * self.numprocesses):
            yield self._end("workers cannot start, as said above; ending the service")
        else:
            logger.error("a worker died; starting another one")
            yield super().manage_processes()
        self._known.update(self.processes)

    def _count_failed(self) -> None:
        """Count the workers that died before they were ready; from 0 again when there is one."""
        living = {process.pid for process in self.get_active_processes()}
        self._known |= living
        if any((self._folder / ready_file(pid)).exists() for pid in self._known):
            self._failed = 0
        else:
            self._failed += len(self._known - living)
        self._known = living

    @gen.coroutine
    def _end(self, reason: str) -> Iterator[Any]:
        logger.critical("%s", reason)
        yield self._stop(close_output_streams=True)
        # Through the loop, up to the command line: circus would add a traceback of its own.
        sys.exit(1)

    @gen.coroutine
    def _stop(self, close_output_streams: bool = False) -> Iterator[Any]:
        # A restart, as of `bentoml serve --reload`, leaves the output open, and needs the socket.
        if close_output_streams and not self.is_stopped():
            for listening in self.sockets.values():
                refuse_connections(listening)
            yield gen.sleep(ACCEPT_SECONDS)
        yield super()._stop(close_output_streams)


def refuse_connections(listening: socket.socket) -> None:
    """Let no more connections in, and those that wait be accepted.

    Closing a listening socket resets the connections that wait in its queue, whose clients may have
    sent their requests. Linux can bind it to an interface that there is not instead: whoever asks
    for a new connection is refused at once, and a handshake that has begun is completed, because
    its client believes to be let in. Since Linux 5.7 this needs no privilege. A packet filter
    (SO_ATTACH_FILTER) does in some containers, and connections inherit a minimal TTL (IP_MINTTL).
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # then it is as without
            listening.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, NO_INTERFACE)


def supervise() -> None:
    """Have BentoML start the workers by our watcher; to be called before it does."""
    os.environ[PARENT] = str(os.getpid())
    # Linux keeps SIGTERM from the first process of a container until it has a handler, and circus
    # installs its own only after an import at the start.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    circus.watcher.Watcher = WorkerWatcher

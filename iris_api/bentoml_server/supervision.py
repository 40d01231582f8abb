"""The process that starts the workers: replaces those that die, and stops them in limited time.

Gains: a killed worker is replaced within a second or two instead of ten, a stop is over within
IRIS_DRAIN_SECONDS and two seconds instead of a day, and loses no connection; in a container a dead
worker ends the service, where BentoML goes on with those that are left (tests: test_stop.py).
No supported way: BentoML sets all of this when it makes its watcher.
Relies on: `circus.watcher.Watcher`, which BentoML imports when it starts the workers, and
`check_delay` of the controller.
"""

import contextlib
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import circus.watcher
from tornado import gen

from iris_api.bentoml_server.application import LeanService
from iris_api.bentoml_server.compat import check_names
from iris_api.bentoml_server.shutdown import PARENT, POLL_SECONDS, WORKERS
from iris_api.errors import IrisError
from iris_api.home import METRICS_VARIABLE, new_metrics_folder, ready_file
from iris_api.serving.api_keys import read_keys
from iris_api.settings import Settings
from iris_api.store import active_version
from iris_api.telemetry import logs

SPARE_SECONDS = 2
"""Time for a worker's own shutdown, after the time limit of its requests."""

FAILED_STARTS = 5
"""Workers that may die in a row before one is ready, or two for each if that is more: all of them
start together, and a fault that passes does no harm."""

MAX_FILES = 65_536
"""File handles that each worker may have, as far as the system allows; each connection uses one."""

logger = logging.getLogger("bentoml.service")


def prepare(service: LeanService, name: str, settings: Settings) -> None:
    """Check what the workers need, import the model of a Bento, and supervise the workers.

    Raises:
        IrisError: The service cannot start.
    """
    logs.configure()
    check_names()
    if settings.api_keys_file:
        read_keys(settings.api_keys_file)
    os.environ[PARENT] = str(os.getpid())
    raise_file_limit()
    # Linux keeps SIGTERM from the first process of a container until it has a handler, and circus
    # installs its own only after the import.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    WorkerWatcher.stop_seconds = settings.drain_seconds + SPARE_SECONDS
    circus.watcher.Watcher = WorkerWatcher
    if service.bento is None:
        return
    from iris_api.importing.cli import import_at_start  # noqa: PLC0415 (no worker needs it)

    imported = not settings.imports_at_start or import_at_start()
    if service.carried_model() is None and active_version.pointer(name) is None:
        raise IrisError(
            "there is no model: set MLFLOW_TRACKING_URI to a reachable tracking server, "
            "or build the Bento with a model"
        )
    if not imported:
        logger.error("the import failed, as said above; serving the model that is here already")


def raise_file_limit() -> None:
    """Raise the limit of file handles, which the workers inherit, to MAX_FILES if it is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class WorkerWatcher(circus.watcher.Watcher):
    """Starts the workers, replaces dead ones, and ends the service if it must not."""

    stop_seconds: ClassVar[float]  # time limit for a worker to stop

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options["graceful_timeout"] = self.stop_seconds
        os.environ[WORKERS] = str(options["numprocesses"])
        # In a read-only home it stays BentoML's folder, which is a temporary one.
        with contextlib.suppress(OSError):
            options["env"][METRICS_VARIABLE] = str(new_metrics_folder())
        self._folder = Path(options["env"][METRICS_VARIABLE])
        self._known: set[int] = set()  # process ids of the workers at the last check
        self._failed = 0
        super().__init__(*arguments, **options)

    def initialize(self, evpub_socket: Any, sockets: Any, arbiter: Any) -> None:
        """Have the arbiter check the workers more often than every ten seconds."""
        super().initialize(evpub_socket, sockets, arbiter)
        arbiter.ctrl.check_delay = POLL_SECONDS * 1000

    @gen.coroutine
    def manage_processes(self) -> Iterator[Any]:
        """Replace a dead worker; in a container end the service, for its orchestrator to see."""
        died = not self.is_stopped() and len(self.get_active_processes()) < self.numprocesses
        self._count_failed()
        if not died or self.is_stopping():
            yield super().manage_processes()
        elif not self.respawn:
            yield self._end("a worker died; ending the service, which its orchestrator restarts")
        elif self._failed >= max(FAILED_STARTS, 2 * self.numprocesses):
            yield self._end("workers cannot start, as said above; ending the service")
        else:
            logger.error("a worker died; starting another one")
            yield super().manage_processes()
        self._known.update(self.processes)

    def _count_failed(self) -> None:
        """Count the workers that died in a row before one was ready."""
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
        # Passes through the event loop up to the command line, without a traceback of circus.
        sys.exit(1)

    @gen.coroutine
    def _stop(self, close_output_streams: bool = False) -> Iterator[Any]:
        # A restart by `bentoml serve --reload` leaves the output open, and needs the socket.
        if close_output_streams and not self.is_stopped():
            for listening in self.sockets.values():
                refuse_connections(listening)
            yield gen.sleep(0.1)  # until the workers have accepted those that wait
        yield super()._stop(close_output_streams)


def refuse_connections(listening: socket.socket) -> None:
    """Refuse new connections, and leave those that wait to be accepted.

    Closing a listening socket resets the connections in its queue, whose clients may have sent
    their requests. Linux can instead bind it to an interface that does not exist: new connections
    are refused at once, and handshakes that have begun are completed. Since Linux 5.7 this needs no
    privilege. A packet filter (SO_ATTACH_FILTER) needs one in some containers, and connections
    inherit a minimal TTL (IP_MINTTL).
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # older Linux: those in the queue are reset
            # SO_BINDTOIFINDEX of asm-generic/socket.h, with a number that no interface has.
            listening.setsockopt(socket.SOL_SOCKET, 62, 2**31 - 1)

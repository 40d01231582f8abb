"""The workers of a service: replaced when they die, and ended within a time limit.

BentoML starts its workers with circus, which looks after them every ten seconds, waits a day for
one that should stop, and in a container goes on with those that are left. This is for the process
that starts them; `iris_api/drain.py` is for each worker.
"""

import logging
import sys
from collections.abc import Iterator
from typing import Any

import circus.watcher
from tornado import gen

from iris_api.settings import settings

LOOK_SECONDS = 1
"""Between two looks after the workers."""

SPARE_SECONDS = 2
"""After the time limit for requests, for a worker's own shutdown."""

logger = logging.getLogger("bentoml.service")


class Watcher(circus.watcher.Watcher):
    """Starts the workers, replaces the dead ones, and ends the service where it may not."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options["graceful_timeout"] = settings().drain_seconds + SPARE_SECONDS
        super().__init__(*arguments, **options)

    def initialize(self, evpub_socket: Any, sockets: Any, arbiter: Any) -> None:
        """Have the arbiter look more often than BentoML's ten seconds."""
        super().initialize(evpub_socket, sockets, arbiter)
        arbiter.ctrl.check_delay = LOOK_SECONDS * 1000

    @gen.coroutine
    def manage_processes(self) -> Iterator[Any]:
        """Replace a dead worker. In a container end the rest, for its orchestrator to see."""
        died = not self.is_stopped() and len(self.get_active_processes()) < self.numprocesses
        if not died or self.is_stopping():
            yield super().manage_processes()
        elif self.respawn:
            logger.error("a worker died; starting another one")
            yield super().manage_processes()
        else:
            logger.critical("a worker died; ending the service, for its orchestrator to start anew")
            yield self._stop()
            # Through the loop, up to the command line: circus would add a traceback of its own.
            sys.exit(1)


def supervise() -> None:
    """Have BentoML start the workers by our watcher; to be called before it does."""
    circus.watcher.Watcher = Watcher

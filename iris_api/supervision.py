"""The workers of a service: replaced when they die, and ended without a loss, in limited time.

BentoML starts its workers with circus, which looks after them every ten seconds, waits a day for
one that should stop, and in a container goes on with those that are left. This is for the process
that starts them; `iris_api/drain.py` is for each worker.
"""

import contextlib
import ctypes
import logging
import os
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any

import circus.watcher
from tornado import gen

from iris_api.drain import PARENT
from iris_api.settings import settings

LOOK_SECONDS = 1
"""Between two looks after the workers."""

SPARE_SECONDS = 2
"""After the time limit for requests, for a worker's own shutdown."""

ACCEPT_SECONDS = 0.1
"""For the workers to take the connections that wait already, when no more come in."""

SO_ATTACH_FILTER = 26
"""Of Linux' asm-generic/socket.h; Python has no name for it."""

DROP_SYN = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # BPF_LD | BPF_B | BPF_ABS: the flags of the TCP header, RFC 9293
        (0x45, 0, 1, 0x02),  # BPF_JMP | BPF_JSET | BPF_K: on without SYN
        (0x06, 0, 0, 0),  # BPF_RET | BPF_K: keep 0 bytes of the packet
        (0x06, 0, 0, 0xFFFFFFFF),  # keep all of it
    )
)
"""A filter of linux/filter.h. What ends a handshake passes: its client believes to be let in."""

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

    @gen.coroutine
    def _stop(self, close_output_streams: bool = False) -> Iterator[Any]:
        if not self.is_stopped():
            for listening in self.sockets.values():
                refuse_connections(listening)
            yield gen.sleep(ACCEPT_SECONDS)
            yield super()._stop(close_output_streams)


def refuse_connections(listening: socket.socket) -> None:
    """Let no more connections in, and those that wait be accepted.

    Closing a listening socket resets the connections that wait in its queue, whose clients may have
    sent their requests. Linux can drop the packets that ask for new ones instead; their clients
    go on trying until the socket is closed, and are refused.
    """
    if sys.platform == "linux":
        code = ctypes.create_string_buffer(DROP_SYN)
        program = struct.pack("HP", len(DROP_SYN) // 8, ctypes.addressof(code))
        with contextlib.suppress(OSError):  # then it is as without
            listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def supervise() -> None:
    """Have BentoML start the workers by our watcher; to be called before it does."""
    os.environ[PARENT] = str(os.getpid())
    circus.watcher.Watcher = Watcher

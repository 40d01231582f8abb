"""How a worker stops: after the requests that it accepted, in limited time, with its service."""

import asyncio
import logging
import os
import signal
from types import FrameType

import uvicorn

from iris_api.settings import settings

LINGER_SECONDS = 0.3
"""From SIGTERM until kept connections are closed: time for their clients to be told in an answer.

A request that is sent while the server closes the connection is lost, and most clients send a POST
only once.
"""

LOOK_SECONDS = 1
"""Between two looks after the process that started this worker."""

CLOSE = (b"connection", b"close")

PARENT = "_IRIS_PARENT"
"""Where the process that starts the workers leaves its process id for them."""

logger = logging.getLogger("bentoml.service")


def running_server() -> uvicorn.Server | None:
    """Find the server of this worker, which BentoML makes itself and hands out nowhere.

    But the handler of SIGTERM, installed by the time that a service starts, is a method of it.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if isinstance(server, uvicorn.Server) else None


def drain_on_sigterm(server: uvicorn.Server) -> None:
    """Have SIGTERM end this worker without a loss; to be called in its loop."""
    loop = asyncio.get_running_loop()
    # BentoML only takes this limit from its command line.
    if server.config.timeout_graceful_shutdown is None:
        server.config.timeout_graceful_shutdown = settings().drain_seconds  # type: ignore[assignment]

    def linger(number: int, frame: FrameType | None) -> None:
        state = server.server_state
        state.default_headers = [*state.default_headers, CLOSE]
        server.config.encoded_headers.append(CLOSE)  # they are made anew from these each second
        loop.call_later(LINGER_SECONDS, server.handle_exit, number, frame)

    # Through the loop, which would otherwise sleep on.
    signal.signal(
        signal.SIGTERM, lambda number, frame: loop.call_soon_threadsafe(linger, number, frame)
    )


async def end_with_parent() -> None:
    """Stop when the process that started this worker was killed, and could not stop it itself.

    A worker left behind would hold the port, and the service could not start again.
    """
    # Not the parent that is there now: it may have been killed while this worker started.
    parent = os.environ[PARENT]
    while str(os.getppid()) == parent:  # noqa: ASYNC110 (the system has no event for it)
        await asyncio.sleep(LOOK_SECONDS)
    logger.error("the process that started this worker was killed; stopping")
    signal.raise_signal(signal.SIGTERM)

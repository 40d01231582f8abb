"""How a worker stops: after the requests that it accepted, in limited time, with its service."""

import asyncio
import logging
import os
import signal

import uvicorn

from iris_api.settings import settings

LOOK_SECONDS = 1
"""Between two looks after the process that started this worker."""

logger = logging.getLogger("bentoml.service")


def limit_drain() -> None:
    """Give the requests that are left at SIGTERM their time limit; to be called in the loop.

    BentoML makes uvicorn's configuration itself, and only takes a limit from its command line. The
    handler of the signal, installed by now, is a method of the server.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if isinstance(server, uvicorn.Server) and server.config.timeout_graceful_shutdown is None:
        server.config.timeout_graceful_shutdown = settings().drain_seconds  # type: ignore[assignment]


async def end_with_parent() -> None:
    """Stop when the process that started this worker was killed, and could not stop it itself.

    A worker left behind would hold the port, and the service could not start again.
    """
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110 (the system has no event for it)
        await asyncio.sleep(LOOK_SECONDS)
    logger.error("the process that started this worker was killed; stopping")
    signal.raise_signal(signal.SIGTERM)

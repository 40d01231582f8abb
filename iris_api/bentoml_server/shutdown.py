"""The stop of a worker: after the requests that it accepted, in limited time, with its parent.

Gains: a stop loses no request (tests: test_stop.py, 20 stops under load), and none of the workers
outlives a parent that was killed.
No supported way: BentoML makes the uvicorn server itself and gives no access to it, and uvicorn
closes kept connections at once, on which clients may just be sending.
Relies on: `uvicorn.Server.handle_exit` as the handler of SIGTERM, `Server.config` and
`Server.server_state`.
"""

import asyncio
import logging
import os
import signal
from types import FrameType

import uvicorn

LINGER_SECONDS = 0.3
"""Time from SIGTERM until kept connections are closed. Until then each answer has the header
`Connection: close`. A request that is sent while the server closes is lost: most clients do not
send a POST again."""

POLL_SECONDS = 1
"""Time between two checks of the parent process, the workers, and their connections."""

CLOSE = (b"connection", b"close")

PARENT = "_IRIS_PARENT"
"""The variable with the process id of the process that starts the workers."""

WORKERS = "_IRIS_WORKERS"
"""The variable with the number of workers, set by that process."""

logger = logging.getLogger("bentoml.service")


def running_server() -> uvicorn.Server | None:
    """Return the server of this worker: the handler of SIGTERM is a method of it."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if isinstance(server, uvicorn.Server) else None


def drain_on_sigterm(server: uvicorn.Server, drain_seconds: float) -> None:
    """Have SIGTERM stop this worker without losing a request; call this in its event loop.

    Requests that are left have `drain_seconds`, unless the command line sets another limit.
    """
    loop = asyncio.get_running_loop()
    if server.config.timeout_graceful_shutdown is None:
        server.config.timeout_graceful_shutdown = drain_seconds  # type: ignore[assignment]

    def linger(number: int, frame: FrameType | None) -> None:
        state = server.server_state
        state.default_headers = [*state.default_headers, CLOSE]
        server.config.encoded_headers.append(CLOSE)  # uvicorn renews the others from these
        loop.call_later(LINGER_SECONDS, server.handle_exit, number, frame)

    # Through the event loop, which would not wake up otherwise.
    signal.signal(
        signal.SIGTERM, lambda number, frame: loop.call_soon_threadsafe(linger, number, frame)
    )


async def end_with_parent() -> None:
    """Stop when the process that started this worker was killed.

    A worker that is left behind would keep the port, and the service could not start again.
    """
    # Not the current parent: the real one may have been killed while this worker started.
    parent = os.environ[PARENT]
    while str(os.getppid()) == parent:  # noqa: ASYNC110 (the system has no event for it)
        await asyncio.sleep(POLL_SECONDS)
    logger.error("the process that started this worker was killed; stopping")
    signal.raise_signal(signal.SIGTERM)

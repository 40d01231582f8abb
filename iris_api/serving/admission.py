"""How much a worker takes on at once, and for how long: the rest is told to come again."""

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.types import ASGIApp, Receive, Scope, Send

from iris_api.errors import IrisError
from iris_api.settings import settings

RETRY_SECONDS = 1
"""What `Retry-After` asks for, its smallest unit: a queue of 64 short requests is gone in 20 ms."""

RETRY = {"Retry-After": str(RETRY_SECONDS)}

HELD_BODIES = 8
"""Bodies of the largest size that may be in memory at once, by default 128 MiB for each worker."""

WHOLE_BODY = "iris.whole_body"
"""Key of a scope, set once the whole body is here. Where it is set at the start, as with short
bodies, nothing is waited for."""

_BODY_BYTES = "iris.body_bytes"

Result = TypeVar("Result")


class OverloadedError(IrisError):
    """The worker has as much as it takes."""

    def __init__(self) -> None:
        super().__init__("the service is overloaded; ask again later")


class Admission:
    """The places of one worker.

    A POST holds a place from its head to its answer, except while its body is on the way: a client
    that is slow must not keep others out.

    Attributes:
        limit: places that there are.
        held: places that are taken.
    """

    def __init__(self) -> None:
        self.limit = settings().max_concurrency
        self.held = 0
        self._body_bytes = 0
        self._max_body_bytes = HELD_BODIES * settings().max_body_bytes
        # Long bodies wait for each other: workers are the unit that scales.
        self._thread = ThreadPoolExecutor(1, "long-bodies")

    @property
    def is_full(self) -> bool:
        """Tell whether there is no place left."""
        return self.held >= self.limit

    def releasing(self, app: ASGIApp) -> ASGIApp:
        """Return an application that gives a place back, which its server took, with its answer."""

        async def released(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            finally:
                self.held -= 1
                self._body_bytes -= scope.get(_BODY_BYTES, 0)

        return released

    @contextlib.asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Do without the place while the body is on the way.

        Raises:
            OverloadedError: others have all places when the body is there.
        """
        self.held -= 1
        try:
            yield
        finally:
            was_full = self.is_full
            self.held += 1
        if was_full:
            raise OverloadedError

    def keeping(self, scope: Scope) -> Callable[[int], None]:
        """Return what counts the bytes of a request's body, until its answer.

        It raises `OverloadedError` when they are too many with those of the others.
        """

        def keep(count: int) -> None:
            scope[_BODY_BYTES] = scope.get(_BODY_BYTES, 0) + count
            self._body_bytes += count
            if self._body_bytes > self._max_body_bytes:
                raise OverloadedError

        return keep

    async def compute(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Run a function beside the loop, one at a time.

        Cancelled while it waits for its turn, it is not run; while it runs, it goes on to its end.
        """
        context = contextvars.copy_context()  # with the request's trace
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, context.run, function, *arguments)

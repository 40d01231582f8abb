"""Admission control: how many requests a worker accepts at once, and how many bytes of bodies."""

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.types import ASGIApp, Receive, Scope, Send

from iris_api.errors import IrisError

HELD_BODIES = 8
"""Maximum number of bodies of the largest size in memory: by default 128 MiB in each worker."""

REJECT_SECONDS = 0.0005
"""Time between two rejections. If they were sent at once, clients that do not wait for Retry-After
would halve the number of accepted requests."""

RETRY = {"Retry-After": "1"}
"""The header of a rejection. One second is the smallest unit: 64 short requests are answered within
20 ms."""

WHOLE_BODY = "iris.whole_body"
"""Key of an ASGI scope, set once the whole body is received; with short bodies, from the start."""

_BODY_BYTES = "iris.body_bytes"

Result = TypeVar("Result")


class OverloadedError(IrisError):
    """The worker is at its limit."""

    def __init__(self) -> None:
        super().__init__("the service is overloaded; ask again later")


class Admission:
    """The limits of one worker.

    A POST counts from its head to its answer, except while its body is uploading: slow clients must
    not lock others out. The connection asks `is_full` at the head of a request, and `uploading`
    asks again at the end of its body.
    """

    def __init__(self, limit: int, max_body_bytes: int) -> None:
        self.limit = limit  # maximum number of requests at once
        self.held = 0  # number of requests that count now
        self._body_bytes = 0
        self._turn = 0.0  # when the last rejection was or will be sent, in the loop's time
        self.max_body_bytes = max_body_bytes
        # One long body at a time: more workers are the way to scale.
        self._thread = ThreadPoolExecutor(1, "long-bodies")

    @property
    def is_full(self) -> bool:
        """Whether the next request is rejected."""
        return self.held >= self.limit

    async def wait_for_turn(self) -> None:
        """Wait until a rejection may be sent."""
        now = asyncio.get_running_loop().time()
        self._turn = max(self._turn + REJECT_SECONDS, now)
        await asyncio.sleep(self._turn - now)

    def releasing(self, app: ASGIApp) -> ASGIApp:
        """Wrap an application: a request that its server admitted stops counting at its end."""

        async def released(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            finally:
                self.held -= 1
                self._body_bytes -= scope.get(_BODY_BYTES, 0)

        return released

    @contextlib.asynccontextmanager
    async def uploading(self, scope: Scope) -> AsyncIterator[Callable[[int], None]]:
        """Do not count a request while its body is received, but count the bytes until its end.

        Yields:
            A function to call with the size of each part.

        Raises:
            OverloadedError: All bodies together are too large, or the worker is full at the end.
        """

        def received(size: int) -> None:
            scope[_BODY_BYTES] = scope.get(_BODY_BYTES, 0) + size
            self._body_bytes += size
            if self._body_bytes > HELD_BODIES * self.max_body_bytes:
                raise OverloadedError

        self.held -= 1
        try:
            yield received
        finally:
            was_full = self.is_full
            self.held += 1
        if was_full:
            raise OverloadedError

    async def compute(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Run a function in a thread, one at a time.

        A call that is cancelled while it waits for its turn does not run; a running one goes on.
        """
        run = contextvars.copy_context().run  # with the request's trace
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, run, function, *arguments)

"""Many clients at once, which send a request again as soon as it is answered."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import httpx
import uvloop

from support import servers

START_SECONDS = 0.5
"""Time over which the clients start; otherwise all of them would ask at once each time."""


@dataclass
class Seen:
    """The answers that the clients got.

    Attributes:
        statuses: Number of answers by status.
        lost: Number of connections that the service closed.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0


class _Client(asyncio.Protocol):
    def __init__(self, request: bytes, seen: Seen, wait: float) -> None:
        self._request = request
        self._seen = seen
        self._wait = wait
        self._received = bytearray()
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._seen.lost += not self._ended
        self._ended = True

    def send(self) -> None:
        if not self._ended:
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = bytes(self._received).partition(b"\r\n\r\n")
        if not found or len(body) < int(head.partition(b"content-length: ")[2].split()[0]):
            return
        self._received.clear()
        status = int(head[9:12])
        self._seen.statuses[status] += 1
        if status == 429 and self._wait:
            asyncio.get_running_loop().call_later(self._wait, self.send)
        else:
            self.send()

    def end(self) -> None:
        self._ended = True
        self._transport.abort()


def flood(
    url: str,
    body: bytes,
    *,
    clients: int,
    seconds: float = 100,
    wait: float = 0,
    ended: Path | None = None,
) -> Seen:
    """Have clients post the same body to /predict for some seconds.

    Args:
        url: The address of the service.
        body: The body of each request.
        clients: Number of connections, each with one request at a time.
        seconds: How long the load lasts.
        wait: Seconds that a client waits after a 429.
        ended: A file that ends the load earlier, as soon as it exists.
    """
    address = httpx.URL(url)
    request = servers.post(body)
    seen = Seen()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        opened = [
            await loop.create_connection(
                lambda: _Client(request, seen, wait),
                address.host,
                address.port or 80,
                local_addr=servers.CROWD,
            )
            for _ in range(clients)
        ]
        for number, (_, client) in enumerate(opened):
            loop.call_later(START_SECONDS * number / clients, client.send)
        until, over = loop.time() + seconds, asyncio.Event()

        def poll() -> None:
            if loop.time() > until or (ended and ended.exists()):
                over.set()
            else:
                loop.call_later(0.02, poll)

        poll()
        await over.wait()
        for _, client in opened:
            client.end()

    uvloop.run(run())
    return seen

"""Clients that send requests all the time and compare each answer with that of its version.

The tests of promotions, stops and faults use them, and the soak: wrk checks no bodies, and does not
count lost requests.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

CONNECT_SECONDS = 5
"""Limit for a connection; Linux tries for two minutes if the address has gone."""


@dataclass
class Traffic:
    """The answers that the clients got.

    Attributes:
        answers: Answers by status and `X-Model-Version`, which only predictions have.
        wrong: Answers whose labels are not those of the version that they name.
        unconnected: Connections that were refused.
        unanswered: Requests on a new connection that got no answer: they are lost.
        closed: Kept connections that the server closed when a request was just being sent. Clients
            send it again, as HTTP asks.
        seconds: Time from request to answer of each answer with status 200.
    """

    answers: Counter[tuple[int, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    unconnected: int = 0
    unanswered: list[str] = field(default_factory=list)
    closed: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def statuses(self) -> Counter[int]:
        """Count the answers by status alone."""
        found: Counter[int] = Counter()
        for (status, _), count in self.answers.items():
            found[status] += count
        return found

    @property
    def versions(self) -> set[str]:
        """Return the versions that gave an answer."""
        return {version for (status, version) in self.answers if status == 200}


@dataclass(frozen=True)
class Ask:
    """A request that is sent again and again.

    Attributes:
        url: The address of the service.
        rows: The rows of the body.
        expected: The labels of the rows by version, as in `X-Model-Version`; answers of other
            versions are not checked.
        keep_alive: Whether a client keeps its connection.
        interval: Seconds between two requests of a client; with 0 it does not wait.
    """

    url: str
    rows: list[list[float]]
    expected: Mapping[str, list[Any]]
    keep_alive: bool = True
    interval: float = 0

    @property
    def message(self) -> bytes:
        """Return the bytes of the request."""
        body = json.dumps({"instances": self.rows}).encode()
        connection = b"" if self.keep_alive else b"Connection: close\r\n"
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        return head + connection + b"Content-Length: %d\r\n\r\n" % len(body) + body


@contextlib.asynccontextmanager
async def asking(ask: Ask, clients: int) -> AsyncIterator[Traffic]:
    """Run clients while the block runs; each waits for its last answer."""
    traffic = Traffic()
    over = asyncio.Event()
    tasks = [asyncio.create_task(_client(ask, traffic, over)) for _ in range(clients)]
    try:
        yield traffic
    finally:
        over.set()
        await asyncio.gather(*tasks)


async def _client(ask: Ask, traffic: Traffic, over: asyncio.Event) -> None:
    parts = urlsplit(ask.url)
    message = ask.message
    while not over.is_set():
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        except OSError:
            traffic.unconnected += 1
            await asyncio.sleep(0.05)
            continue
        used = False
        with contextlib.closing(writer):
            while not over.is_set():
                start = time.perf_counter()
                try:
                    writer.write(message)
                    answer = await _read(reader)
                except (OSError, asyncio.IncompleteReadError) as error:
                    begun = isinstance(error, asyncio.IncompleteReadError) and error.partial
                    if used and not begun:
                        traffic.closed += 1
                    else:
                        traffic.unanswered.append(repr(error))
                    break
                _note(ask, traffic, answer, time.perf_counter() - start)
                used = True
                if answer.closes or not ask.keep_alive:
                    break
                if ask.interval:
                    await asyncio.sleep(max(0, start + ask.interval - time.perf_counter()))


@dataclass(frozen=True)
class _Answer:
    status: int
    version: str
    closes: bool
    body: bytes


async def _read(reader: asyncio.StreamReader) -> _Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    return _Answer(
        status=int(head[0].split()[1]),
        version=headers.get("x-model-version", ""),
        closes=headers.get("connection") == "close",
        body=await reader.readexactly(int(headers["content-length"])),
    )


def _note(ask: Ask, traffic: Traffic, answer: _Answer, took: float) -> None:
    traffic.answers[answer.status, answer.version] += 1
    if answer.status == 200:
        traffic.seconds.append(took)
        expected = ask.expected.get(answer.version)
        if expected is not None and json.loads(answer.body) != {"predictions": expected}:
            traffic.wrong.append(f"version {answer.version}: {answer.body[:200]!r}")

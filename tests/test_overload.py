"""More requests than a worker accepts: fast rejections, accepted requests as fast, time limits."""

import contextlib
import json
import multiprocessing
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sklearn.datasets import load_iris
from support import servers
from support.flood import START_SECONDS, Seen, flood
from support.scrape import growth

from iris_api.serving.admission import HELD_BODIES, REJECT_SECONDS

ROW = b'{"sepal_length":5.1,"sepal_width":3.5,"petal_length":1.4,"petal_width":0.2}'
PLACES = 16
"""IRIS_MAX_CONCURRENCY here."""

TIMEOUT_SECONDS = 0.5
BODY_BYTES = 2_000_000

REJECTED = {"error": "the service is overloaded; ask again later"}


@pytest.fixture(scope="module")
def small(serve: servers.Serve) -> Iterator[servers.Server]:
    """Run a service with one worker and low limits."""
    limits = {
        "IRIS_MAX_CONCURRENCY": str(PLACES),
        "IRIS_MAX_BODY_BYTES": str(BODY_BYTES),
        "IRIS_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
    }
    with serve(**limits) as server:
        yield server


BATCH = json.dumps({"instances": np.resize(load_iris().data, (2000, 4)).tolist()}).encode()
"""Rows that leave the event loop, in a body that comes with its head."""


@dataclass(frozen=True)
class Crowd:
    """A process for the clients of a flood, and the file that ends it."""

    pool: ProcessPoolExecutor
    ended: Path

    @contextlib.contextmanager
    def flooding(self, url: str, body: bytes, **options: Any) -> Iterator["Future[Seen]"]:
        """Flood a service from when all clients have begun until the block ends."""
        self.ended.unlink(missing_ok=True)
        future = self.pool.submit(flood, url, body, ended=self.ended, **options)
        time.sleep(1.5 * START_SECONDS)
        try:
            yield future
        finally:
            self.ended.touch()
        future.result()


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    """Start the process of the clients."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(flood, "http://127.0.0.1", b"", clients=0, seconds=0).result()  # it has started
        yield Crowd(pool, tmp_path_factory.mktemp("crowd") / "ended")


def _begin(
    server: servers.Server, stack: ExitStack, length: int, count: int
) -> list[socket.socket]:
    """Open connections, and send the head of a request on each."""
    opened = []
    for _ in range(count):
        opened.append(stack.enter_context(servers.connect(server)))
        opened[-1].sendall(servers.post(b"", length=length))
    return opened


def test_rejections(small: servers.Server, crowd: Crowd) -> None:
    """While batches use all places, other requests get 429, and each is counted."""
    answers = []
    with (
        growth(small.url) as grown,
        httpx.Client(base_url=small.url) as client,
        crowd.flooding(small.url, BATCH, clients=2 * PLACES) as flooded,
    ):
        until = time.monotonic() + 2
        while time.monotonic() < until:
            answers.append(client.post("/predict", content=ROW))
            client.post("/nothing", content=ROW)  # is no prediction request
            time.sleep(0.01)

    rejected = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} <= {200, 429}
    assert len(rejected) > len(answers) / 2
    for answer in rejected:
        assert answer.json() == REJECTED
        assert answer.headers["Retry-After"] == "1"
    reasons = grown("iris_rejected_requests_total", reason="overloaded")
    labels = {"endpoint": "/predict", "http_response_code": "429"}
    statuses = grown("bentoml_service_request_total", **labels)
    assert reasons == statuses >= len(rejected) + flooded.result().statuses[429]


def test_pages_under_overload(small: servers.Server, crowd: Crowd) -> None:
    """The pages about the service answer while it rejects predictions."""
    paths = ("/health", "/readyz", "/livez", "/metrics", "/model")
    with crowd.flooding(small.url, BATCH, clients=2 * PLACES) as flooded:
        answers = [httpx.get(small.url + path) for path in paths]

    assert {answer.status_code for answer in answers} == {200}
    assert flooded.result().statuses[429]


def test_clients_that_leave(small: servers.Server, crowd: Crowd) -> None:
    """Clients that leave before their 429 do not keep others from theirs."""
    request = servers.post(ROW)
    with crowd.flooding(small.url, BATCH, clients=2 * PLACES):
        for sent in [request, request * 5, request + b"\0\0\0"] * 100:
            with servers.connect(small) as connection:
                connection.sendall(sent)
        answers = [httpx.post(f"{small.url}/predict", content=ROW) for _ in range(10)]

    assert {answer.status_code for answer in answers} <= {200, 429}
    assert "Traceback" not in small.log.read_text()


def test_slow_bodies(small: servers.Server) -> None:
    """Requests that are still uploading do not count against the limit, and get a 504 in time."""
    with growth(small.url) as grown, ExitStack() as stack:
        slow = _begin(small, stack, 100, 4 * PLACES)
        with httpx.Client(base_url=small.url) as client:
            others = [client.post("/predict", content=ROW).status_code for _ in range(20)]
        answers = [servers.read(connection) for connection in slow]

    assert others == [200] * 20
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 504 ")
        assert answer.endswith(b'{"error":"the body was not received within 0.5 s"}')
    assert grown("iris_rejected_requests_total", reason="timeout") == len(slow)


def test_long_batches(small: servers.Server) -> None:
    """If batches cannot all be computed in time, each gets its answer or a 504."""
    rows = np.resize(load_iris().data, (40_000, 4)).tolist()
    body = json.dumps({"instances": rows}, separators=(",", ":")).encode()
    (worker,) = servers.workers(small)
    with ExitStack() as stack:
        opened = _begin(small, stack, len(body), PLACES)
        for connection in opened:
            connection.sendall(body)
        worker.suspend()  # for what a slow model would take
        time.sleep(2 * TIMEOUT_SECONDS)
        worker.resume()
        statuses = [connection.recv(12)[9:] for connection in opened]
        pairs = zip(statuses, opened, strict=True)
        late = [connection.recv(4096) for status, connection in pairs if status == b"504"]

    assert set(statuses) <= {b"200", b"504"}
    assert late
    for answer in late:
        assert re.search(
            rb"the (body was not received|answer was not computed) within 0.5 s", answer
        )
    assert httpx.post(f"{small.url}/predict", content=ROW).status_code == 200


def test_bytes_of_bodies(small: servers.Server) -> None:
    """The bytes of all bodies in memory are limited, and released again."""
    held = 2 * HELD_BODIES  # halves of the largest body
    with ExitStack() as stack:
        opened = _begin(small, stack, BODY_BYTES, 2 * held)

        def send(connection: socket.socket) -> bytes:
            with contextlib.suppress(ConnectionError):
                connection.sendall(b" " * (BODY_BYTES // 2))
            return servers.read(connection)

        with ThreadPoolExecutor(len(opened)) as pool:
            statuses = [answer[9:12] for answer in pool.map(send, opened)]

    assert set(statuses) == {b"429", b"504"}
    assert statuses.count(b"504") <= held
    assert httpx.post(f"{small.url}/predict", content=ROW).status_code == 200


def test_clients_that_do_not_wait(small: servers.Server, crowd: Crowd) -> None:
    """Clients that ignore Retry-After get rejections at a limited rate."""
    seconds = 2 + START_SECONDS
    flooded = crowd.pool.submit(flood, small.url, ROW, clients=16 * PLACES, seconds=seconds)
    seen = flooded.result()

    assert set(seen.statuses) == {200, 429}
    assert seen.statuses[429] < 1.1 * seconds / REJECT_SECONDS


@pytest.mark.thorough
def test_hundredfold_overload(small: servers.Server, crowd: Crowd) -> None:
    """A hundred times the clients, who wait after a 429, cost no answer and no memory."""
    (worker,) = servers.workers(small)
    memory = worker.memory_info().rss
    with crowd.flooding(small.url, ROW, clients=100 * PLACES, wait=1) as flooded:
        seen = flood(small.url, ROW, clients=1, seconds=15, wait=0.002)
    others = flooded.result()
    answers = [httpx.post(f"{small.url}/predict", content=ROW) for _ in range(20)]

    assert set(others.statuses) == {200, 429}
    assert others.statuses[429] > 100 * PLACES
    assert others.lost == 0
    assert set(seen.statuses) == {200, 429}
    assert seen.lost == 0
    assert [answer.status_code for answer in answers] == [200] * 20
    assert worker.memory_info().rss - memory < 32 * 2**20

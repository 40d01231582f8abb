"""More than a worker takes: refusals at once, the rest as fast as before, and time limits."""

import contextlib
import json
import multiprocessing
import re
import socket
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sklearn.datasets import load_iris
from support import servers
from support.flood import START_SECONDS, Seen, flood
from support.scrape import scrape

from iris_api.serving.admission import HELD_BODIES

ROW = b'{"sepal_length":5.1,"sepal_width":3.5,"petal_length":1.4,"petal_width":0.2}'
PLACES = 16
"""IRIS_MAX_CONCURRENCY here."""

TIMEOUT_SECONDS = 0.5
BODY_BYTES = 2_000_000

REFUSED = {"error": "the service is overloaded; ask again later"}


@pytest.fixture(scope="module")
def small(
    home: Path, plain_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    """Run a service with one worker that takes little."""
    folder = tmp_path_factory.mktemp("small")
    env = plain_env | {
        "BENTOML_HOME": str(servers.copy_store(home, folder / "home")),
        "IRIS_MAX_CONCURRENCY": str(PLACES),
        "IRIS_MAX_BODY_BYTES": str(BODY_BYTES),
        "IRIS_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
    }
    with servers.bentoml_service(folder / "log", env=env) as server:
        yield server


BATCH = json.dumps({"instances": np.resize(load_iris().data, (2000, 4)).tolist()}).encode()
"""Rows that leave the event loop, in a body that comes with its head."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[ProcessPoolExecutor]:
    """Give a process of its own to the clients of a flood."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(flood, "http://127.0.0.1", b"", clients=0, seconds=0).result()  # it has started
        yield pool


@contextlib.contextmanager
def _flooding(
    pool: ProcessPoolExecutor, url: str, body: bytes, **options: Any
) -> Iterator["Future[Seen]"]:
    """Flood a service from when all clients have begun."""
    future = pool.submit(flood, url, body, **options)
    time.sleep(1.5 * START_SECONDS)
    yield future
    future.result()


def _begin(server: servers.Server, length: int) -> socket.socket:
    """Send the head of a request."""
    address = httpx.URL(server.url)
    connection = socket.create_connection((address.host, address.port), timeout=30)
    connection.sendall(
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % length
    )
    return connection


def test_refusals(small: servers.Server, elsewhere: ProcessPoolExecutor) -> None:
    """While batches take all places, the rest is refused within 50 ms, and all of it counted."""
    before = scrape(small.url)
    answers = []
    with (
        httpx.Client(base_url=small.url) as client,
        _flooding(elsewhere, small.url, BATCH, clients=2 * PLACES, seconds=3) as flooded,
    ):
        while not flooded.done():
            answers.append(client.post("/predict", content=ROW))
            client.post("/nothing", content=ROW)  # is no prediction call that is refused
            time.sleep(0.01)
    after = scrape(small.url)

    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} <= {200, 429}
    assert len(refused) > len(answers) / 2
    assert statistics.median(answer.elapsed.total_seconds() for answer in refused) < 0.05
    for answer in refused:
        assert answer.json() == REFUSED
        assert answer.headers["Retry-After"] == "1"
    reasons, statuses = (
        after.value(name, **labels) - before.value(name, **labels)
        for name, labels in (
            ("iris_rejected_requests_total", {"reason": "overloaded"}),
            (
                "bentoml_service_request_total",
                {"endpoint": "/predict", "http_response_code": "429"},
            ),
        )
    )
    assert reasons == statuses >= len(refused) + len(flooded.result().seconds[429])


def test_pages_under_overload(small: servers.Server, elsewhere: ProcessPoolExecutor) -> None:
    """What tells of the service answers while it refuses predictions."""
    paths = ("/health", "/readyz", "/livez", "/metrics", "/model")
    with _flooding(elsewhere, small.url, BATCH, clients=2 * PLACES, seconds=3) as flooded:
        answers = [httpx.get(small.url + path) for path in paths]
        late = flooded.done()

    assert not late
    assert {answer.status_code for answer in answers} == {200}
    assert flooded.result().seconds[429]


def test_clients_that_leave(small: servers.Server, elsewhere: ProcessPoolExecutor) -> None:
    """Clients that leave or break off before they are refused keep nobody else from it."""
    request = (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(ROW)) + ROW
    address = httpx.URL(small.url)
    with _flooding(elsewhere, small.url, BATCH, clients=2 * PLACES, seconds=3) as flooded:
        for sent in [request, request * 5, request + b"\0\0\0"] * 100:
            with socket.create_connection((address.host, address.port)) as connection:
                connection.sendall(sent)
        answers = [httpx.post(f"{small.url}/predict", content=ROW) for _ in range(10)]
        late = flooded.done()

    assert not late
    assert {answer.status_code for answer in answers} <= {200, 429}
    assert "Traceback" not in small.log.read_text()


def test_slow_bodies(small: servers.Server) -> None:
    """Bodies on the way take no place, have limited time, and are told so."""
    before = scrape(small.url)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(_begin(small, 100)) for _ in range(4 * PLACES)]
        with httpx.Client(base_url=small.url) as client:
            others = [client.post("/predict", content=ROW).status_code for _ in range(20)]
        answers = [servers.read(connection) for connection in slow]
    after = scrape(small.url)

    assert others == [200] * 20
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 504 ")
        assert answer.endswith(b'{"error":"the body was not received within 0.5 s"}')
    name, labels = "iris_rejected_requests_total", {"reason": "timeout"}
    assert after.value(name, **labels) - before.value(name, **labels) == len(slow)


def test_long_batches(small: servers.Server) -> None:
    """Of more batches than can be computed in time, each is computed or told that it was not."""
    rows = np.resize(load_iris().data, (40_000, 4)).tolist()
    body = json.dumps({"instances": rows}, separators=(",", ":")).encode()
    (worker,) = servers.workers(small)
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(_begin(small, len(body))) for _ in range(PLACES)]
        for connection in opened:
            connection.sendall(body)
        worker.suspend()  # for what a slow model would take
        time.sleep(2 * TIMEOUT_SECONDS)
        worker.resume()
        statuses = [connection.recv(12)[9:] for connection in opened]
        pairs = zip(statuses, opened, strict=True)
        late = [servers.read(connection) for status, connection in pairs if status == b"504"]

    assert set(statuses) <= {b"200", b"504"}
    assert late
    for answer in late:
        assert re.search(
            rb"the (body was not received|answer was not computed) within 0.5 s", answer
        )
    assert httpx.post(f"{small.url}/predict", content=ROW).status_code == 200


def test_bytes_of_bodies(small: servers.Server) -> None:
    """The bytes of bodies on the way are limited, and given back."""
    held = 2 * HELD_BODIES  # halves of the largest body
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(_begin(small, BODY_BYTES)) for _ in range(2 * held)]

        def send(connection: socket.socket) -> bytes:
            with contextlib.suppress(ConnectionError):
                connection.sendall(b" " * (BODY_BYTES // 2))
            return servers.read(connection)

        with ThreadPoolExecutor(len(opened)) as pool:
            statuses = [answer[9:12] for answer in pool.map(send, opened)]

    assert set(statuses) == {b"429", b"504"}
    assert statuses.count(b"504") <= held
    assert httpx.post(f"{small.url}/predict", content=ROW).status_code == 200


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.thorough)])
def test_hundredfold_overload(
    small: servers.Server, elsewhere: ProcessPoolExecutor, seconds: float
) -> None:
    """With a hundred times the clients, who wait as they are told, the accepted are as fast.

    Unloaded are as many clients as there are places, of which the last, in this process, measures.
    """
    (worker,) = servers.workers(small)

    def measure(clients: int, seconds: float) -> tuple[Seen, Seen]:
        times = {"clients": clients, "seconds": seconds + 2 * START_SECONDS, "wait": 1}
        with _flooding(elsewhere, small.url, ROW, **times) as flooded:
            seen = flood(small.url, ROW, clients=1, seconds=seconds, wait=0.002)
        return seen, flooded.result()

    calm, _ = measure(PLACES - 1, 2)
    memory = worker.memory_info().rss
    loaded, others = measure(100 * PLACES, seconds)
    answers = [httpx.post(f"{small.url}/predict", content=ROW) for _ in range(20)]

    assert set(others.seconds) == {200, 429}
    assert len(others.seconds[429]) > 100 * PLACES
    assert others.lost == 0
    assert set(loaded.seconds) <= {200, 429}
    assert loaded.milliseconds(200, 99) < 3 * calm.milliseconds(200, 99)
    assert (
        loaded.milliseconds(429, 50) < 150
    )  # 1600 clients on cores that are shared; test_refusals has the 50
    assert [answer.status_code for answer in answers] == [200] * 20
    assert statistics.median(answer.elapsed.total_seconds() for answer in answers) < 0.05
    assert worker.memory_info().rss - memory < 32 * 2**20

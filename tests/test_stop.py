"""The end of the service: stops under load, killed workers, a killed parent."""

import asyncio
import errno
import json
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from support import servers

from benchmarks.traffic import Ask, Traffic, asking
from iris_api.bentoml_server.supervision import refuse_connections

ROW = [[5.1, 3.5, 1.4, 0.2]]
STOP_SECONDS = 5
IP_MINTTL = 21
"""Option of linux/in.h: packets with less time to live are dropped, and most begin with 64."""


@pytest.fixture
def env(home: Path, plain_env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Return an environment with a store of its own, two workers, and a short time to drain."""
    return plain_env | {
        "BENTOML_HOME": str(servers.copy_store(home, tmp_path / "home")),
        "IRIS_WORKERS": "2",
        "IRIS_DRAIN_SECONDS": "3",
    }


@pytest.fixture
def server(env: dict[str, str], tmp_path: Path) -> Iterator[servers.Server]:
    """Run a service with that store and two workers."""
    with servers.bentoml_service(tmp_path / "log", env=env) as server:
        yield server


def _counted(env: dict[str, str]) -> int:
    """Return the number of predictions in the metrics that the workers left behind."""
    registry = CollectorRegistry()
    folder = servers.metrics_folder(Path(env["BENTOML_HOME"]))
    MultiProcessCollector(registry, path=str(folder))
    return sum(
        int(sample.value)
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "bentoml_service_request_total"
        and sample.labels["endpoint"] == "/predict"
    )


def _stop_under_load(env: dict[str, str], log: Path, *, keep_alive: bool) -> None:
    async def run(server: servers.Server) -> Traffic:
        ask = Ask(server.url, ROW, {"1": ["setosa"]}, keep_alive=keep_alive)
        async with asking(ask, clients=32) as traffic:
            await asyncio.sleep(1)
            server.process.terminate()
            await asyncio.to_thread(server.process.wait, STOP_SECONDS)
        return traffic

    with servers.bentoml_service(log, env=env) as server:
        traffic = asyncio.run(run(server))

    assert server.process.returncode == 0
    assert set(traffic.statuses) == {200}
    assert traffic.wrong == traffic.unanswered == []
    assert traffic.closed == 0
    assert traffic.statuses[200] == _counted(env)
    assert traffic.statuses[200] > 100


@pytest.mark.thorough
def test_reload(env: dict[str, str], clone: Path, tmp_path: Path) -> None:
    """With --reload a changed file restarts the workers, on the same port."""
    folder = clone.rename(tmp_path / "clone")  # BentoML watches no folder with a space in its name
    with servers.bentoml_service(tmp_path / "log", "--reload", env=env, cwd=folder) as server:
        servers.wait_for_starts(server, 2)
        with (folder / "service.py").open("a") as source:
            source.write("# changed\n")
        servers.wait_for_starts(server, 4)
        answer = httpx.post(f"{server.url}/predict", json={"instances": ROW}, timeout=10)

    assert answer.status_code == 200
    assert server.process.returncode == 0


@pytest.mark.parametrize("stops", [1, pytest.param(6, marks=pytest.mark.thorough)])
def test_stops_under_load(env: dict[str, str], tmp_path: Path, stops: int) -> None:
    """SIGTERM loses no request of an accepted connection, and ends with status 0."""
    for number in range(stops):
        _stop_under_load(env, tmp_path / "log", keep_alive=number % 2 == 0)


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux alone")
def test_handshakes_at_the_stop() -> None:
    """A handshake that has begun gives a connection that works; a new one is refused."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.socket() as begun,
        socket.socket() as late,
    ):
        begun.setsockopt(socket.IPPROTO_IP, IP_MINTTL, 255)  # deaf to the server's answer
        begun.setblocking(False)
        begun.connect_ex(listening.getsockname())
        refuse_connections(listening)
        refused = late.connect_ex(listening.getsockname())
        begun.setsockopt(socket.IPPROTO_IP, IP_MINTTL, 0)  # which is sent again after a second
        listening.settimeout(5)
        accepted, _ = listening.accept()
        with accepted:
            time.sleep(0.1)  # the request is a packet of its own, and not the end of the handshake
            begun.send(b"request")
            accepted.settimeout(5)
            received = accepted.recv(100)

    assert refused == errno.ECONNREFUSED
    assert received == b"request"


def test_long_request_is_finished(server: servers.Server) -> None:
    """A batch that is being computed at SIGTERM gets its whole answer."""
    body = json.dumps({"instances": ROW * 100_000}).encode()
    sent = Event()

    def upload() -> Iterator[bytes]:
        yield body
        sent.set()

    with ThreadPoolExecutor(1) as pool:
        headers = {"Content-Type": "application/json"}
        answer = pool.submit(
            httpx.post, f"{server.url}/predict", content=upload(), headers=headers, timeout=30
        )
        assert sent.wait(30)
        server.process.terminate()
        server.process.wait(STOP_SECONDS)

    assert server.process.returncode == 0
    assert answer.result().status_code == 200
    assert len(answer.result().json()["predictions"]) == 100_000


@pytest.mark.thorough
def test_time_limit_of_the_drain(server: servers.Server) -> None:
    """A request that never ends delays the stop by IRIS_DRAIN_SECONDS at most."""
    with servers.connect(server) as connection:
        connection.sendall(servers.post(b"{", length=100))
        time.sleep(0.3)
        start = time.monotonic()
        server.process.terminate()
        server.process.wait(20)
        took = time.monotonic() - start

    assert server.process.returncode == 0
    assert 2.5 < took < 8
    assert "Traceback" not in server.log.read_text()


@pytest.mark.thorough
def test_killed_worker_is_replaced(server: servers.Server) -> None:
    """A killed worker costs at most its own requests, and another one takes its place."""

    async def run() -> Traffic:
        async with asking(Ask(server.url, ROW, {"1": ["setosa"]}), clients=16) as traffic:
            await asyncio.sleep(0.5)
            servers.workers(server)[0].kill()
            await asyncio.sleep(3)
        return traffic

    traffic = asyncio.run(run())
    servers.wait_for(lambda: len(servers.workers(server)) == 2)

    assert set(traffic.statuses) == {200}
    # Each of the 16 clients had one open request at most. On a connection without an answer so far
    # it looks like a connection that the server closes.
    assert len(traffic.unanswered) + traffic.closed <= 16
    assert server.log.read_text().count("a worker died; starting another one") == 1


def test_dead_worker_ends_a_container(env: dict[str, str], tmp_path: Path) -> None:
    """In a container the service ends, its other worker without a loss, and without a traceback."""
    env |= {"BENTOML_CONTAINERIZED": "true"}
    with servers.bentoml_service(tmp_path / "log", env=env) as server:
        others = servers.workers(server)
        others.pop().kill()
        status = server.process.wait(STOP_SECONDS)

    assert status == 1
    assert not others[0].is_running()
    log = server.log.read_text()
    assert "a worker died; ending the service" in log
    assert "Traceback" not in log


@pytest.mark.thorough
def test_workers_that_cannot_start(env: dict[str, str], tmp_path: Path) -> None:
    """Where each worker dies before it is ready, the service ends, and says so."""
    missing = str(tmp_path / "missing.pem")
    start = time.monotonic()
    done = servers.run(
        *("-m", "bentoml", "serve", "service:IrisClassifier"),
        *("--host", "127.0.0.1", "--port", str(servers.free_port())),
        *("--ssl-certfile", missing, "--ssl-keyfile", missing),
        env=env,
        timeout=60,
    )
    took = time.monotonic() - start

    said = done.stdout + done.stderr  # with the tracebacks of the workers
    assert done.returncode == 1
    assert said.count("workers cannot start, as said above; ending the service") == 1
    assert "a worker died; starting another one" in said
    assert took < 30


@pytest.mark.thorough
def test_workers_killed_again_and_again(server: servers.Server) -> None:
    """Workers that had become ready are replaced, however often and soon they are killed."""
    for started in (2, 4, 6, 8):
        servers.wait_for_starts(server, started)
        for worker in servers.workers(server) if started < 8 else ():
            worker.kill()
    answer = httpx.post(f"{server.url}/predict", json={"instances": ROW}, timeout=10)
    server.process.terminate()

    assert answer.status_code == 200
    assert server.process.wait(STOP_SECONDS) == 0


@pytest.mark.thorough
def test_everything_killed(env: dict[str, str], tmp_path: Path) -> None:
    """After kill -9 of the parent its workers end by themselves, and the same port serves again."""

    def answer(server: servers.Server) -> Any:
        return httpx.post(f"{server.url}/predict", json={"instances": ROW}).json()

    with servers.bentoml_service(tmp_path / "log", env=env) as first:
        before = answer(first)
        workers = servers.workers(first)
        first.process.send_signal(signal.SIGKILL)
        first.process.wait(5)
        _, alive = psutil.wait_procs(workers, timeout=5)
    port = httpx.URL(first.url).port
    with servers.bentoml_service(tmp_path / "log", env=env, port=port) as second:
        after = answer(second)

    assert alive == []
    assert before == after == {"predictions": ["setosa"]}

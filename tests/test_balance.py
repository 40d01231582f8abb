"""The workers share the clients that keep their connections, also when workers die or hang."""

import contextlib
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from support import servers

from iris_api.bentoml_server.balancing import MANY, Counts

REQUEST = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def shared(serve: servers.Serve) -> Iterator[servers.Server]:
    """Run a service with two workers."""
    with serve(IRIS_WORKERS="2") as server:
        servers.wait_for_starts(server, 2)
        time.sleep(0.5)  # until they listen
        yield server


def _held(server: servers.Server) -> list[int]:
    """Return how many clients each worker has."""
    return list(map(servers.clients, servers.workers(server)))


def _connect(server: servers.Server, stack: ExitStack, count: int, pause: float = 0) -> list[int]:
    """Open connections, and return how many clients each worker then has."""
    total = sum(_held(server)) + count
    for _ in range(count):
        stack.enter_context(servers.connect(server))
        time.sleep(pause)
    servers.wait_for(lambda: sum(_held(server)) == total)
    return _held(server)


def _ask(client: socket.socket) -> float:
    """Return the seconds that an answer took."""
    start = time.monotonic()
    client.sendall(REQUEST)
    assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    return time.monotonic() - start


@pytest.mark.parametrize("pause", [0, 0.02], ids=["at once", "one by one"])
def test_kept_connections_are_shared(shared: servers.Server, pause: float) -> None:
    """Each worker gets its share of the clients, also after some of them left."""
    with ExitStack() as others, ExitStack() as clients:
        for stack in (others, clients, others, clients):
            first = _connect(shared, stack, 10, pause)
        others.close()
        servers.wait_for(lambda: sum(_held(shared)) == 20)
        second = _connect(shared, clients, 20, pause)

    # A worker that gets no core for a while loses some of those that come at once.
    assert max(first) <= 28
    assert max(second) <= 28


def test_clients_that_connect_for_each_request(shared: servers.Server) -> None:
    """While many connect, all are answered; then those that stay are shared again."""

    def twice() -> int:
        """Return how many sockets have two descriptors, as that of the loop's own server."""
        count = 0
        for worker in servers.workers(shared):
            links = []
            for descriptor in Path(f"/proc/{worker.pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # closed just now
                    links.append(str(descriptor.readlink()))
            sockets = [link for link in links if link.startswith("socket:")]
            count += len(sockets) - len(set(sockets))
        return count

    found = before = twice()
    until = time.monotonic() + 30
    while found == before:
        assert time.monotonic() < until
        for _ in range(2 * MANY):
            with ExitStack() as clients:
                _ask(clients.enter_context(servers.connect(shared)))
        found = twice()
    servers.wait_for(lambda: twice() == before)

    with ExitStack() as clients:
        assert max(_connect(shared, clients, 20, 0.01)) <= 14


def test_a_worker_that_hangs(shared: servers.Server) -> None:
    """Another worker accepts what a worker with fewer connections does not."""
    idle, _ = servers.workers(shared)
    idle.suspend()
    try:
        with ExitStack() as clients:
            slowest = max(_ask(clients.enter_context(servers.connect(shared))) for _ in range(30))
    finally:
        idle.resume()

    assert slowest < 1


def test_counts(tmp_path: Path) -> None:
    """The next connection is for a worker that has no more than any other."""
    first, third = (Counts(tmp_path / "counts", worker, 2) for worker in (1, 3))

    assert first.is_next(100)  # there is no other
    assert first.surplus(100) == 0
    first.publish(5)
    assert [third.surplus(count) for count in (14, 15)] == [0, 5]
    assert [third.is_next(count) for count in (0, 5, 6)] == [True, True, False]


def test_a_worker_that_dies(shared: servers.Server) -> None:
    """The others answer at once, and later share the clients that they have with a replacement."""
    started = shared.log.read_text().count("Completed async startup")
    with ExitStack() as stack:
        clients = [stack.enter_context(httpx.Client(base_url=shared.url)) for _ in range(16)]

        def ask() -> list[int]:
            assert {client.get("/livez").status_code for client in clients} == {200}
            return _held(shared)

        ask()
        victim, _ = servers.workers(shared)
        victim.kill()
        servers.wait_for(lambda: not victim.is_running())
        assert max(ask()) == 16
        with ExitStack() as others:
            assert max(_ask(others.enter_context(servers.connect(shared))) for _ in range(10)) < 1
        servers.wait_for_starts(shared, started + 1)
        servers.wait_for(lambda: max(ask()) <= 10)

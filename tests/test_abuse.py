"""Requests that no client sends by mistake: they are answered or cut off, and leave nothing."""

import contextlib
import socket
import time
from pathlib import Path

import httpx
import pytest
from support import servers

from iris_api.bentoml_server.connections import STALL_SECONDS

ROW = b'{"sepal_length":5.1,"sepal_width":3.5,"petal_length":1.4,"petal_width":0.2}'
POST = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = servers.post(ROW)
END = b"Host: x\r\nConnection: close\r\n\r\n"

UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
"""The headers that Java's client adds to its first request, and curl with --http2."""

ATTACKS: dict[str, tuple[bytes, list[int]]] = {
    "garbage": (bytes(range(256)) * 4, [400]),
    "nothing": (b"", []),
    "line ends": (b"\r\n" * 40_000, [400]),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), [400]),
    "HTTP/0.9": (b"GET /health\r\n\r\n", [200]),
    "HTTP/1.0": (b"GET /health HTTP/1.0\r\n\r\n", [200]),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
    "HTTP/9.9": (b"GET /health HTTP/9.9\r\n" + END, [400]),
    "no method": (b" /health HTTP/1.1\r\n" + END, [400]),
    "unknown method": (b"EAT /health HTTP/1.1\r\n" + END, [400]),
    "CONNECT": (b"CONNECT other.example:443 HTTP/1.1\r\n" + END, [400]),
    "absolute form": (b"GET http://other.example/health HTTP/1.1\r\n" + END, [200]),
    "asterisk form": (b"OPTIONS * HTTP/1.1\r\n" + END, [404]),
    "null byte in the path": (b"GET /hea\0lth HTTP/1.1\r\n" + END, [400]),
    "null byte, escaped": (b"GET /health%00 HTTP/1.1\r\n" + END, [404]),
    "high bytes in the path": (b"GET /\xff\xfe HTTP/1.1\r\n" + END, [400]),
    "broken escape": (b"GET /%zz%u0000 HTTP/1.1\r\n" + END, [404]),
    "way out": (b"GET /static_content/../../../../etc/passwd HTTP/1.1\r\n" + END, [404]),
    "way out, escaped": (b"GET /static_content/%2e%2e%2f%2e%2e%2fetc HTTP/1.1\r\n" + END, [404]),
    "long path": (b"GET /" + b"a" * 100_000, [400]),
    "huge header": (b"GET /health HTTP/1.1\r\nX: " + b"a" * 100_000, [400]),
    "many headers": (b"GET /health HTTP/1.1\r\n" + b"X: a\r\n" * 20_000, [400]),
    "headers to the limit": (b"GET /health HTTP/1.1\r\n" + b"X: a\r\n" * 10_000 + END, [200]),
    "null byte in a header": (b"GET /health HTTP/1.1\r\nX: a\0b\r\n" + END, [400]),
    "no colon": (b"GET /health HTTP/1.1\r\nX\r\n" + END, [400]),
    "space before the colon": (POST + b"Content-Length : 3\r\n\r\n{}", [400]),
    "websocket": (
        b"GET /predict HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        [405],
    ),
    "upgrade, and a request for a body": (
        POST + UPGRADE + b"Content-Length: 32\r\n\r\nGET /model HTTP/1.1\r\nHost: x\r\n\r\n",
        [400],
    ),
    "upgrades without end": ((POST + UPGRADE + b"\r\n") * 2000, []),
    "two lengths": (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", [400]),
    "negative length": (POST + b"Content-Length: -1\r\n\r\n{}", [400]),
    "no number as length": (POST + b"Content-Length: 2x\r\n\r\n{}", [400]),
    "length without end": (POST + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n{}", [400]),
    "length and chunks": (CHUNKED[:-2] + b"Content-Length: 3\r\n\r\n0\r\n\r\n", [400]),
    "unknown encoding": (POST + b"Transfer-Encoding: gzip\r\n\r\n{}", [400]),
    "chunked is not last": (POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", [400]),
    "no number as chunk": (CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", [400]),
    "chunk without end": (CHUNKED + b"f" * 17 + b"\r\n{}", [400]),
    "chunk that is longer": (CHUNKED + b"1\r\n{}\r\n0\r\n\r\n", [400]),
    "trailers that are no headers": (
        CHUNKED + b"%x\r\n%b\r\n0\r\n" % (len(ROW), ROW) + b"Content-Type: text/plain\r\n\r\n",
        [200],
    ),
    "extension without end": (CHUNKED + b"1;" + b"a" * 200_000, []),
    "trailers without end": (CHUNKED + b"2\r\n{}\r\n0\r\n" + b"X: a\r\n" * 20_000, []),
    "pipelining": (WHOLE * 50 + b"GET /health HTTP/1.1\r\n" + END, [200] * 51),
    "pipelining without end": (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 100_000, []),
    "late end of a head": (b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n" + END, [400]),
    "pipelining of garbage": (WHOLE + b"\0\0\0", [400]),
}
"""Bytes to send, and the statuses of the answers; none if the connection is only closed."""


def _attack(server: servers.Server, sent: bytes) -> list[int]:
    """Send bytes, ask for a close at their end, and return the statuses of the answers."""
    with servers.connect(server) as connection:
        with contextlib.suppress(OSError):  # it may be cut off by now
            connection.sendall(sent)
            if not sent.endswith(END):
                connection.shutdown(socket.SHUT_WR)
        answer = servers.read(connection)
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def _is_well(server: servers.Server) -> bool:
    answer = httpx.post(f"{server.url}/predict", content=ROW, timeout=5)
    return answer.is_success and answer.json() == {"predictions": ["setosa"]}


def _receive(connection: socket.socket) -> bytes:
    """Read one answer, whose body may come after its head."""
    answer = b""
    while b"\r\n\r\n" not in answer or len(answer.partition(b"\r\n\r\n")[2]) < int(
        answer.partition(b"content-length: ")[2].split()[0]
    ):
        received = connection.recv(65536)
        assert received, answer
        answer += received
    return answer


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(service: servers.Server, name: str) -> None:
    """Each attack gets its statuses at once, and the next request is answered as usual."""
    sent, statuses = ATTACKS[name]

    assert _attack(service, sent) == statuses
    assert _is_well(service)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_upgrade(service: servers.Server, size: int) -> None:
    """An offer of another protocol changes nothing: the body and the next requests are read."""
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (ROW[:9], ROW[9:]))
    sent = [
        POST + UPGRADE + b"Content-Length: %d\r\n\r\n" % len(ROW) + ROW,
        POST + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n" + chunked + b"0\r\n\r\n",
        WHOLE,
        b"GET /model HTTP/1.1\r\n" + UPGRADE + END,
    ]
    data = b"".join(sent)
    with servers.connect(service) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), size):
            connection.sendall(data[start : start + size])
        answers = servers.read(connection).split(b"HTTP/1.1 ")[1:]

    assert [answer[:3] for answer in answers] == [b"200"] * 4
    assert all(answer.endswith(b'{"predictions":["setosa"]}') for answer in answers[:3])
    assert b'"name":"IrisModel"' in answers[3]


@pytest.mark.parametrize("rounds", [10, pytest.param(60, marks=pytest.mark.thorough)])
def test_attacks_leave_nothing(service: servers.Server, rounds: int) -> None:
    """After many attacks memory and handles are as before, and the log has no fault."""
    (worker,) = servers.workers(service)

    def attack(rounds: int) -> None:
        for _ in range(rounds):
            for sent, _statuses in ATTACKS.values():
                _attack(service, sent)

    attack(rounds // 3)  # until the allocator has its pools
    memory, files = worker.memory_info().rss, worker.num_fds()
    attack(rounds)

    servers.wait_for(lambda: worker.num_fds() <= files, seconds=5)
    assert worker.memory_info().rss - memory < 8 * 2**20
    assert servers.workers(service) == [worker]
    assert "Traceback" not in service.log.read_text()
    assert _is_well(service)


EXPECT = POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n"
ANSWER = b'{"predictions":["setosa"]}'


def test_expect_continue(service: servers.Server) -> None:
    """The service asks for the body of each request, and keeps the connection."""
    with servers.connect(service) as connection:
        for _ in range(2):
            connection.sendall(EXPECT % len(ROW))
            asked = connection.recv(1000)
            connection.sendall(ROW)
            answer = _receive(connection)

            assert asked == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(ANSWER)


LONG = b"Content-Length: 100000000\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (EXPECT % 100_000_000, 413),
        (POST + LONG, 413),
        (CHUNKED.replace(b"predict", b"nothing"), 404),
        (b"GET /health HTTP/1.1\r\n" + LONG, 200),
        (b"POST /nothing HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 9\r\n\r\n", 404),
    ],
    ids=["asked before", "predict", "chunks", "GET", "HTTP/1.0"],
)
def test_answer_that_ends_the_connection(service: servers.Server, head: bytes, status: int) -> None:
    """An answer before a body that is or may be too long closes the connection, and says so."""
    with servers.connect(service) as connection:
        connection.sendall(head)
        answer = servers.read(connection)

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nconnection: close\r\n" in answer.lower()


@pytest.mark.parametrize("size", [100, 110_000])
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /nothing HTTP/1.1\r\n", 404),
        (b"PUT /predict HTTP/1.1\r\n", 405),
        (POST + b"Content-Type: text/plain\r\n", 415),
        (b"GET /health HTTP/1.1\r\n", 200),
    ],
    ids=["404", "405", "415", "200"],
)
def test_answer_before_the_body(
    service: servers.Server, head: bytes, status: int, size: int
) -> None:
    """After an answer before the end of a body, its rest is ignored and the connection kept."""
    with servers.connect(service) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % size)
        first = _receive(connection)
        connection.sendall(b" " * size + WHOLE[:40])
        time.sleep(0.05)
        connection.sendall(WHOLE[40:])
        second = _receive(connection)

    assert first.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" not in first.lower()
    assert second.endswith(ANSWER)


@pytest.mark.parametrize("head", [b"GET /health HTTP/1.0\r\n", WHOLE.partition(b"Host")[0]])
def test_kept_connections_of_http_1_0(service: servers.Server, head: bytes) -> None:
    """HTTP/1.0 keeps a connection if the client asks for it, and is answered that it does."""
    head = head.replace(b"HTTP/1.1", b"HTTP/1.0")
    rest = b"Content-Length: %d\r\n\r\n" % len(ROW) + ROW
    answers = []
    with servers.connect(service) as connection:
        for keep in (b"Connection: Keep-Alive\r\n", b"Connection: Keep-Alive\r\n", b""):
            connection.sendall(head + keep + rest)
            answers.append(_receive(connection))
        end = connection.recv(1)

    assert [answer[9:12] for answer in answers] == [b"200"] * 3
    kept = [b"\r\nconnection: keep-alive\r\n" in answer for answer in answers]
    assert kept == [True, True, False]
    assert end == b""


@pytest.mark.thorough
def test_clients_that_do_not_get_on(service: servers.Server) -> None:
    """Clients that send no whole request or read no answer are cut off, and delay no others."""
    wanted = b"GET /static_content/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
    begun = [
        b"",
        b"POST /predict HTTP/1.1\r\nHost:",
        # Without bodies that are answered before their end, whose connections are idle ones then.
        wanted * 20,
    ]
    (worker,) = servers.workers(service)
    others = servers.clients(worker)  # of other tests
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        for sent in begun * 50:
            stack.enter_context(servers.connect(service)).sendall(sent)
        dripping = stack.enter_context(servers.connect(service))
        dripping.sendall(b"GET /health HTTP/1.1\r\nX: ")
        servers.wait_for(lambda: servers.clients(worker) > 150)
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - start < 2 * STALL_SECONDS:
                dripping.sendall(b"a")
                assert _is_well(service)
                time.sleep(0.1)
        took = time.monotonic() - start
        servers.wait_for(lambda: servers.clients(worker) <= others, seconds=5)

    assert STALL_SECONDS < took < STALL_SECONDS + 5


@pytest.mark.thorough
def test_idle_connections(home: Path, plain_env: dict[str, str], tmp_path: Path) -> None:
    """If file handles run short, new connections replace idle ones, and not those with requests."""
    env = plain_env | {"BENTOML_HOME": str(servers.copy_store(home, tmp_path / "home"))}
    with servers.bentoml_service(tmp_path / "log", env=env, files=300) as server:
        (worker,) = servers.workers(server)
        with contextlib.ExitStack() as stack:
            working = stack.enter_context(servers.connect(server))
            working.sendall(WHOLE[:-1])
            for _ in range(400):
                stack.enter_context(servers.connect(server))
            well = [_is_well(server) for _ in range(10)]
            files = worker.num_fds()
            working.sendall(WHOLE[-1:])
            answer = working.recv(1000)

    assert all(well)
    assert files < 300
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_file_limit_is_never_lowered(plain_env: dict[str, str]) -> None:
    """The service raises its limit of file handles up to its maximum, and keeps a higher one."""
    script = """if True:
        import resource
        from iris_api.bentoml_server import supervision
        limit = resource.RLIMIT_NOFILE
        _, hard = resource.getrlimit(limit)
        for soft in (500, 900):
            resource.setrlimit(limit, (soft, hard))
            supervision.MAX_FILES = 700
            supervision.raise_file_limit()
            print(resource.getrlimit(limit)[0])
    """
    done = servers.run("-c", script, env=plain_env)

    assert done.stdout.splitlines() == ["700", "900"], done.stderr

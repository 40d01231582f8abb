"""API keys: which requests are accepted, changes of the file, and that no key is shown."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bentoml
import httpx
import psutil
import pytest
from support import servers
from support.scrape import growth

ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
KEY, OTHER_KEY, NEW_KEY = "first-key-hunter2", "other-key-hunter3", "new-key-hunter4"
WRONG_KEY = "wrong-key-hunter5"

CALLS = ("/predict", "/predict_proba")
PAGE = "https://page.example"
PAGES = ("/health", "/model", "/metrics", "/docs.json", "/", "/livez", "/readyz")


@dataclass(frozen=True)
class Guarded:
    """A service with keys, and their file."""

    server: servers.Server
    keys: Path

    def post(self, authorization: str | None, call: str = "/predict") -> httpx.Response:
        """Ask for a prediction."""
        headers = {} if authorization is None else {"Authorization": authorization}
        return httpx.post(self.server.url + call, json=ROW, headers=headers)

    def write(self, text: str) -> None:
        """Replace the file, as docs/security.md recommends."""
        written = self.keys.with_name("written")
        written.write_text(text)
        written.replace(self.keys)

    def wait_for(self, key: str, status: int) -> None:
        """Wait until a key is answered with a status."""
        servers.wait_for(lambda: self.post(f"Bearer {key}").status_code == status, seconds=5)


@pytest.fixture(scope="module")
def guarded(serve: servers.Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Run a service with two keys, a log of all requests, and connections that end soon."""
    keys = tmp_path_factory.mktemp("guarded") / "keys"
    keys.write_text(f"# of the laboratory\n{KEY}\n\n  {OTHER_KEY}\t\n")
    others = {
        "IRIS_ACCESS_LOG": "true",
        "IRIS_KEEP_ALIVE_SECONDS": "0.5",
        "IRIS_CORS_ORIGINS": PAGE,
    }
    with serve(IRIS_API_KEYS_FILE=str(keys), **others) as server:
        yield Guarded(server, keys)


@pytest.fixture
def changing(guarded: Guarded) -> Iterator[Guarded]:
    """Return the service to a test that changes the file, and restore the file afterwards."""
    before = guarded.keys.read_text()
    yield guarded
    guarded.write(before)
    guarded.wait_for(OTHER_KEY, 200)


@pytest.mark.parametrize(("origin", "status"), [(PAGE, 200), ("https://other.example", 400)])
def test_page_of_another_origin(guarded: Guarded, origin: str, status: int) -> None:
    """A preflight needs no key, and is granted to allowed origins alone."""
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    preflight = httpx.options(f"{guarded.server.url}/predict", headers=asked)
    answer = httpx.post(f"{guarded.server.url}/invocations", headers={"Origin": origin}, json={})

    allowed = PAGE if status == 200 else None
    assert preflight.status_code == status
    assert preflight.headers.get("Access-Control-Allow-Origin") == allowed
    assert answer.headers.get("Access-Control-Allow-Origin") == allowed
    assert (
        "X-Model-Version" in answer.headers.get("Access-Control-Expose-Headers", "") or not allowed
    )
    assert (answer.status_code, answer.json()["error_code"]) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "authorization", [f"Bearer {KEY}", f"bearer  {OTHER_KEY}"], ids=["one", "other"]
)
def test_with_a_key(guarded: Guarded, authorization: str, call: str) -> None:
    """Each key of the file is accepted, in either case of the scheme."""
    answer = guarded.post(authorization, call)

    assert answer.status_code == 200
    assert answer.headers["X-Model-Version"] == "1"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        f"Bearer {WRONG_KEY}",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY} {KEY}",
        f"Basic {KEY}",
        KEY,
        "Bearer # of the laboratory",
    ],
    ids=range(9),
)
def test_without_a_key(guarded: Guarded, authorization: str | None, call: str) -> None:
    """A request without a key is counted, and its answer says which scheme to use."""
    with growth(guarded.server.url) as grown:
        answer = guarded.post(authorization, call)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json() == {
        "error": "send the header Authorization: Bearer, with one of the keys of this service"
    }
    assert grown("iris_rejected_requests_total", reason="unauthorized") == 1


def test_answer_before_the_body(guarded: Guarded) -> None:
    """A 401 before the end of a body costs its client neither the answer nor the connection."""
    with servers.connect(guarded.server) as connection:
        connection.sendall(servers.post(b"", length=110_000))
        first = connection.recv(65536)
        connection.sendall(b" " * 110_000 + servers.post(b"{}"))
        second = connection.recv(65536)

    assert first.startswith(b"HTTP/1.1 401 ")
    assert second.startswith(b"HTTP/1.1 401 ")


def _idle_seconds(server: servers.Server, late: bytes = b"") -> float:
    """Return the seconds until a connection ends after a request, whose body may end late."""
    with servers.connect(server) as connection:
        connection.sendall(servers.post(b"{}"[len(late) :], length=2))
        received = b""
        while not received.endswith(b"}"):
            received += connection.recv(65536)
        connection.sendall(late)
        start = time.monotonic()
        assert connection.recv(1) == b""
        return time.monotonic() - start


@pytest.mark.parametrize("late", [b"", b"{}"], ids=["whole", "late"])
def test_idle_connections_end(guarded: Guarded, late: bytes) -> None:
    """A connection is kept for IRIS_KEEP_ALIVE_SECONDS after a request and its answer."""
    assert 0.4 < _idle_seconds(guarded.server, late) < 20


@pytest.mark.thorough
def test_option_of_idle_connections(serve: servers.Serve) -> None:
    """An option of BentoML takes precedence over IRIS_KEEP_ALIVE_SECONDS."""
    with serve("--timeout-keep-alive", "1", IRIS_KEEP_ALIVE_SECONDS="10") as server:
        assert 0.9 < _idle_seconds(server) < 9


@pytest.mark.parametrize("path", PAGES)
def test_pages_need_no_key(guarded: Guarded, path: str) -> None:
    """All but the predictions is open."""
    assert httpx.get(guarded.server.url + path).status_code == 200


def test_bentoml_client(guarded: Guarded) -> None:
    """BentoML's client sends a key as its token."""
    with bentoml.SyncHTTPClient(guarded.server.url, token=KEY) as client:
        assert client.predict(**ROW) == {"predictions": ["setosa"]}


def test_changes_of_the_file(changing: Guarded) -> None:
    """A changed file counts soon; without one, or without a key in it, requests are rejected."""
    before = changing.keys.read_text()
    changing.write(NEW_KEY)
    changing.wait_for(NEW_KEY, 200)
    assert changing.post(f"Bearer {KEY}").status_code == 401

    # In place, as long as before, and with the same time.
    times = changing.keys.stat()
    changing.keys.write_text(before)
    os.utime(changing.keys, ns=(times.st_atime_ns, times.st_mtime_ns))
    changing.wait_for(KEY, 200)

    changing.keys.unlink()
    changing.wait_for(KEY, 401)

    changing.write("# none\n")
    log = changing.server.log
    servers.wait_for(
        lambda: (
            changing.post("Bearer # none").status_code == 401
            and f"{changing.keys} has no key" in log.read_text()
        ),
        seconds=5,
    )
    reason = f"IRIS_API_KEYS_FILE: {changing.keys}: No such file"
    assert f"every request is rejected: {reason}" in log.read_text()


def test_byte_order_mark(changing: Guarded) -> None:
    """A byte order mark, which some editors write, is not part of the first key."""
    changing.write(f"\ufeff{NEW_KEY}\n{KEY}\n")
    changing.wait_for(OTHER_KEY, 401)

    assert changing.post(f"Bearer {NEW_KEY}").status_code == 200


def test_pipe_in_the_place_of_the_file(changing: Guarded) -> None:
    """While the file is a pipe, requests are rejected, and do not wait for its writer."""
    changing.keys.unlink()
    os.mkfifo(changing.keys)
    changing.wait_for(KEY, 401)

    log = changing.server.log.read_text()
    reason = f"IRIS_API_KEYS_FILE: {changing.keys} is not a regular file"
    assert log.count(f"every request is rejected: {reason}") == 1


@pytest.mark.thorough
def test_failure_that_passes(serve: servers.Serve, tmp_path: Path) -> None:
    """A file that could not be read for a while, for want of a file descriptor, is read again."""
    keys = tmp_path / "keys"
    keys.write_text(KEY)

    headers = {"Authorization": f"Bearer {KEY}"}
    with (
        serve(IRIS_API_KEYS_FILE=str(keys)) as server,
        httpx.Client(base_url=server.url, timeout=10, headers=headers) as client,
    ):
        (worker,) = servers.workers(server)
        limits = worker.rlimit(psutil.RLIMIT_NOFILE)
        for limit, status in ((limits[0], 200), (1, 401), (limits[0], 200)):
            worker.rlimit(psutil.RLIMIT_NOFILE, (limit, limits[1]))
            servers.wait_for(
                lambda: client.post("/predict", json=ROW).status_code == status,  # noqa: B023
                seconds=5,
            )

    reason = f"IRIS_API_KEYS_FILE: {keys}: Too many open files"
    assert server.log.read_text().count(f"every request is rejected: {reason}") == 1


@pytest.mark.parametrize("content", [None, pytest.param("# none\n", marks=pytest.mark.thorough)])
def test_start_without_a_key(
    plain_env: dict[str, str], tmp_path: Path, content: str | None
) -> None:
    """A service that would reject every request does not start, and says why."""
    keys = tmp_path / "keys"
    if content is not None:
        keys.write_text(content)
    env = plain_env | {"BENTOML_HOME": str(tmp_path), "IRIS_API_KEYS_FILE": str(keys)}
    reason = ": No such file or directory" if content is None else " has no key; write one a line"

    assert f"IRIS_API_KEYS_FILE: {keys}{reason}" in servers.fails_to_start(env=env)


def test_keys_are_shown_nowhere(guarded: Guarded) -> None:
    """Neither right nor wrong keys are in logs, pages, files or the processes' environments."""
    for key in (KEY, OTHER_KEY, WRONG_KEY):
        guarded.post(f"Bearer {key}")
    main = psutil.Process(guarded.server.process.pid)
    processes = [main, *main.children(recursive=True)]
    places = {
        "log": guarded.server.log.read_text(),
        "processes": str([[process.cmdline(), process.environ()] for process in processes]),
        **{path: httpx.get(guarded.server.url + path).text for path in PAGES},
        **{
            str(path): path.read_bytes().decode("latin-1")
            for path in (guarded.server.log.parent / "home").rglob("*")
            if path.is_file()
        },
    }

    assert "/predict" in places["log"]
    assert any("/metrics/" in place for place in places)
    assert [place for place, text in places.items() if "hunter" in text] == []

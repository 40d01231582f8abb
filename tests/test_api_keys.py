"""API keys: who is let in, what a change of the file does, and that no key is ever shown."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bentoml
import httpx
import psutil
import pytest
from support import servers
from support.scrape import scrape

ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
KEY, OTHER_KEY, NEW_KEY = "first-key-hunter2", "other-key-hunter3", "new-key-hunter4"
WRONG_KEY = "wrong-key-hunter5"

CALLS = ("/predict", "/predict_proba")
PAGES = ("/health", "/model", "/metrics", "/docs.json", "/", "/livez", "/readyz")


@dataclass(frozen=True)
class Guarded:
    """A service with keys, and their file."""

    server: servers.Server
    keys: Path
    home: Path

    def post(self, authorization: str | None, call: str = "/predict") -> httpx.Response:
        """Ask for a prediction."""
        headers = {} if authorization is None else {"Authorization": authorization}
        return httpx.post(self.server.url + call, json=ROW, headers=headers)

    def write(self, text: str) -> None:
        """Put another file in the place of the keys, as docs/security.md says."""
        written = self.keys.with_name("written")
        written.write_text(text)
        written.replace(self.keys)


@pytest.fixture(scope="module")
def guarded(
    home: Path, plain_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    """Run a service with two keys, and a log of all requests."""
    folder = tmp_path_factory.mktemp("guarded")
    keys = folder / "keys"
    keys.write_text(f"# of the laboratory\n{KEY}\n\n  {OTHER_KEY}\t\n")
    home = servers.copy_store(home, folder / "home")
    env = plain_env | {
        "BENTOML_HOME": str(home),
        "IRIS_API_KEYS_FILE": str(keys),
        "IRIS_ACCESS_LOG": "true",
    }
    with servers.bentoml_service(folder / "log", env=env) as server:
        yield Guarded(server, keys, home)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "authorization", [f"Bearer {KEY}", f"bearer  {OTHER_KEY}"], ids=["one", "other"]
)
def test_with_a_key(guarded: Guarded, authorization: str, call: str) -> None:
    """Each key of the file is good for a prediction, however the scheme is written."""
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
    """Whoever has no key is told which scheme to use, and is counted."""
    before = scrape(guarded.server.url)
    answer = guarded.post(authorization, call)
    after = scrape(guarded.server.url)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json() == {
        "error": "send the header Authorization: Bearer, with one of the keys of this service"
    }
    name, labels = "iris_rejected_requests_total", {"reason": "unauthorized"}
    assert after.value(name, **labels) - before.value(name, **labels) == 1


@pytest.mark.parametrize("path", PAGES)
def test_pages_need_no_key(guarded: Guarded, path: str) -> None:
    """What tells of the service is open."""
    assert httpx.get(guarded.server.url + path).status_code == 200


def test_bentoml_client(guarded: Guarded) -> None:
    """BentoML's client sends a key as its token."""
    with bentoml.SyncHTTPClient(guarded.server.url, token=KEY) as client:
        assert client.predict(**ROW) == {"predictions": ["setosa"]}


def test_changes_of_the_file(guarded: Guarded) -> None:
    """Another file counts soon; without one, or with none in it, nobody is let in."""

    def status(key: str) -> int:
        return guarded.post(f"Bearer {key}").status_code

    before = guarded.keys.read_text()
    try:
        guarded.write(NEW_KEY)
        servers.wait_for(lambda: status(NEW_KEY) == 200, seconds=5)
        assert status(KEY) == 401

        # In place, as long as before, and with the same time.
        times = guarded.keys.stat()
        guarded.keys.write_text(before)
        os.utime(guarded.keys, ns=(times.st_atime_ns, times.st_mtime_ns))
        servers.wait_for(lambda: status(KEY) == 200, seconds=5)

        guarded.keys.unlink()
        servers.wait_for(lambda: status(KEY) == 401, seconds=5)

        guarded.write("# none\n")
        servers.wait_for(
            lambda: (
                status("# none") == 401
                and f"{guarded.keys} has no key" in guarded.server.log.read_text()
            ),
            seconds=5,
        )
    finally:
        guarded.write(before)
        servers.wait_for(lambda: status(KEY) == 200, seconds=5)
    log = guarded.server.log.read_text()
    assert f"every request is rejected: IRIS_API_KEYS_FILE: {guarded.keys}: No such file" in log


def test_byte_order_mark(guarded: Guarded) -> None:
    """What some editors begin a file with is no part of its first key."""
    before = guarded.keys.read_text()
    try:
        guarded.write(f"\ufeff{NEW_KEY}\n{KEY}\n")
        servers.wait_for(lambda: guarded.post(f"Bearer {OTHER_KEY}").status_code == 401, seconds=5)
        answer = guarded.post(f"Bearer {NEW_KEY}")
    finally:
        guarded.write(before)
        servers.wait_for(lambda: guarded.post(f"Bearer {OTHER_KEY}").status_code == 200, seconds=5)

    assert answer.status_code == 200


def test_pipe_in_the_place_of_the_file(guarded: Guarded) -> None:
    """What nobody writes to lets nobody in, and keeps no request waiting."""
    before = guarded.keys.read_text()
    try:
        guarded.keys.unlink()
        os.mkfifo(guarded.keys)
        servers.wait_for(lambda: guarded.post(f"Bearer {KEY}").status_code == 401, seconds=5)
    finally:
        guarded.write(before)
        servers.wait_for(lambda: guarded.post(f"Bearer {KEY}").status_code == 200, seconds=5)

    log = guarded.server.log.read_text()
    assert (
        log.count(
            f"every request is rejected: IRIS_API_KEYS_FILE: {guarded.keys} is not a regular file"
        )
        == 1
    )


@pytest.mark.thorough
def test_failure_that_passes(home: Path, plain_env: dict[str, str], tmp_path: Path) -> None:
    """A file that could not be read for a while, for want of a handle, is read as it is."""
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    env = plain_env | {
        "BENTOML_HOME": str(servers.copy_store(home, tmp_path / "home")),
        "IRIS_API_KEYS_FILE": str(keys),
    }

    def status(client: httpx.Client) -> int:
        headers = {"Authorization": f"Bearer {KEY}"}
        return client.post("/predict", json=ROW, headers=headers).status_code

    with (
        servers.bentoml_service(tmp_path / "log", env=env) as server,
        httpx.Client(base_url=server.url, timeout=10) as client,
    ):
        assert status(client) == 200
        (worker,) = servers.workers(server)
        limits = psutil.Process(worker.pid).rlimit(psutil.RLIMIT_NOFILE)
        keys.touch()
        worker.rlimit(psutil.RLIMIT_NOFILE, (1, limits[1]))
        servers.wait_for(lambda: status(client) == 401, seconds=5)
        worker.rlimit(psutil.RLIMIT_NOFILE, limits)
        servers.wait_for(lambda: status(client) == 200, seconds=5)

    assert (
        server.log.read_text().count(f"every request is rejected: IRIS_API_KEYS_FILE: {keys}: Too")
        == 1
    )


@pytest.mark.parametrize("content", [None, pytest.param("# none\n", marks=pytest.mark.thorough)])
def test_start_without_a_key(
    home: Path, plain_env: dict[str, str], tmp_path: Path, content: str | None
) -> None:
    """A service that could let nobody in does not start, and says why."""
    keys = tmp_path / "keys"
    if content is not None:
        keys.write_text(content)
    env = plain_env | {
        "BENTOML_HOME": str(servers.copy_store(home, tmp_path / "home")),
        "IRIS_API_KEYS_FILE": str(keys),
    }
    done = servers.run("-m", "bentoml", "serve", "service:IrisClassifier", env=env)

    assert done.returncode == 1
    reason = ": No such file or directory" if content is None else " has no key; write one a line"
    assert f"IRIS_API_KEYS_FILE: {keys}{reason}" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_keys_are_shown_nowhere(guarded: Guarded) -> None:
    """Neither the keys nor what is sent in their place are in logs, pages, files or processes."""
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
            for path in guarded.home.rglob("*")
            if path.is_file()
        },
    }

    assert "/predict" in places["log"]
    assert any("/metrics/" in place for place in places)
    assert [place for place, text in places.items() if "hunter" in text] == []

"""Every failure of an import is real, is told in one line with its mend, and leaves the store."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Tracking
from support import proxies, servers
from support.inprocess import Fails, Run, staged
from support.proxies import FILE, Exchange, Fault, Proxy, delayed, first, on_files

import iris_api.store.active_version

pytestmark = pytest.mark.thorough

NO_SERVER = (
    "MLFLOW_TRACKING_URI is {!r} and must be the http:// or https:// address of a tracking server "
    "with --serve-artifacts, because the model is fetched through it"
)
TRY_AGAIN = "import again, or look into the server's log"


@pytest.fixture(scope="module")
def proxied(tracking: Tracking) -> Iterator[Proxy]:
    """Run a proxy in front of the tracking server."""
    with proxies.proxy(tracking.url) as proxy:
        yield proxy


@pytest.fixture
def proxy(proxied: Proxy) -> Proxy:
    """Give the proxy without a fault."""
    proxied.fault = proxies.no_fault
    proxied.asked.clear()
    return proxied


def test_connection_refused(fails: Fails) -> None:
    """Nobody listens; three tries more are few and told."""
    url = f"http://127.0.0.1:{servers.free_port()}"
    done = fails(MLFLOW_TRACKING_URI=url)

    line = (
        f"{url} refuses the connection; is the tracking server running, "
        "and MLFLOW_TRACKING_URI right?"
    )
    assert done.last == f"error: {line}"
    assert done.err.count(f"\n{line}; trying again in 0.") == 3


def test_unknown_host(fails: Fails) -> None:
    """A name that nobody has."""
    done = fails(MLFLOW_TRACKING_URI="http://iris.invalid:5000", NO_PROXY="*")

    assert done.last == (
        "error: the host of http://iris.invalid:5000 is unknown; "
        "is MLFLOW_TRACKING_URI spelled right?"
    )


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("", "MLFLOW_TRACKING_URI is not set; set it to http://HOST:5000"),
        ("file:///tmp/mlruns", NO_SERVER.format("file:///tmp/mlruns")),
        ("sqlite:///mlflow.db", NO_SERVER.format("sqlite:///mlflow.db")),
        ("mlruns", NO_SERVER.format("mlruns")),
        ("localhost:5000", NO_SERVER.format("localhost:5000")),
        ("ann:p@ss@host:5000?token=a", NO_SERVER.format("host:5000")),
        ("http://[1:2", NO_SERVER.format("http://[1:2")),
        ("http://host:port", NO_SERVER.format("http://host:port")),
    ],
)
def test_no_server(fails: Fails, uri: str, line: str) -> None:
    """A registry in files, or no address at all."""
    done = fails(MLFLOW_TRACKING_URI=uri)

    assert done.last == f"error: {line}"


def test_slow_server(fails: Fails, proxy: Proxy) -> None:
    """No answer begins in MLflow's time."""
    proxy.fault = delayed(3)
    done = fails(MLFLOW_TRACKING_URI=proxy.url, MLFLOW_HTTP_REQUEST_TIMEOUT="1")

    assert done.last == (
        f"error: {proxy.url} did not answer in time; is it overloaded? "
        "MLFLOW_HTTP_REQUEST_TIMEOUT sets the seconds to wait"
    )


def test_time_limit(fails: Fails, proxy: Proxy) -> None:
    """The limit is of the whole import, whatever each request may take."""
    proxy.fault = on_files(delayed(3))
    done = fails("--timeout", "1", MLFLOW_TRACKING_URI=proxy.url)

    assert done.last == "error: not done after 1 s; is the server slow? --timeout sets the limit"


def test_name_that_the_server_does_not_accept(fails: Fails, proxy: Proxy) -> None:
    """MLflow answers 403 to names that it does not know; the proxy of HTTP_PROXY keeps the name."""
    name = "tracking.example:5000"
    done = fails(MLFLOW_TRACKING_URI=f"http://{name}", HTTP_PROXY=proxy.url, NO_PROXY="")

    assert proxy.asked[0][0].startswith(f"http://{name}/api/")
    assert done.last == (
        f"error: http://{name} does not accept the name {name} (HTTP 403 Invalid Host header); "
        f"start it with --allowed-hosts {name}"
    )


def test_dead_http_proxy(fails: Fails) -> None:
    """The proxy of the environment does not answer, and its login stays secret."""
    dead = f"http://me:hidden-word@127.0.0.1:{servers.free_port()}"
    done = fails(MLFLOW_TRACKING_URI="http://tracking.example", HTTP_PROXY=dead, NO_PROXY="")

    assert done.last == (
        "error: the HTTP proxy on the way to http://tracking.example does not answer; "
        "set HTTP_PROXY and HTTPS_PROXY right, or add the server's host to NO_PROXY"
    )
    assert "hidden-word" not in done.err


def test_proxy_is_off(
    fails: Fails, tracking: Tracking, plain_env: dict[str, str], tmp_path: Path
) -> None:
    """A server with --no-serve-artifacts; asking again is of no use."""
    options = ("--no-serve-artifacts", "--default-artifact-root", str(tmp_path))
    database = tracking.folder / "mlflow.db"
    with servers.mlflow_server(tmp_path, *options, env=plain_env, database=database) as server:
        done = fails(MLFLOW_TRACKING_URI=server.url)

    assert done.last == (
        f"error: {server.url} does not serve artifacts; start it with --serve-artifacts"
    )
    assert "again" not in done.err


def test_another_kind_of_server(fails: Fails, proxy: Proxy) -> None:
    """The address of something that is no tracking server."""
    proxy.fault = lambda exchange: exchange.answer(200, b"<html>welcome</html>")
    page = fails(MLFLOW_TRACKING_URI=proxy.url)
    proxy.fault = lambda exchange: exchange.answer(200, b'{"model_versions": [[]]}')
    other = fails(MLFLOW_TRACKING_URI=proxy.url)
    proxy.fault = proxies.no_fault
    path = fails(MLFLOW_TRACKING_URI=f"{proxy.url}/nowhere")

    line = (
        f"error: {proxy.url} does not answer like an MLflow tracking server; "
        "is MLFLOW_TRACKING_URI right?"
    )
    assert page.last == line
    assert other.last == line
    assert path.last == (
        f"error: {proxy.url}/nowhere answers HTTP 404; is MLFLOW_TRACKING_URI right?"
    )


def test_redirect(fails: Fails, proxy: Proxy) -> None:
    """A redirect is not followed, and the other host is never asked."""
    with proxies.proxy(proxy.upstream) as other:
        proxy.fault = lambda exchange: exchange.answer(302, b"", Location=other.url + exchange.path)
        done = fails(MLFLOW_TRACKING_URI=proxy.url)

    assert done.last == (
        f"error: {proxy.url} redirects to another address (HTTP 302); "
        "set MLFLOW_TRACKING_URI to the final address, because a login is not sent on"
    )
    assert other.asked == []


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (500, f"answers HTTP 500 (out of order); {TRY_AGAIN.replace('again', 'again later')}"),
        (503, f"answers HTTP 503 (out of order); {TRY_AGAIN.replace('again', 'again later')}"),
        (429, "answers HTTP 429 (out of order): too many requests; import again later"),
    ],
)
def test_server_in_trouble(fails: Fails, proxy: Proxy, status: int, line: str) -> None:
    """A trouble that stays; the pauses are those that the server asks for."""
    body = b'{"message": "out of order"}'
    proxy.fault = lambda exchange: exchange.answer(status, body, Retry_After="0")
    done = fails(MLFLOW_TRACKING_URI=proxy.url)

    assert done.last == f"error: {proxy.url} {line}"
    assert len(proxy.asked) == 4
    assert done.err.count("; trying again in 0.0 s\n") == 3


def test_trouble_that_passes(run: Run, proxy: Proxy) -> None:
    """One bad answer of each kind, a cut listing and a cut file, and the import is done."""
    troubles: list[Fault] = [
        lambda exchange: exchange.answer(503, b"", Retry_After="1"),
        lambda exchange: exchange.relay(cut=10),
        lambda exchange: exchange.answer(429, b""),
    ]
    in_files: list[Fault] = [
        lambda exchange: exchange.relay(cut=10),
        lambda exchange: exchange.relay(cut=10, length=False),
    ]

    def fault(exchange: Exchange) -> bool:
        due = in_files if FILE in exchange.path else troubles
        return bool(due) and due.pop(0)(exchange)

    proxy.fault = fault
    done = run(MLFLOW_TRACKING_URI=proxy.url)

    assert done.status == 0
    assert done.out.startswith("irismodel:v1-")
    again = [line for line in done.err.splitlines() if "; trying again in " in line]
    assert len(again) == 5
    assert again[0].startswith(f"{proxy.url} answers HTTP 503; import again later")
    assert again[0].endswith("trying again in 1.0 s")
    assert again[1].startswith(f"the connection to {proxy.url} broke (IncompleteRead(10 bytes read")
    assert again[2].startswith(f"{proxy.url} answers HTTP 429: too many requests")
    assert again[3].startswith("the download of MLmodel broke after 0 of ")
    assert again[4].startswith("the download of MLmodel broke after 10 of ")


@pytest.mark.parametrize(("length", "arrived"), [(True, 0), (False, 100)])
def test_broken_download(fails: Fails, proxy: Proxy, length: bool, arrived: int) -> None:
    """A file that never arrives whole; where its length is told, no piece of it is taken."""
    proxy.fault = on_files(
        lambda exchange: "MLmodel" in exchange.path and exchange.relay(cut=100, length=length)
    )
    done = fails(MLFLOW_TRACKING_URI=proxy.url)

    size = len(httpx.get(proxy.upstream + proxy.asked[-1][0]).content)
    assert done.last == (
        f"error: the download of MLmodel broke after {arrived} of {size} bytes; {TRY_AGAIN}"
    )
    assert done.err.count(f"\nthe download of MLmodel broke after {arrived} of") == 3


def test_corrupt_download(fails: Fails, proxy: Proxy) -> None:
    """A model file with one byte changed on the way has the right size, and is still refused."""
    proxy.fault = on_files(
        lambda exchange: "model.skops" in exchange.path and exchange.relay(corrupt=True)
    )
    done = fails(MLFLOW_TRACKING_URI=proxy.url)

    assert done.last.startswith("error: the model file is not a sound skops archive (")
    assert done.last.endswith("); log and register the model again")


def test_file_longer_than_listed(fails: Fails, proxy: Proxy) -> None:
    """More bytes than the listing has are not taken."""
    proxy.fault = on_files(lambda exchange: exchange.relay(extra=b"x"))
    done = fails(MLFLOW_TRACKING_URI=proxy.url)

    size = len(httpx.get(proxy.upstream + proxy.asked[-1][0]).content)
    assert done.last == (
        f"error: MLmodel is longer than the {size} bytes that the proxy lists; "
        "was the model changed just now? import again, or log it again"
    )


def test_model_too_large(fails: Fails) -> None:
    """The bytes of all files are held against the limit before the first one is fetched."""
    done = fails(IRIS_IMPORT_MAX_BYTES="1KiB")

    assert done.last.startswith("error: the model has ")
    assert done.last.endswith(
        " bytes and IRIS_IMPORT_MAX_BYTES allows 1024; "
        "raise it if the model is meant to be this large"
    )
    assert "fetching" not in done.err


def test_setting_that_is_wrong(fails: Fails) -> None:
    """Variables that cannot be understood are named."""
    ours = fails(status=2, IRIS_IMPORT_MAX_BYTES="much")
    theirs = fails(MLFLOW_HTTP_REQUEST_TIMEOUT="soon")

    assert ours.last == (
        "error: IRIS_IMPORT_MAX_BYTES: could not parse value and unit from byte string, got 'much'"
    )
    assert theirs.last == (
        "error: a variable of MLflow is wrong: "
        "Failed to convert 'soon' for MLFLOW_HTTP_REQUEST_TIMEOUT: "
        "invalid literal for int() with base 10: 'soon'"
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ended_by_a_signal(fails: Fails, proxy: Proxy, number: signal.Signals, status: int) -> None:
    """Ctrl-C, or an orchestrator, in the middle of a download."""

    def end(_exchange: Exchange) -> bool:
        os.kill(os.getpid(), number)
        return False

    proxy.fault = on_files(first(1, lambda exchange: end(exchange) or delayed(2)(exchange)))
    done = fails(status=status, MLFLOW_TRACKING_URI=proxy.url)

    assert done.last == f"error: ended by {number.name}; the store is as it was"


def test_signal_too_late(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the two last renames nothing ends an import: it is done, and says so."""
    home = tmp_path / "new"
    publish = iris_api.store.active_version.publish

    def late(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return publish(*arguments)

    monkeypatch.setattr(iris_api.store.active_version, "publish", late)
    done = run(BENTOML_HOME=str(home))

    assert done.status == 0, done.err
    active = (home / "models/irismodel/latest").read_text("utf-8")
    assert done.out == f"irismodel:{active}\n"
    assert staged(home) == []


def test_quiet_in_a_log(run: Run, tracking: Tracking, tmp_path: Path) -> None:
    """A log gets five lines, whole."""
    done = run(BENTOML_HOME=str(tmp_path / "new"))

    lines = done.err.splitlines()
    assert done.status == 0
    assert lines[:2] == [
        "importing models:/IrisModel/Production",
        "models:/IrisModel/Production is version 1, stage Production",
    ]
    assert lines[2].startswith("fetching 8 files, ")
    assert lines[2].endswith(f" bytes, through {tracking.url}")
    assert lines[3].startswith("compiled to ONNX and proved on ")
    assert lines[4:] == [f"{done.out.strip()} is stored"]


def test_two_at_once(tracking: Tracking, tmp_path: Path) -> None:
    """Two imports at once print the same tag and leave one entry; one shows its progress.

    A terminal sees the bytes arrive, a log does not, and standard output is the tag alone.
    """
    env = tracking.env | {"BENTOML_HOME": str(tmp_path)}
    command = [sys.executable, "import_model.py"]
    with subprocess.Popen(
        command, cwd=servers.ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as logged:
        shown, out, status = _on_a_terminal(command, env)
        other_out, log = logged.communicate()

    assert (status, logged.returncode) == (0, 0), (shown, log)
    assert out == other_out
    (entry,) = tmp_path.glob("models/irismodel/v*")
    assert out == f"irismodel:{entry.name}\n".encode()
    assert staged(tmp_path) == []
    assert shown.count(b"% of ") == 8
    assert b"100% of " in shown
    assert b"% of " not in log


def _on_a_terminal(command: list[str], env: dict[str, str]) -> tuple[bytes, bytes, int]:
    """Run a command with its standard error on a terminal; return that, its output and status."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, cwd=servers.ROOT, env=env, stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal's end, on Linux
            while piece := os.read(ours, 4096):
                shown += piece
        os.close(ours)
        out, _ = process.communicate()
        return shown, out, process.returncode


def test_engine_of_a_known_version(fails: Fails, store: Path) -> None:
    """A version that is there with another engine is not passed off as the one asked for."""
    (entry,) = (store / "models/irismodel").glob("v1-*")
    done = fails("--engine", "sklearn")

    tag = f"irismodel:{entry.name}"
    assert done.last == (
        f"error: {tag} is in the store with the engine onnx; to change it to sklearn, "
        f"run bentoml models delete {tag} and import again"
    )


def test_path_prefix(run: Run, tracking: Tracking) -> None:
    """A tracking server below a path of a reverse proxy."""
    with proxies.proxy(tracking.url, prefix="/tools/mlflow") as prefixed:
        done = run(MLFLOW_TRACKING_URI=f"{prefixed.url}/")

    assert done.status == 0
    assert all(path.startswith("/tools/mlflow/api/2.0/") for path, _ in prefixed.asked)

"""Each failure of an import is one line that says how to fix it, and leaves the store alone."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from conftest import Tracking
from support import proxies, registered, servers, warm
from support.proxies import FILE, Exchange, Fault, Proxy, delayed, on_files
from support.warm import Fails, Run, snapshot, staged

pytestmark = pytest.mark.thorough

NO_SERVER = (
    "MLFLOW_TRACKING_URI is {!r} and must be the http:// or https:// address of a tracking server "
    "with --serve-artifacts, because the model is fetched through it"
)
TRY_LATER = "import again later, or read the server's log"


@pytest.fixture(scope="module")
def proxied(tracking: Tracking) -> Iterator[Proxy]:
    """Run a proxy in front of the tracking server."""
    with proxies.proxy(tracking.url) as proxy:
        yield proxy


@pytest.fixture
def proxy(proxied: Proxy) -> Proxy:
    """Return the proxy without a fault."""
    proxied.fault = proxies.no_fault
    proxied.asked.clear()
    return proxied


@pytest.mark.parametrize(
    ("env", "hint"),
    [({}, ""), ({"BENTO_PATH": "/"}, " In a container this address is the container itself.")],
    ids=["here", "container"],
)
def test_connection_refused(fails: Fails, env: dict[str, str], hint: str) -> None:
    """Without a server, each of the three retries is logged."""
    url = f"http://127.0.0.1:{servers.free_port()}"
    done = fails(MLFLOW_TRACKING_URI=url, **env)

    line = f"{url} refuses the connection; is the server running, and MLFLOW_TRACKING_URI right?"
    line += hint
    assert done.error == line
    assert done.stderr.count(f"\n{line}; trying again in 0.") == 3


NOWHERE = {
    "MLFLOW_TRACKING_URI=": "MLFLOW_TRACKING_URI is not set; set it to http://HOST:5000",
    "MLFLOW_TRACKING_URI=file:///tmp/mlruns": NO_SERVER.format("file:///tmp/mlruns"),
    "MLFLOW_TRACKING_URI=sqlite:///mlflow.db": NO_SERVER.format("sqlite:///mlflow.db"),
    "MLFLOW_TRACKING_URI=mlruns": NO_SERVER.format("mlruns"),
    "MLFLOW_TRACKING_URI=localhost:5000": NO_SERVER.format("localhost:5000"),
    "MLFLOW_TRACKING_URI=ann:p@ss@host:5000?token=a": NO_SERVER.format("host:5000"),
    "MLFLOW_TRACKING_URI=http://[1:2": NO_SERVER.format("http://[1:2"),
    "MLFLOW_TRACKING_URI=http://host:port": NO_SERVER.format("http://host:port"),
    "MLFLOW_TRACKING_URI=http://iris.invalid:5000": (
        "the host of http://iris.invalid:5000 is unknown; is MLFLOW_TRACKING_URI spelled right?"
    ),
    # Nothing listens on port 1, which is reserved.
    "MLFLOW_TRACKING_URI=http://a.example HTTP_PROXY=http://me:hidden-word@127.0.0.1:1 NO_PROXY=": (
        "the HTTP proxy for http://a.example does not answer; "
        "set HTTP_PROXY and HTTPS_PROXY right, or add the server's host to NO_PROXY"
    ),
    "MLFLOW_HTTP_REQUEST_TIMEOUT=soon": (
        "a variable of MLflow is wrong: Failed to convert 'soon' for "
        "MLFLOW_HTTP_REQUEST_TIMEOUT: invalid literal for int() with base 10: 'soon'"
    ),
}


@pytest.mark.parametrize(("variables", "line"), NOWHERE.items())
def test_environment(fails: Fails, variables: str, line: str) -> None:
    """An address or a variable that leads to no tracking server; a login in it stays secret."""
    env = dict(variable.split("=", 1) for variable in variables.split(" "))
    done = fails(**{"NO_PROXY": "*", **env})

    assert done.error == line
    assert "hidden-word" not in done.stderr


def test_setting_that_is_wrong(fails: Fails) -> None:
    """A variable of ours that cannot be parsed is wrong usage."""
    assert fails(status=2, IRIS_IMPORT_MAX_BYTES="much").error == (
        "IRIS_IMPORT_MAX_BYTES: could not parse value and unit from byte string, got 'much'"
    )


@pytest.mark.parametrize(
    ("fault", "arguments", "line"),
    [
        (
            delayed(3),
            [],
            (
                "URL did not answer in time; is it overloaded? "
                "MLFLOW_HTTP_REQUEST_TIMEOUT sets the seconds to wait"
            ),
        ),
        (
            on_files(delayed(3)),
            ["--timeout", "1"],
            "not done after 1 s; is the server slow? --timeout sets the limit",
        ),
        (
            lambda exchange: exchange.answer(200, b"<html>welcome</html>"),
            [],
            "URL does not answer like an MLflow tracking server; is MLFLOW_TRACKING_URI right?",
        ),
    ],
    ids=["slow answer", "slow import", "web page"],
)
def test_another_answer(
    fails: Fails, proxy: Proxy, fault: Fault, arguments: list[str], line: str
) -> None:
    """A server that is too slow, or is no tracking server."""
    proxy.fault = fault
    timeout = {} if arguments else {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1"}
    done = fails(*arguments, MLFLOW_TRACKING_URI=proxy.url, **timeout)

    assert done.error.replace(proxy.url, "URL") == line


def test_name_that_the_server_does_not_accept(fails: Fails, proxy: Proxy) -> None:
    """MLflow answers 403 to unknown host names; the proxy of HTTP_PROXY passes the name on."""
    name = "tracking.example:5000"
    done = fails(MLFLOW_TRACKING_URI=f"http://{name}", HTTP_PROXY=proxy.url, NO_PROXY="")

    assert proxy.asked[0][0].startswith(f"http://{name}/api/")
    assert done.error == (
        f"http://{name} does not accept the name {name} (HTTP 403 Invalid Host header); "
        f"start it with --allowed-hosts {name}"
    )


def test_proxy_is_off(
    fails: Fails, tracking: Tracking, plain_env: dict[str, str], tmp_path: Path
) -> None:
    """A server with --no-serve-artifacts is not asked again; what it stores is out of reach."""
    options = ("--no-serve-artifacts", "--default-artifact-root", str(tmp_path))
    database = tracking.folder / "mlflow.db"
    with servers.mlflow_server(tmp_path, *options, env=plain_env, database=database) as server:
        done = fails(MLFLOW_TRACKING_URI=server.url)
        registered.use(server.url)
        mlflow.set_experiment("local")
        registered.log("Local")
    local = fails("models:/Local/1")

    assert local.error.startswith(f"the registry says that the files are at '{tmp_path}/")
    assert local.error.endswith(
        ", which no server passes on, because the experiment was made without --serve-artifacts; "
        "start the tracking server with --serve-artifacts and without --default-artifact-root, so "
        "that new experiments begin with mlflow-artifacts:/, "
        "and log and register the model again in a new experiment"
    )
    assert done.error == f"{server.url} does not serve artifacts; start it with --serve-artifacts"
    assert "again" not in done.stderr


@pytest.mark.parametrize(
    ("status", "body", "line"),
    [
        (500, b'{"message": "out of order"}', f"HTTP 500 (out of order); {TRY_LATER}"),
        (503, b"no server\nbehind it", f"HTTP 503 (no server behind it); {TRY_LATER}"),
        (502, b"<html>Bad Gateway</html>", f"HTTP 502; {TRY_LATER}"),
        (429, b"slow down", "HTTP 429 (slow down): too many requests; import again later"),
    ],
)
def test_server_in_trouble(fails: Fails, proxy: Proxy, status: int, body: bytes, line: str) -> None:
    """Errors that stay; the pauses are those that the server asks for."""
    proxy.fault = lambda exchange: exchange.answer(status, body, Retry_After="0")
    done = fails(MLFLOW_TRACKING_URI=proxy.url)

    assert done.error == f"{proxy.url} answers {line}"
    assert len(proxy.asked) == 4
    assert done.stderr.count("; trying again in 0.0 s\n") == 3


def test_trouble_that_passes(run: Run, proxy: Proxy) -> None:
    """One bad answer of each kind, a cut listing and cut files, and the import succeeds."""
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
    assert done.stdout.startswith("irismodel:v1-")
    again = [line for line in done.stderr.splitlines() if "; trying again in " in line]
    assert len(again) == 5
    assert again[0].startswith(f"{proxy.url} answers HTTP 503; import again later")
    assert again[0].endswith("trying again in 1.0 s")
    assert again[1].startswith(f"the connection to {proxy.url} broke (IncompleteRead(10 bytes read")
    assert again[2].startswith(f"{proxy.url} answers HTTP 429: too many requests")
    assert again[3].startswith("the download of MLmodel broke after 0 of ")
    assert again[4].startswith("the download of MLmodel broke after 10 of ")


def test_file_that_cannot_be_sent(fails: Fails, proxy: Proxy) -> None:
    """A file that fails again and again, while the server works, is named.

    MLflow 3.1 breaks the connection for a file with a name beyond Latin-1, such as Tribeč.txt.
    """
    proxy.fault = on_files(
        lambda exchange: "requirements.txt" in exchange.path and exchange.hang_up()
    )
    done = fails(MLFLOW_TRACKING_URI=proxy.url)

    assert "import again" not in done.error
    assert done.error == (
        "the server lists the file requirements.txt and cannot send it (the connection to "
        f"{proxy.url} broke (Remote end closed connection without response)); "
        "log and register the model again without it, or read the server's log"
    )


def test_server_without_stages(fails: Fails, proxy: Proxy) -> None:
    """Where there are no stages, aliases are named; where there is no server, its address."""
    page = b"<title>404 Not Found</title>"
    proxy.fault = lambda exchange: "latest-versions" in exchange.path and exchange.answer(404, page)
    without = fails(MLFLOW_TRACKING_URI=proxy.url)
    nobody = fails("models:/Nobody/Production", MLFLOW_TRACKING_URI=proxy.url)
    proxy.fault = lambda exchange: exchange.answer(404, page)
    nowhere = fails(MLFLOW_TRACKING_URI=proxy.url)

    assert without.error == (
        f"{proxy.url} has no stages; set an alias of IrisModel and use it: models:/IrisModel@ALIAS"
    )
    assert nobody.error == (
        f"models:/Nobody/Production is not in the registry of {proxy.url}: "
        "Registered Model with name=Nobody not found"
    )
    assert nowhere.error == f"{proxy.url} answers HTTP 404; is MLFLOW_TRACKING_URI right?"


def test_server_that_hangs(fails: Fails, proxy: Proxy) -> None:
    """A file that is long in coming is named before the time is over."""
    proxy.fault = on_files(delayed(30))
    done = fails("--timeout", "5", MLFLOW_TRACKING_URI=proxy.url)

    assert done.stderr.splitlines()[-2:] == [
        "still waiting for MLmodel",
        "error: not done after 5 s; is the server slow? --timeout sets the limit",
    ]


def test_registry_that_hangs(fails: Fails, proxy: Proxy) -> None:
    """By default a request without an answer is sent again, and logged, after some 10 s."""
    proxy.fault = delayed(20)
    done = fails("--timeout", "15", MLFLOW_TRACKING_URI=proxy.url)

    assert done.error == "not done after 15 s; is the server slow? --timeout sets the limit"
    assert (
        f"\n{proxy.url} did not answer in time; is it overloaded? "
        "MLFLOW_HTTP_REQUEST_TIMEOUT sets the seconds to wait; trying again in 0.0 s\n"
    ) in done.stderr


def test_corrupt_download(fails: Fails, proxy: Proxy) -> None:
    """A model file with one wrong byte has the right size, and is still rejected."""
    proxy.fault = on_files(
        lambda exchange: "model.skops" in exchange.path and exchange.relay(corrupt=True)
    )
    done = fails(MLFLOW_TRACKING_URI=proxy.url)

    assert done.last.startswith("error: the model file is not a sound skops archive (")
    assert done.last.endswith("); log and register the model again")


def test_model_too_large(fails: Fails) -> None:
    """A model that is too large is rejected before the first file is fetched."""
    done = fails(IRIS_IMPORT_MAX_BYTES="1KiB")

    assert " bytes and IRIS_IMPORT_MAX_BYTES allows 1024; raise it" in done.error
    assert "fetching" not in done.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ended_by_a_signal(
    tracking: Tracking,
    store: Path,
    tmp_path: Path,
    proxy: Proxy,
    number: signal.Signals,
    status: int,
) -> None:
    """Ctrl-C, or an orchestrator, in the middle of a download."""
    proxy.fault = on_files(delayed(2))
    before = snapshot(store)
    env = tracking.env | {"BENTOML_HOME": str(store), "MLFLOW_TRACKING_URI": proxy.url}
    process = warm.start(tmp_path, env=env)
    servers.wait_for(lambda: any(FILE in path for path, _ in proxy.asked))
    os.kill(process.pid or 0, number)
    done = warm.end(process, tmp_path)

    assert (done.status, done.stdout) == (status, "")
    assert done.error == f"ended by {number.name}; the store is as it was"
    assert snapshot(store) == before
    assert staged(store) == []


def test_quiet_in_a_log(run: Run, tracking: Tracking, tmp_path: Path) -> None:
    """A log gets five whole lines."""
    done = run(BENTOML_HOME=str(tmp_path / "new"))

    lines = done.stderr.splitlines()
    assert done.status == 0
    assert lines[:2] == [
        "importing models:/IrisModel/Production",
        "models:/IrisModel/Production is version 1, stage Production",
    ]
    assert lines[2].startswith("fetching 8 files, ")
    assert lines[2].endswith(f" bytes, through {tracking.url}")
    assert lines[3].startswith("compiled to ONNX and proved on ")
    assert lines[4:] == [f"{done.stdout.strip()} is stored"]


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
    assert b"\x1b[32mdone\x1b[0m, " in shown
    assert b"compiling and proving" in shown
    assert b"\x1b" not in log
    assert b"compiling and proving" not in log


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
    """An entry with another engine than the requested one is an error."""
    (entry,) = (store / "models/irismodel").glob("v1-*")
    done = fails("--engine", "sklearn")

    tag = f"irismodel:{entry.name}"
    assert done.error == (
        f"{tag} is in the store with the engine onnx; to change it to sklearn, "
        f"run rm -r {entry}, then import again"
    )


def test_path_prefix(run: Run, tracking: Tracking) -> None:
    """A tracking server below a path of a reverse proxy."""
    with proxies.proxy(tracking.url, prefix="/tools/mlflow") as prefixed:
        done = run(MLFLOW_TRACKING_URI=f"{prefixed.url}/")

    assert done.status == 0
    assert all(path.startswith("/tools/mlflow/api/2.0/") for path, _ in prefixed.asked)

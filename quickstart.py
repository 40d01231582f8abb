"""A local registry, a trained model, its import, the service and a watch, in one process tree.

With MLFLOW_TRACKING_URI set, that server is used and none is started. Ctrl-C stops all that was
started here; the registry is kept in .quickstart for the next time.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from iris_api.errors import IrisError
from iris_api.model_uri import ModelURI
from iris_api.settings import settings

HERE = Path(__file__).resolve().parent
STATE = HERE / ".quickstart"
START_SECONDS = 120
STOP_SECONDS = 30

WATCH_SECONDS = 5
"""Between two looks at the registry; the service looks at the store as often."""

CURL = """\
  curl -s http://127.0.0.1:{port}/predict -H 'Content-Type: application/json' \\
    -d '{{"sepal_length":5.1,"sepal_width":3.5,"petal_length":1.4,"petal_width":0.2}}'
"""


class QuickstartError(IrisError):
    """A step that did not work; the message says where to look."""


def main() -> int:
    """Bring everything up, and keep it up until a signal or the end of the service."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # all of them end as Ctrl-C does
    try:
        with contextlib.ExitStack() as started:
            return _run(started)
    except KeyboardInterrupt:
        print("\nstopped", flush=True)
        return 0
    except IrisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(started: contextlib.ExitStack) -> int:
    port = settings().port
    uri = ModelURI.parse(settings().model_uri)
    _claim(port, "IRIS_PORT")
    tracking_uri = os.environ.get("MLFLOW_TRACKING_URI")
    if tracking_uri:
        _step("the MLflow server of MLFLOW_TRACKING_URI is used")
    else:
        mlflow_port = settings().mlflow_port
        _claim(mlflow_port, "IRIS_MLFLOW_PORT")
        tracking_uri = os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{mlflow_port}"
        _step(f"starting an MLflow server on port {mlflow_port}, with its data in {STATE.name}/")
        _start_mlflow(started, mlflow_port)
    if not _is_registered(uri.name):
        _step(f"training {uri.name}, because the registry has none")
        _command("train_model.py", "--name", uri.name)
    _step(f"importing {uri.text} into the BentoML model store")
    tag = _command("import_model.py")
    command = [sys.executable, "import_model.py", "--watch", str(WATCH_SECONDS)]
    started.enter_context(_process(command))
    _step(f"serving {tag} on port {port}")
    service = _start_service(started, port)
    print(
        f"\n  service  http://127.0.0.1:{port}\n"
        f"  metrics  http://127.0.0.1:{port}/metrics\n"
        f"  MLflow   {_without_login(tracking_uri)}\n\n"
        f"{CURL.format(port=port)}\n"
        "Promote another version in MLflow, and it is served some seconds later.\n"
        "Ctrl-C stops it.",
        flush=True,
    )
    return service.wait()


def _step(line: str) -> None:
    print(f"==> {line}", flush=True)


def _claim(port: int, variable: str) -> None:
    """Fail early where a port is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise QuickstartError(
                f"port {port} is taken; choose another one with {variable}=PORT"
            ) from None


def _start_mlflow(started: contextlib.ExitStack, port: int) -> None:
    STATE.mkdir(exist_ok=True)
    log = STATE / "mlflow.log"
    command = [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{STATE / 'mlflow.db'}"),
        *("--serve-artifacts", "--artifacts-destination", str(STATE / "artifacts")),
    ]
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # processes of no use here
    process = started.enter_context(_process(command, log))
    import_module("iris_api.registry.client")  # for the next step; takes seconds
    _wait_for(f"http://127.0.0.1:{port}/health", process, log)


def _start_service(started: contextlib.ExitStack, port: int) -> "subprocess.Popen[bytes]":
    command = [
        *(sys.executable, "-m", "bentoml", "serve", "service:IrisClassifier"),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    process = started.enter_context(_process(command))
    _wait_for(f"http://127.0.0.1:{port}/readyz", process)
    return process


@contextlib.contextmanager
def _process(command: list[str], log: Path | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server in a session of its own, and end that session with the block.

    In a session of its own it does not get the terminal's Ctrl-C, so that we decide on the order.
    """
    with contextlib.ExitStack() as files:
        out = files.enter_context(log.open("wb")) if log else None
        process = subprocess.Popen(
            command,
            cwd=HERE,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"process {process.pid} does not stop; killing it", file=sys.stderr)
        # What the server itself started and left.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path | None = None) -> None:
    deadline = time.monotonic() + START_SECONDS
    see = f"; see {log}" if log else ""
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise QuickstartError(f"the server for {url} ended with {process.returncode}{see}")
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 (our own http URL)
                return
        except OSError:  # URLError is one
            time.sleep(0.2)
    raise QuickstartError(f"{url} did not answer within {START_SECONDS} s{see}")


def _is_registered(name: str) -> bool:
    # mlflow takes seconds to import: a port that is taken is told before.
    from iris_api.registry.client import TrackingServer  # noqa: PLC0415
    from iris_api.registry.error_messages import NotFoundError  # noqa: PLC0415

    server = TrackingServer(os.environ["MLFLOW_TRACKING_URI"], _step)
    try:
        server.get_json("/api/2.0/mlflow/registered-models/get", {"name": name})
    except NotFoundError:
        return False
    return True


def _command(script: str, *arguments: str) -> str:
    """Run one of our command lines and return what it prints on standard output."""
    done = subprocess.run(
        [sys.executable, script, *arguments],
        cwd=HERE,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise QuickstartError(f"{script} failed, see above")
    return done.stdout.strip()


def _without_login(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


if __name__ == "__main__":
    sys.exit(main())

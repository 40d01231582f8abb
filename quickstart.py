"""Start a local registry, train and import a model, serve it, and follow the registry.

With MLFLOW_TRACKING_URI set, that server is used and none is started. Ctrl-C stops everything that
was started here; the registry's data stays in .quickstart for the next time.
"""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from iris_api import terminal
from iris_api.errors import IrisError
from iris_api.model_uri import ModelURI
from iris_api.settings import settings

STATE = Path(__file__).resolve().parent / ".quickstart"

FOLLOWED = "models:/IrisModel@champion"
"""The model URI for a registry that is started here. train_model.py gives its versions an alias and
a stage, and MLflow's page shows stages only on request."""

logger = logging.getLogger("iris_api.quickstart")

START_SECONDS = 120
"""Time for a server to answer."""

STOP_SECONDS = 30
"""Time for a server to stop before it is killed."""

POLL_SECONDS = 5
"""Interval of the watch; the service checks the store as often."""

READY = """
  service  http://127.0.0.1:{port}
  metrics  http://127.0.0.1:{port}/metrics
  MLflow   {mlflow}

  curl -s http://127.0.0.1:{port}/predict -H 'Content-Type: application/json' \\
    -d '{{"sepal_length":5.1,"sepal_width":3.5,"petal_length":1.4,"petal_width":0.2}}'

  python import_model.py promote models:/{name}/VERSION --service http://127.0.0.1:{port}

promotes another version, as MLflow's page does. The service follows {uri}.
Ctrl-C stops it."""


def main() -> int:
    """Start everything, and keep it running until a signal or the end of the service."""
    terminal.configure()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with contextlib.ExitStack() as started:
            return _run(started)
    except KeyboardInterrupt:
        logger.debug("interrupted", extra=terminal.ENDED)
        logger.info("everything that was started here has stopped")
        return 0
    except IrisError as error:
        logger.error("error: %s", error)  # noqa: TRY400 (no traceback)
        return 1


def _run(started: contextlib.ExitStack) -> int:
    os.chdir(STATE.parent)
    port, mlflow_port = settings().port, settings().mlflow_port
    if not (settings().tracking_uri or os.environ.get("IRIS_MODEL_URI")):
        os.environ["IRIS_MODEL_URI"] = FOLLOWED
        settings.cache_clear()
    uri = ModelURI.parse(settings().model_uri)
    _check_free(port, "IRIS_PORT")
    if settings().tracking_uri:
        _step("the MLflow server of MLFLOW_TRACKING_URI is used")
    else:
        _check_free(mlflow_port, "IRIS_MLFLOW_PORT")
        os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{mlflow_port}"
        for foreign in ("MLFLOW_REGISTRY_URI", "MLFLOW_WORKSPACE"):
            os.environ.pop(foreign, None)
        settings.cache_clear()
        line = f"starting an MLflow server on port {mlflow_port}, with its data in {STATE.name}/"
        _step(line, waits=True)
        _start_mlflow(started, mlflow_port)
    # mlflow takes seconds to import: a taken port is reported before.
    from iris_api.registry.servers import Servers  # noqa: PLC0415
    from iris_api.registry.versions import has_model  # noqa: PLC0415

    servers = Servers.read(settings())
    if not has_model(servers.registry, uri.name):
        _step(f"training {uri.name}, because the registry has none")
        _run_script("train_model.py", "--name", uri.name)
    _step(f"importing {uri.text} into the BentoML model store")
    tag = _run_script("import_model.py")
    started.enter_context(_process("import_model.py", "--watch", str(POLL_SECONDS)))
    _step(f"serving {tag} on port {port}", waits=True)
    bentoml = ["-m", "bentoml", "serve", "service:IrisClassifier"]
    if sys.stdout.isatty():
        bentoml.append("--quiet")  # our own lines, and errors
    service = started.enter_context(_process(*bentoml, "--host", "127.0.0.1", "--port", str(port)))
    _wait_for(f"http://127.0.0.1:{port}/readyz", service)
    mlflow = servers.tracking.address
    logger.info("%s", READY.format(port=port, mlflow=mlflow, name=uri.name, uri=uri.text))
    return service.wait()


def _step(line: str, *, waits: bool = False) -> None:
    """Log the step that begins; the programs that it starts log their own."""
    logger.info("==> %s", line, extra=terminal.STEP if waits else None)


def _check_free(port: int, variable: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise IrisError(
                f"port {port} is taken; choose another one with {variable}=PORT"
            ) from None


def _start_mlflow(started: contextlib.ExitStack, port: int) -> None:
    STATE.mkdir(exist_ok=True)
    log = STATE / "mlflow.log"
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # several processes, not needed here
    process = started.enter_context(
        _process(
            *("-m", "mlflow", "server"),
            *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{STATE / 'mlflow.db'}"),
            *("--serve-artifacts", "--artifacts-destination", str(STATE / "artifacts")),
            log=log,
        )
    )
    _wait_for(f"http://127.0.0.1:{port}/health", process, f"; see {log}")


@contextlib.contextmanager
def _process(*arguments: str, log: Path | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """Run Python in a session of its own, and end that session with the block.

    So it does not get the terminal's Ctrl-C, and everything stops in the reverse order.
    """
    with log.open("wb") if log else contextlib.nullcontext() as out:
        process = subprocess.Popen(
            [sys.executable, *arguments],
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
            logger.warning("process %d does not stop; killing it", process.pid)
        # Also what the server itself started and left.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(url: str, process: "subprocess.Popen[bytes]", see: str = "") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise IrisError(f"the server for {url} ended with {process.returncode}{see}")
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 (our own http URL)
                return
        except OSError:  # URLError is one
            time.sleep(0.2)
    raise IrisError(f"{url} did not answer within {START_SECONDS} s{see}")


def _run_script(*command: str) -> str:
    """Run one of our command lines, and return what it prints on standard output."""
    try:
        return subprocess.check_output([sys.executable, *command], text=True).strip()
    except subprocess.CalledProcessError:
        raise IrisError(f"{command[0]} failed, see above") from None


if __name__ == "__main__":
    sys.exit(main())

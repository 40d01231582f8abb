"""Real servers for the tests: on free ports, with log files, stopped by their process id."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[2]
CROWD = ("127.0.0.2" if sys.platform == "linux" else "127.0.0.1", 0)
"""Source address of many clients, so that they never take the port of another test's server."""

START_SECONDS = 120
STOP_SECONDS = 30


@dataclass(frozen=True)
class Server:
    """A running server: its address, its log and its process."""

    url: str
    log: Path
    process: "subprocess.Popen[bytes]"


Serve = Callable[..., contextlib.AbstractContextManager[Server]]
"""Runs the service with a store of its own, and with variables given as keyword arguments."""


def free_port() -> int:
    """Return a free port below those that the system gives to outgoing connections."""
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    url: str,
    ready: str,
    log: Path,
    env: Mapping[str, str],
    cwd: Path = ROOT,
) -> Iterator[Server]:
    """Run a server in its own session until the block ends, and print its log when it fails."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdout=out, stderr=out, start_new_session=True
        )
    try:
        wait_until_ready(process, url + ready, log)
        yield Server(url, log, process)
    except BaseException:
        print(f"--- {log}\n{log.read_text(errors='replace')[-5000:]}")
        raise
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_until_ready(
    process: "subprocess.Popen[bytes]", url: str, log: Path, seconds: float = START_SECONDS
) -> None:
    """Wait until a URL answers with a success status."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}, see {log}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=5).is_success:
                return
        time.sleep(0.1)
    raise RuntimeError(f"{url} did not answer within {seconds} s, see {log}")


@contextlib.contextmanager
def mlflow_server(
    folder: Path,
    *options: str,
    env: Mapping[str, str],
    database: Path | None = None,
    host: str = "127.0.0.1",
) -> Iterator[Server]:
    """Run a tracking server with SQLite and a folder of artifacts.

    Args:
        folder: The log goes here, and without `database` the data too.
        options: Command-line options in the place of `--serve-artifacts`.
        env: The environment of the process.
        database: The SQLite file of another server, next to its artifacts, to serve its models.
        host: The local address to listen on.
    """
    database = database or folder / "mlflow.db"
    port = free_port()
    command = [
        *(sys.executable, str(Path(__file__).with_name("mlflow_server.py")), "server"),
        *("--host", host, "--port", str(port), "--workers", "1"),
        *(
            ()
            if "--artifacts-only" in options
            else ("--backend-store-uri", f"sqlite:///{database}")
        ),
        *("--artifacts-destination", str(database.parent / "artifacts")),
        *(options or ("--serve-artifacts",)),
    ]
    url = f"http://{host}:{port}"
    env = {
        **env,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }  # five processes that no test needs
    with running(command, url=url, ready="/health", log=folder / "mlflow.log", env=env) as server:
        yield server


@contextlib.contextmanager
def bentoml_service(
    log: Path,
    *options: str,
    env: Mapping[str, str],
    target: str = "service:IrisClassifier",
    cwd: Path = ROOT,
    port: int | None = None,
    scheme: str = "http",
    files: int | None = None,
) -> Iterator[Server]:
    """Run the service with `bentoml serve`, with one worker unless `env` sets another number.

    Args:
        log: The file that the output goes to.
        options: Command-line options of `bentoml serve`.
        env: The environment of the process.
        target: The service or Bento.
        cwd: The working directory.
        port: The port to listen on; a free one by default.
        scheme: The scheme of the returned URL.
        files: The limit of open file descriptors of each process.
    """
    port = port or free_port()
    env = {"IRIS_WORKERS": "1", **env}
    command = [
        *(sys.executable, "-m", "bentoml", "serve", target),
        *("--host", "127.0.0.1", "--port", str(port)),
        *options,
    ]
    if files:
        command = ["bash", "-c", f'ulimit -n {files} && exec "$@"', "bash", *command]
    url = f"{scheme}://127.0.0.1:{port}"
    with running(command, url=url, ready="/readyz", log=log, env=env, cwd=cwd) as server:
        yield server


def workers(server: Server) -> list[psutil.Process]:
    """Return the worker processes of a service."""
    found = []
    for child in psutil.Process(server.process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # ended just now, a zombie included
            if "_bentoml_impl.worker.service" in child.cmdline():
                found.append(child)
    return found


def wait_for_starts(server: Server, count: int) -> None:
    """Wait until so many workers were started, including replacements; the first makes it ready."""
    wait_for(lambda: server.log.read_text().count("Completed async startup") == count)


def clients(worker: psutil.Process) -> int:
    """Return how many clients are connected to a worker."""
    return sum(each.status == psutil.CONN_ESTABLISHED for each in worker.net_connections("tcp"))


def fails_to_start(*options: str, env: Mapping[str, str]) -> str:
    """Start a service that must end with status 1 and no traceback, and return its output."""
    target = ("service:IrisClassifier", "--host", "127.0.0.1", "--port", str(free_port()))
    done = run("-m", "bentoml", "serve", *target, *options, env=env, timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def metrics_folder(home: Path) -> Path:
    """Return the metrics folder of the only service that ran with a BENTOML_HOME."""
    (folder,) = home.glob("metrics/*/workers")
    return folder


def connect(server: Server, timeout: float = 30) -> socket.socket:
    """Open a connection to a service."""
    url = httpx.URL(server.url)
    return socket.create_connection((url.host, url.port), timeout, source_address=CROWD)


def post(body: bytes, path: str = "/predict", length: int | None = None) -> bytes:
    """Return a request as it goes over a connection; `length` is what it says of its body."""
    length = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
    return head.encode() + body


def read(connection: socket.socket) -> bytes:
    """Read a connection until the service closes it."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        while received := connection.recv(65536):
            answer += received
    return answer


def wait_for(happened: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until a condition holds, and fail after some seconds."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def copy_store(home: Path, target: Path) -> Path:
    """Copy a model store into another BENTOML_HOME."""
    shutil.copytree(home / "models", target / "models")
    return target


def run(
    *arguments: str, env: Mapping[str, str], cwd: Path = ROOT, timeout: float = 120
) -> "subprocess.CompletedProcess[str]":
    """Run one of the command lines to its end."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )

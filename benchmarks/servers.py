"""Servers for the benchmarks: pinned to cores, timed until their first prediction, and ended.

They run in a session of their own. So Ctrl-C in the terminal reaches the run alone, which ends them
by their process ids.
"""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.peers import Message
from iris_api.errors import IrisError

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120
ANSWER_SECONDS = 120
STOP_SECONDS = 20
POLL_SECONDS = 0.02

_LOG_CHARACTERS = 3000


class BenchmarkError(IrisError):
    """A failure that ends the run; nothing is written."""


def exit_status(run: Callable[[], int]) -> int:
    """Run a benchmark, and return its exit status; SIGTERM and SIGHUP end it as Ctrl-C does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        return run()
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130


def pinned(command: Sequence[str], cores: Collection[int]) -> list[str]:
    """Return a command that runs on some cores only, if taskset is installed."""
    taskset = shutil.which("taskset")
    if not cores or not taskset:
        return list(command)
    return [taskset, "--cpu-list", ",".join(map(str, cores)), *command]


@dataclass
class Server:
    """A running server.

    Attributes:
        port: Its port on 127.0.0.1.
        process: The process that was started; workers are its children.
        started: When it was started, in seconds of `time.monotonic`.
    """

    port: int
    process: psutil.Process
    started: float

    def ask(self, path: str, message: Message | None = None) -> bytes:
        """Return the answer to a POST, or to a GET if there is no message.

        Raises:
            BenchmarkError: The answer is not a success.
            OSError: There is no answer.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        with contextlib.closing(connection):
            if message is None:
                connection.request("GET", path)
            else:
                connection.request("POST", path, message.body, dict(message.headers))
            answer = connection.getresponse()
            content = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise BenchmarkError(f"{path} answered {answer.status}: {content[:300]!r}")
        return content

    def wait(self, path: str, message: Message | None = None) -> float:
        """Return the seconds from the start to the first success.

        Raises:
            BenchmarkError: There was none.
        """
        problem = ""
        while (elapsed := time.monotonic() - self.started) < START_SECONDS:
            try:
                self.ask(path, message)
            except (OSError, http.client.HTTPException, BenchmarkError) as error:
                problem = str(error)
            else:
                return time.monotonic() - self.started
            if self.process.status() == psutil.STATUS_ZOMBIE:
                raise BenchmarkError("the server ended")
            time.sleep(POLL_SECONDS)
        raise BenchmarkError(f"no good answer within {elapsed:.0f} s, the last one: {problem}")

    def tree(self) -> list[psutil.Process]:
        """Return the processes of the server."""
        return [self.process, *self.process.children(recursive=True)]

    def memory(self) -> float:
        """Return the proportional set size (PSS) of all its processes, in MB."""
        kibibytes = 0
        for process in self.tree():
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text("ascii").splitlines():
                if line.startswith("Pss:"):
                    kibibytes += int(line.split()[1])
        return kibibytes * 1024 / 1e6


@contextlib.contextmanager
def serving(
    command: Sequence[str],
    port: int,
    *,
    env: Mapping[str, str],
    log: Path,
    cores: Collection[int] = (),
) -> Iterator[Server]:
    """Run a server until the block ends; the block begins before the server is ready.

    Raises:
        BenchmarkError: The block raised it; the end of the server's log is added.
    """
    with log.open("wb") as out:
        started = time.monotonic()
        child = subprocess.Popen(
            pinned(command, cores),
            cwd=ROOT,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield Server(port, psutil.Process(child.pid), started)
    except BenchmarkError as error:
        end = log.read_text("utf-8", errors="replace")[-_LOG_CHARACTERS:]
        raise BenchmarkError(f"{error}\n--- the end of its log:\n{end}") from error
    finally:
        _end(child)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End a process and its children; BentoML's workers lead sessions of their own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(child.pid).children(recursive=True)
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(STOP_SECONDS)
        for process in family:
            # psutil does not signal a process that has taken over an old id.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, 9)
    child.wait()


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

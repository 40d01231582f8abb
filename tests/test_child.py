"""A piece of work in a child process: its outcome, and that nothing of it outlives its end."""

import faulthandler
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
from support import servers

from iris_api.errors import IrisError
from iris_api.importing import child
from iris_api.importing.outcome import Done, Failed

LIMITS = child.Limits(seconds=60, cpu_seconds=30, memory_bytes=8 << 30)


@pytest.fixture
def signals() -> Iterator[child.Signals]:
    """Catch the signals of this process."""
    with child.caught_signals() as caught:
        yield caught


def _fail() -> str:
    raise IrisError("no model; train one")


def _crash() -> None:
    faulthandler.disable()  # which pytest has on
    os.kill(os.getpid(), signal.SIGSEGV)


def _start_and_hang(pids: Path) -> str:
    """Start a process in a session of its own, as a converted pickle is, and wait for it."""
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    started = subprocess.Popen(command, start_new_session=True)
    pids.write_text(f"{os.getpid()} {started.pid}")
    return str(started.wait())


def test_result(signals: child.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    """The result comes from another process, whose output goes to standard error."""
    outcome = child.run(lambda: print("text") or os.getpid(), LIMITS, signals)

    assert isinstance(outcome, Done)
    assert outcome.result != os.getpid()
    assert capfd.readouterr() == ("", "text\n")


@pytest.mark.parametrize(
    ("work", "failed"),
    [
        (_fail, Failed("no model; train one")),
        (
            lambda: bytearray(1 << 60),
            Failed("the import needs more memory than there is; register a smaller model"),
        ),
        (
            _crash,
            Failed(
                "its process crashed with SIGSEGV, which a sound model does not cause; "
                "train and register it again"
            ),
        ),
        (
            lambda: os.kill(os.getpid(), signal.SIGKILL),
            Failed("its process was killed by SIGKILL; is the memory full?", transient=True),
        ),
        (
            partial(sys.exit, 7),
            Failed("its process ended with exit status 7 and without a result", transient=True),
        ),
        (
            partial(time.sleep, 60),
            Failed(
                "not done after 0.5 s; is the server slow? --timeout sets the limit",
                transient=True,
            ),
        ),
    ],
    ids=["error", "memory", "crash", "killed", "no result", "slow"],
)
def test_failure(signals: child.Signals, work: Callable[[], object], failed: Failed) -> None:
    """An error, an end without a result and the time limit are one line each."""
    assert child.run(work, replace(LIMITS, seconds=0.5), signals) == failed


def _fill_memory() -> None:
    kept = []
    while True:
        kept.append(bytes(1 << 20).replace(b"\0", b"x"))


def _fill_memory_of_another_process() -> None:
    code = "import time; kept = b'x' * (512 << 20); time.sleep(60)"
    subprocess.run([sys.executable, "-c", code], check=True)


def _compute() -> None:
    while True:
        pass


@pytest.mark.parametrize(
    ("work", "limits", "error"),
    [
        (
            _fill_memory,
            replace(LIMITS, memory_bytes=64 << 20),
            r"the import took more than \d+ MiB of memory; .*IRIS_IMPORT_MEMORY_BYTES.*",
        ),
        (
            _fill_memory_of_another_process,
            replace(LIMITS, memory_bytes=64 << 20),
            r"the import took more than \d+ MiB of memory; .*",
        ),
        (
            _compute,
            replace(LIMITS, cpu_seconds=0.5),
            r"the import took more than 0\.5 s of processor time; .*IRIS_IMPORT_CPU_SECONDS.*",
        ),
        (
            _compute,
            replace(LIMITS, seconds=1),
            "not done after 1 s, 1 of them computing; register a smaller model, or raise --timeout",
        ),
    ],
    ids=["memory", "memory of another process", "processor time", "wall time"],
)
def test_limit(
    signals: child.Signals, work: Callable[[], object], limits: child.Limits, error: str
) -> None:
    """A limit that the work itself exceeds is its fault, and is not retried."""
    # The child shares the memory of this process, which grows from test to test.
    shared = psutil.Process().memory_info().rss
    limits = replace(limits, memory_bytes=shared + limits.memory_bytes)
    outcome = child.run(work, limits, signals)

    assert isinstance(outcome, Failed)
    assert re.fullmatch(error, outcome.error)
    assert not outcome.transient


def test_signal(signals: child.Signals, tmp_path: Path) -> None:
    """A signal ends the work with all that it started, at once."""
    pids = tmp_path / "pids"
    timer = threading.Thread(target=_interrupt_after, args=(pids,))
    timer.start()
    started = time.monotonic()
    outcome = child.run(partial(_start_and_hang, pids), LIMITS, signals)
    timer.join()

    assert outcome == Failed("ended by SIGINT; the store is as it was", 130, transient=True)
    assert signals.received == signal.SIGINT
    assert time.monotonic() - started < 30
    for pid in map(int, pids.read_text().split()):
        servers.wait_for(lambda pid=pid: not psutil.pid_exists(pid), 5)  # type: ignore[misc]


def _interrupt_after(file: Path) -> None:
    servers.wait_for(file.exists)
    os.kill(os.getpid(), signal.SIGINT)


def test_parent_that_is_killed(tmp_path: Path) -> None:
    """The work ends with its parent, however that ended."""
    pid = tmp_path / "pid"
    script = (
        "import os, pathlib, time\n"
        "from iris_api.importing import child\n"
        "def work():\n"
        f"    pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\n"
        "    time.sleep(60)\n"
        "with child.caught_signals() as signals:\n"
        "    child.run(work, child.Limits(60, 60, 1 << 30), signals)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=servers.ROOT) as parent:
        servers.wait_for(lambda: pid.exists() and bool(pid.read_text()))
        parent.kill()

    servers.wait_for(lambda: not psutil.pid_exists(int(pid.read_text())), 5)

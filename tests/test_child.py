"""A piece of work in a child process: its outcome, and that nothing of it outlives its end."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from support import servers

from iris_api.errors import IrisError
from iris_api.importing import child
from iris_api.importing.outcome import Done, Failed


@pytest.fixture
def signals() -> Iterator[child.Signals]:
    """Catch the signals of this process."""
    with child.caught_signals() as caught:
        yield caught


def _fail() -> str:
    raise IrisError("no model; train one")


def _start_and_hang(pids: Path) -> str:
    """Start a process in a session of its own, as a converted pickle is, and wait for it."""
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    started = subprocess.Popen(command, start_new_session=True)
    pids.write_text(f"{os.getpid()} {started.pid}")
    return str(started.wait())


def test_result(signals: child.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    """The result comes from another process, whose output goes to standard error."""
    outcome = child.run(lambda: print("text") or os.getpid(), seconds=60, signals=signals)

    assert isinstance(outcome, Done)
    assert outcome.result != os.getpid()
    assert capfd.readouterr() == ("", "text\n")


@pytest.mark.parametrize(
    ("work", "failed"),
    [
        (_fail, Failed("no model; train one")),
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
    ids=["error", "killed", "no result", "slow"],
)
def test_failure(signals: child.Signals, work: Callable[[], object], failed: Failed) -> None:
    """An error, an end without a result and the time limit are one line each."""
    assert child.run(work, seconds=0.5, signals=signals) == failed


def test_signal(signals: child.Signals, tmp_path: Path) -> None:
    """A signal ends the work with all that it started, at once."""
    pids = tmp_path / "pids"
    timer = threading.Thread(target=_interrupt_after, args=(pids,))
    timer.start()
    started = time.monotonic()
    outcome = child.run(partial(_start_and_hang, pids), seconds=60, signals=signals)
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
        "    child.run(work, seconds=60, signals=signals)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=servers.ROOT) as parent:
        servers.wait_for(lambda: pid.exists() and bool(pid.read_text()))
        parent.kill()

    servers.wait_for(lambda: not psutil.pid_exists(int(pid.read_text())), 5)

"""One piece of work in a child process, which is killed at a limit or when a signal comes.

A killed import is harmless: it publishes an entry by two renames, and its staging folder is locked
by the process and cleared when that is gone. So nothing has to interrupt the libraries in between.
The memory of scikit-learn and a crash in native code end with the child, too.

The parent checks the limits, because libraries do not survive the kernel's: a thread that does not
start or an allocation that fails ends in a crash, an exit or a false reason, by library.
"""

import contextlib
import ctypes
import itertools
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import TYPE_CHECKING

from iris_api import terminal
from iris_api.importing.outcome import Failed, Outcome, T, attempt

if TYPE_CHECKING:
    import psutil

logger = logging.getLogger(__name__)

ENDING = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what an orchestrator sends."""

CRASHES = (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV)
"""The signals of a process that ends because of what it does itself."""

CHECK_SECONDS = 0.05
"""Pause between two checks of the limits; a process can take some 100 MB in it."""

LIST_CHECKS = 10
"""Checks between two listings of the child's own children, which take 0.1 ms for each process of
the machine."""

# A forked child has all that its parent imported. Only on Linux do system libraries survive it.
_context = (
    multiprocessing.get_context("fork")
    if sys.platform == "linux"
    else multiprocessing.get_context("spawn")
)

PR_SET_PDEATHSIG = 1
"""Option of linux/prctl.h that sets the signal that a process gets when its parent ends."""


@dataclass(frozen=True)
class Limits:
    """The limits of one piece of work, together with the processes that it starts.

    Attributes:
        seconds: Limit of the wall time.
        cpu_seconds: Limit of the processor time.
        memory_bytes: Limit of the resident memory.
    """

    seconds: float
    cpu_seconds: float
    memory_bytes: int


class Signals:
    """Ctrl-C and SIGTERM as something to wait for, instead of an exception anywhere.

    Attributes:
        received: The first signal that came, or None.
        descriptor: Readable once a signal came.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.descriptor, self.writer = os.pipe()

    def note(self, number: int, _frame: FrameType | None) -> None:
        """Record a signal; this is its handler."""
        self.received = self.received or signal.Signals(number)
        os.write(self.writer, b"!")


@contextlib.contextmanager
def caught_signals() -> Iterator[Signals]:
    """Catch the signals for the block; only the main thread may."""
    signals = Signals()
    former = {number: signal.signal(number, signals.note) for number in ENDING}
    try:
        yield signals
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        os.close(signals.descriptor)
        os.close(signals.writer)


def run(work: Callable[[], T], limits: Limits, signals: Signals) -> Outcome[T]:
    """Do the work in a child process.

    Args:
        work: Its result, and it itself where processes cannot be forked, can be pickled.
        limits: What ends the work as a failure.
        signals: The signals that end the work early.

    Returns:
        The outcome of the work, or how its process ended. Nothing of it runs any more.
    """
    receiver, sender = _context.Pipe(duplex=False)
    process = _context.Process(target=_main, args=(work, sender, os.getpid()))
    process.start()
    sender.close()
    outcome: Outcome[T] | None = None
    with receiver:
        exceeded = _watch(process.pid, limits, [receiver, signals.descriptor])
        try:
            outcome = receiver.recv() if receiver.poll() else None
        except EOFError:  # it ended without an outcome
            process.join()
    status = process.exitcode
    if outcome is None:
        _kill_all_that_it_started(process)
    process.kill()
    process.join()
    return outcome or exceeded or _explain(status, signals)


def _watch(pid: int | None, limits: Limits, events: Sequence[Connection | int]) -> Failed | None:
    """Wait for an event, and return the limit that a process exceeded before it came."""
    # The child starts meanwhile.
    import psutil  # noqa: PLC0415

    deadline = time.monotonic() + limits.seconds
    started: list[psutil.Process] = []  # such as one that opens a pickle
    for check in itertools.count():
        if wait(events, CHECK_SECONDS):
            break
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if check % LIST_CHECKS == 0:
                started = process.children(recursive=True)
            together = [process, *(each for each in started if each.is_running())]
            if sum(each.memory_info().rss for each in together) > limits.memory_bytes:
                return _exceeded(f"{limits.memory_bytes >> 20} MiB of memory", "MEMORY_BYTES")
            if (cpu_seconds := sum(map(_cpu_seconds, together))) > limits.cpu_seconds:
                return _exceeded(f"{limits.cpu_seconds:g} s of processor time", "CPU_SECONDS")
            if time.monotonic() > deadline:
                return _not_done(limits.seconds, cpu_seconds)
    return None


def _cpu_seconds(process: "psutil.Process") -> float:
    used = process.cpu_times()
    return used.user + used.system


def _exceeded(limit: str, setting: str) -> Failed:
    return Failed(
        f"the import took more than {limit}; register a smaller model, or raise "
        f"IRIS_IMPORT_{setting} if this one is meant to be so large"
    )


def _not_done(seconds: float, cpu_seconds: float) -> Failed:
    """Explain that the time is over; a child that computed would do the same the next time."""
    line = f"not done after {seconds:g} s"
    if cpu_seconds > seconds / 2:
        return Failed(
            f"{line}, {cpu_seconds:.0f} of them computing; register a smaller model, or raise "
            "--timeout"
        )
    return Failed(f"{line}; is the server slow? --timeout sets the limit", transient=True)


def _main(work: Callable[[], T], sender: Connection, parent: int) -> None:
    """Do the work.

    The process has no terminal that could send it Ctrl-C, leaves the signals to its parent, ends
    with that, and what libraries print does not mix with the command's own output.
    """
    os.setsid()
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it ended before this was set
    sys.stdout = sys.stderr
    outcome = attempt(work)
    if isinstance(outcome, Failed):
        logger.debug("failed", extra=terminal.ENDED)
    sender.send(outcome)


def _kill_all_that_it_started(process: BaseProcess) -> None:
    """Kill a process and its children, and clear what they left."""
    # The command line needs neither before.
    import psutil  # noqa: PLC0415

    from iris_api import home  # noqa: PLC0415

    with contextlib.suppress(psutil.NoSuchProcess):
        for started in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                started.kill()
    process.kill()
    process.join()
    home.clear_staging()


def _explain(status: int | None, signals: Signals) -> Failed:
    """Say why a process gave no outcome; without an exit status, a signal ended it from here."""
    if status is None:
        ended = signals.received or signal.SIGTERM
        error = f"ended by {ended.name}; the store is as it was"
        return Failed(error, status=128 + ended, transient=True)
    if -status in CRASHES:
        return Failed(
            f"its process crashed with {signal.Signals(-status).name}, which a sound model does "
            "not cause; train and register it again"
        )
    if status < 0:
        error = f"its process was killed by {signal.Signals(-status).name}; is the memory full?"
    else:
        error = f"its process ended with exit status {status} and without a result"
    return Failed(error, transient=True)

"""One piece of work in a child process, which is killed when it takes too long or a signal comes.

A killed import is harmless: it publishes an entry by two renames, and its staging folder is locked
by the process and cleared when that is gone. So nothing has to interrupt the libraries in between.
The memory of scikit-learn and a crash in native code end with the child, too.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType

from iris_api.importing.outcome import Failed, Outcome, T, attempt

ENDING = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what an orchestrator sends."""

# A forked child has all that its parent imported. Only on Linux do system libraries survive it.
_context = (
    multiprocessing.get_context("fork")
    if sys.platform == "linux"
    else multiprocessing.get_context("spawn")
)

PR_SET_PDEATHSIG = 1
"""Option of linux/prctl.h that sets the signal that a process gets when its parent ends."""


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


def run(work: Callable[[], T], *, seconds: float, signals: Signals) -> Outcome[T]:
    """Do the work in a child process.

    Args:
        work: Its result, and it itself where processes cannot be forked, can be pickled.
        seconds: Limit of the wall time.
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
        wait([receiver, signals.descriptor], seconds)
        try:
            outcome = receiver.recv() if receiver.poll() else None
        except EOFError:  # it ended without an outcome
            process.join()
    status = process.exitcode
    if outcome is None:
        _kill_all_that_it_started(process)
    process.kill()
    process.join()
    return outcome or _explain(status, seconds, signals)


def _main(work: Callable[[], T], sender: Connection, parent: int) -> None:
    """Do the work; limits of its resources belong here.

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
    sender.send(attempt(work))


def _kill_all_that_it_started(process: BaseProcess) -> None:
    """Kill a process and its children, and clear what they left."""
    # The command line needs neither where all goes well.
    import psutil  # noqa: PLC0415

    from iris_api import home  # noqa: PLC0415

    with contextlib.suppress(psutil.NoSuchProcess):
        for started in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                started.kill()
    process.kill()
    process.join()
    home.clear_staging()


def _explain(status: int | None, seconds: float, signals: Signals) -> Failed:
    """Say why a process gave no outcome; without an exit status, it was ended from here."""
    ended = signals.received
    if status is None and ended:
        error = f"ended by {ended.name}; the store is as it was"
        return Failed(error, status=128 + ended, transient=True)
    if status is None:
        error = f"not done after {seconds:g} s; is the server slow? --timeout sets the limit"
    elif status < 0:
        error = f"its process was killed by {signal.Signals(-status).name}; is the memory full?"
    else:
        error = f"its process ended with exit status {status} and without a result"
    return Failed(error, transient=True)

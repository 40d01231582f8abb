"""One attempt at long work: a signal or a time limit ends it, and a failure is one line."""

import contextlib
import errno
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from iris_api.errors import IrisError, one_line
from iris_api.home import bentoml_home
from iris_api.model_uri import ModelURIError
from iris_api.settings import SettingsError

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
"""The signals that end an attempt: Ctrl-C, an orchestrator, the time limit."""

AGAIN_SECONDS = 2
"""Between the attempts to end; the staging folder is cleared in less."""

MENDS = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or have the quota raised",
    errno.EFBIG: "raise the limit of the file size, ulimit -f",
    errno.EACCES: "give this user the permission",
    errno.EPERM: "give this user the permission",
    errno.EROFS: "mount it writable",
    errno.ENOENT: "make the folder",
    errno.ENOTDIR: "remove the file that stands where a folder should be",
}
"""How to mend what the operating system refuses, beside the other way: another BENTOML_HOME."""


class EndedError(BaseException):
    """A signal came. Not an Exception, which libraries catch and take for a failure of theirs."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        status: 0, or the exit status of the process.
        output: what the work returned; empty where it failed.
        error: one line; empty where it worked.
        transient: whether the same may work later, without a change of the model.
    """

    status: int
    output: str = ""
    error: str = ""
    transient: bool = False


def attempt(work: Callable[[], str], seconds: float) -> Outcome:
    """Do the work within a number of seconds, or say in one line why not."""
    try:
        with ending(seconds):
            return Outcome(0, output=work())
    except (ModelURIError, SettingsError) as error:
        return Outcome(2, error=str(error))
    except IrisError as error:
        return Outcome(1, error=str(error), transient=error.transient)
    except OSError as error:
        return Outcome(1, error=explain(error), transient=True)
    except EndedError as error:
        ignore_endings()
        number = error.args[0]
        if number == signal.SIGALRM:
            late = f"not done after {seconds:g} s; is the server slow? --timeout sets the limit"
            return Outcome(1, error=late, transient=True)
        ended = f"ended by {signal.Signals(number).name}; the store is as it was"
        return Outcome(128 + int(number), error=ended, transient=True)


@contextlib.contextmanager
def ending(seconds: float = 0) -> Iterator[None]:
    """Have the block ended by an EndedError at a signal, or after some seconds unless 0."""
    handler = _Ending()
    for number in ENDINGS:
        signal.signal(number, handler)
    # Raised in a finalizer, an EndedError is only printed; the timer of _Ending raises it again.
    sys.unraisablehook = lambda _: None
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class _Ending:
    """Ends the work at the first signal, and again where a library swallowed that."""

    def __init__(self) -> None:
        self._first = 0

    def __call__(self, number: int, _frame: FrameType | None) -> NoReturn:
        self._first = self._first or number
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        raise EndedError(self._first)


def ignore_endings() -> None:
    """Let nothing stop this process from now on."""
    for number in ENDINGS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def endings_held() -> Iterator[None]:
    """Let nothing stop the block; a signal that comes meanwhile counts after it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)


def explain(error: OSError) -> str:
    """Say what the operating system refused, where, and how to mend it."""
    where = error.filename or str(bentoml_home())
    mend = MENDS.get(error.errno or 0)
    reason = error.strerror or one_line(error)
    said = reason if where in reason else f"{where}: {reason}"
    return f"{said}; {mend}, or set BENTOML_HOME to another folder" if mend else said

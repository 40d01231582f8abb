"""The outcome of a piece of work: its result, or one line that says why there is none."""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from iris_api.errors import IrisError, one_line
from iris_api.model_uri import ModelURIError
from iris_api.settings import SettingsError

T = TypeVar("T")

FIXES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or have the quota raised",
    errno.EFBIG: "raise the limit of the file size, ulimit -f",
    errno.EACCES: "give this user the permission",
    errno.EPERM: "give this user the permission",
    errno.EROFS: "mount it writable",
    errno.ENOENT: "make the folder",
    errno.ENOTDIR: "remove the file that stands where a folder should be",
}
"""How to fix an error of the operating system, other than by another BENTOML_HOME."""


@dataclass(frozen=True)
class Done(Generic[T]):
    """The work succeeded."""

    result: T


@dataclass(frozen=True)
class Failed:
    """The work failed.

    Attributes:
        error: One line that says what is wrong and how to fix it.
        status: The exit status of a command that fails like this.
        transient: Whether the same work may succeed later although nothing was changed.
    """

    error: str
    status: int = 1
    transient: bool = False


Outcome: TypeAlias = Done[T] | Failed


def attempt(work: Callable[[], T]) -> Outcome[T]:
    """Do the work in this process, and turn its known errors into an outcome."""
    try:
        return Done(work())
    except (ModelURIError, SettingsError) as error:
        return Failed(str(error), status=2)
    except IrisError as error:
        return Failed(str(error), transient=error.transient)
    except MemoryError:
        return Failed("the import needs more memory than there is; register a smaller model")
    except OSError as error:
        return Failed(explain(error), transient=True)


def explain(error: OSError) -> str:
    """Return what the operating system denied, where, and how to fix it."""
    from iris_api.home import bentoml_home  # noqa: PLC0415 (BentoML, which a command can spare)

    place = error.filename or str(bentoml_home())
    reason = error.strerror or one_line(error)
    problem = reason if place in reason else f"{place}: {reason}"
    fix = FIXES.get(error.errno or 0)
    return f"{problem}; {fix}, or set BENTOML_HOME to another folder" if fix else problem

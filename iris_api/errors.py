"""The base class of this project's errors, and the wording of errors that others raise."""

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class IrisError(Exception):
    """A failure that a person can fix: one line that says what is wrong and how to fix it."""

    transient = False
    """Whether the same attempt may succeed later although nothing was changed."""


def one_line(text: object, limit: int = 200) -> str:
    """Return text as one printable line of at most `limit` characters, for terminals and logs.

    White space is collapsed, and each character that cannot be printed becomes a question mark.
    """
    line = " ".join(str(text).split())
    return "".join(char if char.isprintable() else "?" for char in line)[:limit]


def first_problem(error: "ValidationError") -> str:
    """Return where the first wrong value is and what is wrong with it, on one line."""
    first = error.errors()[0]
    return one_line(": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"]))))


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


def explain(error: OSError, folder: object) -> str:
    """Return what the operating system denied, where, and how to fix it.

    The folder is named where the error names no file.
    """
    place = error.filename or str(folder)
    reason = error.strerror or one_line(error)
    problem = reason if place in reason else f"{place}: {reason}"
    fix = FIXES.get(error.errno or 0)
    return f"{problem}; {fix}, or set BENTOML_HOME to another folder" if fix else problem

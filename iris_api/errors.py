"""The base class of this project's errors, and the cleaning of text that others wrote."""

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

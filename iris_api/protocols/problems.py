"""Requests that break a protocol: one line for a person, and a list of the places for a program."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from iris_api.errors import IrisError

SHOWN_PROBLEMS = 20
"""Maximum number of problems in an answer; its first line counts the rest."""


@dataclass(frozen=True)
class Problem:
    """One place in the request, and what is wrong there."""

    loc: Annotated[
        list[str | int], Field(description="path in the body, such as instances, 3, petal_width")
    ]
    msg: str


class InvalidRequestError(IrisError):
    """A request that breaks its protocol, with its wrong places and the status of the answer."""

    def __init__(self, message: str, detail: Sequence[Problem] = (), *, status: int = 400) -> None:
        super().__init__(message)
        self.detail = detail[:SHOWN_PROBLEMS]
        self.status = status


def explain(problems: Sequence[Problem]) -> InvalidRequestError:
    """Return the error of a request with these problems; its line has the first of them."""
    first = problems[0]
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in first.loc)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidRequestError(f"{''.join(steps).lstrip('.')}: {first.msg}{more}", problems)


def printable(key: object) -> str:
    """Shorten a client's own key, and keep it on one line."""
    return "".join(char if char.isprintable() else "?" for char in str(key)[:64])

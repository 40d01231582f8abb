"""Requests that break a protocol: one line for a person, and a list of the places for a program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from iris_api.errors import IrisError

SHOWN_PROBLEMS = 20
"""Maximum number of problems in an answer; its first line counts the rest."""


INVOCATIONS = "/invocations"
"""The path of MLflow's scoring server, whose errors have another shape."""

_MLFLOW_CODES = {
    401: "UNAUTHENTICATED",
    404: "ENDPOINT_NOT_FOUND",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""MLflow's names of statuses, from `mlflow.exceptions`; it has none for 405, 413 and 415."""


@dataclass(frozen=True)
class Problem:
    """One place in the request, and what is wrong there."""

    loc: Annotated[
        list[str | int], Field(description="path in the body, such as instances, 3, petal_width")
    ]
    msg: str


class InvalidRequestError(IrisError):
    """A request that breaks its protocol, with its wrong places and the status of the answer."""

    headers: Mapping[str, str] | None = None
    """Headers of the answer."""

    def __init__(self, message: str, detail: Sequence[Problem] = (), *, status: int = 400) -> None:
        super().__init__(message)
        self.detail = detail[:SHOWN_PROBLEMS]
        self.status = status


class UnknownEncodingError(InvalidRequestError):
    """A body with another content encoding than gzip."""

    headers = {"Accept-Encoding": "gzip"}  # noqa: RUF012 (never changed)

    def __init__(self) -> None:
        text = "send the body as it is, or with Content-Encoding: gzip"
        super().__init__(text, status=415)


def error_body(
    path: str, status: int, message: str, detail: Sequence[Problem] = ()
) -> dict[str, Any]:
    """Return the body of an error, in the shape of the protocol that a path belongs to."""
    if path == INVOCATIONS:
        return {"error_code": _MLFLOW_CODES.get(status, "BAD_REQUEST"), "message": message}
    return {"error": message} | ({"detail": detail} if detail else {})


def explain(problems: Sequence[Problem]) -> InvalidRequestError:
    """Return the error of a request with these problems; its line has the first of them."""
    first = problems[0]
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in first.loc)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidRequestError(f"{''.join(steps).lstrip('.')}: {first.msg}{more}", problems)


def printable(key: object) -> str:
    """Shorten a client's own key, and keep it on one line."""
    return "".join(char if char.isprintable() else "?" for char in str(key)[:64])

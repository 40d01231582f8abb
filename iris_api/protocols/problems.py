"""Requests that break a protocol: one line for a person, and a list of the places for a program."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, ValidationError

from iris_api.errors import IrisError
from iris_api.schema import FEATURES, MAXIMUM_CM, MINIMUM_CM

SHOWN_PROBLEMS = 20
"""Maximum number of problems in an answer; its first line counts the rest."""

_SENTENCES = {
    "missing": "is missing",
    "extra_forbidden": "is not one of the expected names",
    "too_long": f"must have exactly {len(FEATURES)} columns: {', '.join(FEATURES)}",
    "too_short": "must have at least one row",
    "union_tag_invalid": "must be an array",
    "tuple_type": "must be an array",
    "list_type": "must be an array",
    "float_type": "must be a number",
    "finite_number": "must be a finite number, not NaN or Infinity",
    "greater_than_equal": f"must be a length of {MINIMUM_CM} to {MAXIMUM_CM} cm",
    "less_than_equal": f"must be a length of {MINIMUM_CM} to {MAXIMUM_CM} cm",
}
"""Messages by pydantic's type of error."""


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
        self.detail = detail
        self.status = status


def explain(error: ValidationError) -> InvalidRequestError:
    """Turn pydantic's errors into ours."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    detail = [
        Problem(_location(each["loc"]), _SENTENCES.get(each["type"], each["msg"]))
        for each in found[:SHOWN_PROBLEMS]
    ]
    return invalid(detail, len(found))


def invalid(detail: Sequence[Problem], count: int) -> InvalidRequestError:
    """Return the error of so many wrong places, the first of which its line names."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in detail[0].loc)
    more = f" (and {count - 1} more)" if count > 1 else ""
    return InvalidRequestError(f"{''.join(steps).lstrip('.')}: {detail[0].msg}{more}", detail)


def _location(steps: tuple[int | str, ...]) -> list[str | int]:
    """Return the path as the client sees it: without pydantic's tag, with names for columns."""
    match steps:
        case (field, int(row), str(), int(column)):
            return [field, row, FEATURES[column]]
        case (field, int(row), str(), *names):
            return [field, row, *map(_printable, names)]
        case _:
            return [step if isinstance(step, int) else _printable(step) for step in steps]


def _printable(name: Any) -> str:
    """Shorten a client's own key, and keep it on one line."""
    return "".join(char if char.isprintable() else "?" for char in str(name)[:64])

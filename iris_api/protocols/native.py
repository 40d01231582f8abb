"""From a request's body to rows: the contract, held without more work than it takes."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pydantic_core
import simdjson
from numpy.typing import NDArray
from pydantic import ValidationError

from iris_api.protocols.messages import Flower, Instances, InvalidRequestError
from iris_api.schema import FEATURES, MAXIMUM_CM, MINIMUM_CM

SHORT_BODY_BYTES = 256
"""Up to about ten rows, pydantic is the quickest; beyond, simdjson is, for 10 000 rows tenfold."""

VALUES_PER_ROW = 10
"""A row of either form has five: itself and its numbers. Twice that many are no mistake."""

SHOWN_PROBLEMS = 20
"""How many problems of one body are listed; the rest are counted, so that no answer grows."""


def parse_rows(body: bytes, max_rows: int) -> NDArray[np.float64]:
    """Turn a request body into rows.

    Args:
        body: JSON in one of the two forms, as it came.
        max_rows: that are allowed.

    Returns:
        Shape (n, 4), n >= 1, float64, in centimetres, columns in the order of `FEATURES`.

    Raises:
        InvalidRequestError: the body breaks the contract; each message names its place.
    """
    if len(body) > SHORT_BODY_BYTES:
        if (rows := _parse_matrix(body)) is not None:
            _check_count(len(rows), max_rows)
            return rows
        _check_values(body, max_rows)
    try:
        content = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        reason = str(error) if body else "the body is empty"
        raise InvalidRequestError(f"not valid JSON: {reason}") from None
    if not isinstance(content, dict):
        raise InvalidRequestError(
            f"the body must be an object with {', '.join(FEATURES)}, or with instances"
        )
    if "instances" in content and (both := [name for name in FEATURES if name in content]):
        raise InvalidRequestError(
            f"send either instances or {', '.join(FEATURES)}, not both",
            [{"loc": [name], "msg": "stands beside instances"} for name in both],
        )
    try:
        if "instances" not in content:
            return _as_array([Flower.model_validate(content)])
        if isinstance(content["instances"], list):
            _check_count(len(content["instances"]), max_rows)
        return _as_array(Instances.model_validate(content).instances)
    except ValidationError as error:
        raise _explain(error) from None


def _check_count(count: int, max_rows: int) -> None:
    if count > max_rows:
        raise InvalidRequestError(
            f"instances: has {count} rows, at most {max_rows} are allowed; send several bodies",
            status=413,
        )


def _check_values(body: bytes, max_rows: int) -> None:
    """Refuse what would become far more Python objects than the rows that are allowed.

    Each value is the first of an array or object, or comes after a comma.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > VALUES_PER_ROW * max_rows + SHORT_BODY_BYTES:
        raise InvalidRequestError(
            f"the body has many more values than {max_rows} rows have; send several", status=413
        )


def _parse_matrix(body: bytes) -> NDArray[np.float64] | None:
    """Parse instances that are arrays of four numbers without a Python object for each number.

    Returns:
        As `parse_rows`; None for every other body, right or wrong, which is left to pydantic.
    """
    # Without numbers and white space, the body must be a list of rows of four. The letter e goes
    # with the numbers' exponents.
    skeleton = body.translate(None, b"0123456789+-.eE \t\r\n")
    count = len(skeleton) // len(b"[,,,],") - 2
    if skeleton != b'{"instancs":[' + b"[,,,]," * (count - 1) + b"[,,,]]}":
        return None
    try:
        found = cast("simdjson.Object", simdjson.Parser().parse(body))
        cells = cast("simdjson.Array", found["instances"]).as_buffer(of_type="d")
    except (ValueError, KeyError, RuntimeError):  # simdjson's for numbers beyond 64 bits
        return None
    rows = np.frombuffer(cells, dtype=np.float64).reshape(count, len(FEATURES))
    in_range = rows.min() >= MINIMUM_CM and rows.max() <= MAXIMUM_CM
    return rows if in_range else None


def _as_array(rows: Sequence[Any]) -> NDArray[np.float64]:
    return np.array(
        [
            (row.sepal_length, row.sepal_width, row.petal_length, row.petal_width)
            if isinstance(row, Flower)
            else row
            for row in rows
        ],
        dtype=np.float64,
    )


def _explain(error: ValidationError) -> InvalidRequestError:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    detail = [
        {"loc": _location(problem["loc"]), "msg": _sentence(problem)}
        for problem in problems[:SHOWN_PROBLEMS]
    ]
    where = "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in detail[0]["loc"]
    ).lstrip(".")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidRequestError(f"{where}: {detail[0]['msg']}{more}", detail)


def _location(steps: tuple[int | str, ...]) -> list[str | int]:
    """Say where in the client's words: without the form of the row, columns by their names."""
    match steps:
        case (field, int(row), str(), int(column)):
            return [field, row, FEATURES[column]]
        case (field, int(row), str(), *names):
            return [field, row, *map(_printable, names)]
        case _:
            return [step if isinstance(step, int) else _printable(step) for step in steps]


def _printable(name: int | str) -> str:
    """Quote a client's own key so that it can neither break the line nor flood it."""
    return "".join(char if char.isprintable() else "?" for char in str(name)[:64])


def _sentence(problem: Any) -> str:
    match problem["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "is not one of the expected names"
        case "too_long":
            return f"must have exactly {len(FEATURES)} columns: {', '.join(FEATURES)}"
        case "too_short":
            return "must have at least one row"
        case "union_tag_invalid" | "tuple_type" | "list_type":
            return "must be an array"
        case "float_type":
            return "must be a number"
        case "finite_number":
            return "must be a finite number"
        case "greater_than_equal" | "less_than_equal":
            return f"must be a length of {MINIMUM_CM} to {MAXIMUM_CM} cm"
        case _:
            return str(problem["msg"])

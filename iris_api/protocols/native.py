"""The native protocol: JSON with one row by its names, or with many rows as `instances`."""

import json
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, cast

import numpy as np
import orjson
import pydantic_core
import simdjson
from numpy.typing import NDArray
from pydantic import ValidationError

from iris_api.model.engines import Answer
from iris_api.model.loaded_model import Model
from iris_api.protocols.messages import Flower, Instances
from iris_api.protocols.problems import (
    SHOWN_PROBLEMS,
    InvalidRequestError,
    Problem,
    explain,
    invalid,
)
from iris_api.schema import FEATURES, MAXIMUM_CM, MINIMUM_CM

SHORT_BODY_BYTES = 256
"""Maximum size of a body, about ten rows, that pydantic parses faster than simdjson, which is ten
times as fast with 10 000 rows."""

_cells = attrgetter(*FEATURES)

VALUES_PER_ROW = 10
"""Maximum number of JSON values for each allowed row: twice the five that a row of any form has."""


def parse_rows(body: bytes, max_rows: int) -> NDArray[np.float64]:
    """Parse the body of a request, JSON in one of the two forms.

    Returns:
        Shape (n, 4), n >= 1, in centimetres, columns in the order of `FEATURES`.

    Raises:
        InvalidRequestError: The body breaks the protocol.
    """
    if len(body) > SHORT_BODY_BYTES:
        if (rows := _parse_arrays(body)) is not None:
            _check_count(len(rows), max_rows)
            return rows
        _check_values(body, max_rows)
    try:
        # NaN and Infinity, which are no JSON, are left to the types: their error names the place.
        content = pydantic_core.from_json(body)
    except ValueError as error:
        raise InvalidRequestError(f"not valid JSON: {_reason(body, error)}") from None
    if not isinstance(content, dict):
        text = f"the body must be an object with {', '.join(FEATURES)}, or with instances"
        raise InvalidRequestError(text)
    if "instances" in content and (both := [name for name in FEATURES if name in content]):
        text = f"send either instances or {', '.join(FEATURES)}, not both"
        raise InvalidRequestError(
            text, [Problem([name], "stands beside instances") for name in both]
        )
    found, keys = _validate(content, max_rows)
    # Each key of a valid body has a colon, and no value has any: more of them are doubled keys, of
    # which the parser kept the last one.
    if body.count(b":") > keys:
        raise _doubled_keys(body)
    return np.array([_cells(row) if isinstance(row, Flower) else row for row in found], np.float64)


def write_answer(model: Model, answer: Answer, *, probabilities: bool) -> bytes:
    """Write a model's answer as `Predictions`, or as `Probabilities`."""
    content = (
        {"classes": model.classes, "probabilities": answer.probabilities}
        if probabilities
        else {"predictions": model.names(answer.labels)}
    )
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _reason(body: bytes, error: ValueError) -> str:
    """Return why a body is not JSON, in words where the parser only says where."""
    if not body.strip():
        return "the body is empty"
    match json.detect_encoding(body):
        case "utf-8":
            return str(error)
        case "utf-8-sig":
            return "the body begins with a byte order mark; send it without one"
        case encoding:
            return f"the body is {encoding[:6].upper()}; send UTF-8"


def _validate(content: dict[str, Any], max_rows: int) -> tuple[Sequence[Any], int]:
    """Return the rows of a body, as flowers or sequences of numbers, and its number of keys."""
    try:
        if "instances" not in content:
            return [Flower.model_validate(content)], len(FEATURES)
        if isinstance(content["instances"], list):
            _check_count(len(content["instances"]), max_rows)
        rows = Instances.model_validate(content).instances
    except ValidationError as error:
        raise explain(error) from None
    return rows, 1 + len(FEATURES) * list(map(type, rows)).count(Flower)


def _doubled_keys(body: bytes) -> InvalidRequestError:
    """Return the error of a body that is valid except for keys that an object has twice."""
    pairs = json.loads(body, object_pairs_hook=tuple, parse_int=float)
    objects: list[tuple[tuple[str | int, ...], Any]] = [((), pairs)]
    rows = dict(pairs).get("instances", ())
    objects += [(("instances", n), row) for n, row in enumerate(rows) if isinstance(row, tuple)]
    keys = Counter((*place, name) for place, found in objects for name, _ in found)
    doubled = [Problem(list(key), "is given twice") for key, count in keys.items() if count > 1]
    return invalid(doubled[:SHOWN_PROBLEMS], len(doubled))


def _check_count(count: int, max_rows: int) -> None:
    if count > max_rows:
        text = f"instances: has {count} rows, at most {max_rows} are allowed; send several bodies"
        raise InvalidRequestError(text, status=413)


def _check_values(body: bytes, max_rows: int) -> None:
    """Reject a body that would become far more Python objects than the allowed rows.

    Each value is the first of an array or object, or follows a comma.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > VALUES_PER_ROW * max_rows + SHORT_BODY_BYTES:
        text = f"the body has many more values than {max_rows} rows have; send several"
        raise InvalidRequestError(text, status=413)


def _parse_arrays(body: bytes) -> NDArray[np.float64] | None:
    """Parse instances that are arrays of four numbers, without a Python object for each number.

    Returns:
        As `parse_rows`; None for every other body, valid or not, which is left to pydantic.
    """
    # Without its numbers and white space, the body must be a list of rows of four. Removing the
    # exponents' letter e also removes it from "instances".
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

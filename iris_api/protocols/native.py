"""The native protocol: JSON with one row by its names, or with many rows as `instances`."""

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
from iris_api.protocols.problems import InvalidRequestError, Problem, explain
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
        content = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        reason = str(error) if body else "the body is empty"
        raise InvalidRequestError(f"not valid JSON: {reason}") from None
    if not isinstance(content, dict):
        text = f"the body must be an object with {', '.join(FEATURES)}, or with instances"
        raise InvalidRequestError(text)
    if "instances" in content and (both := [name for name in FEATURES if name in content]):
        text = f"send either instances or {', '.join(FEATURES)}, not both"
        raise InvalidRequestError(
            text, [Problem([name], "stands beside instances") for name in both]
        )
    try:
        if "instances" not in content:
            return _as_array([Flower.model_validate(content)])
        if isinstance(content["instances"], list):
            _check_count(len(content["instances"]), max_rows)
        return _as_array(Instances.model_validate(content).instances)
    except ValidationError as error:
        raise explain(error) from None


def write_answer(model: Model, answer: Answer, *, probabilities: bool) -> bytes:
    """Write a model's answer as `Predictions`, or as `Probabilities`."""
    content = (
        {"classes": model.classes, "probabilities": answer.probabilities}
        if probabilities
        else {"predictions": model.names(answer.labels)}
    )
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


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


def _as_array(rows: Sequence[Any]) -> NDArray[np.float64]:
    return np.array([_cells(row) if isinstance(row, Flower) else row for row in rows], np.float64)

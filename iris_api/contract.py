"""What clients send and get: the four features, the two request forms, their limits and errors."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, cast

import numpy as np
import pydantic_core
import simdjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from iris_api import IrisError

FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
"""The columns of every array of rows in this project, in this order, in centimetres."""

MINIMUM_CM, MAXIMUM_CM = 0, 100
"""No length is negative, and no iris measures a metre: beyond are mistakes of unit or decimal."""

SHORT_BODY_BYTES = 256
"""Up to about ten rows, pydantic is the quickest; beyond, simdjson is, for 10 000 rows tenfold."""

SHOWN_PROBLEMS = 20
"""How many problems of one body are listed; the rest are counted, so that no answer grows."""

Centimetres = Annotated[
    float, Field(strict=True, ge=MINIMUM_CM, le=MAXIMUM_CM, allow_inf_nan=False)
]


class Flower(BaseModel):
    """One flower, its four lengths in centimetres."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "sepal_length": 5.1,
                "sepal_width": 3.5,
                "petal_length": 1.4,
                "petal_width": 0.2,
            }
        },
    )

    sepal_length: Centimetres
    sepal_width: Centimetres
    petal_length: Centimetres
    petal_width: Centimetres


def _row_form(row: Any) -> str:
    return "object" if isinstance(row, Mapping | Flower) else "array"


Row = Annotated[
    Annotated[tuple[Centimetres, Centimetres, Centimetres, Centimetres], Tag("array")]
    | Annotated[Flower, Tag("object")],
    Discriminator(_row_form),
]


class Instances(BaseModel):
    """Many flowers, each an array in the order of the features or an object with their names."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"instances": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5]]}},
    )

    # The first wrong row is told and no other: each costs a hundred times what a right one does.
    instances: Annotated[list[Row], Field(min_length=1, fail_fast=True)]


class Predictions(BaseModel):
    """The predicted label of each row, in the order of the rows."""

    predictions: list[str | int]


class Probabilities(BaseModel):
    """The probability of each class for each row: columns as in `classes`, rows as sent."""

    classes: list[str | int]
    probabilities: list[list[float]]


class Health(BaseModel):
    """Whether a model can answer, and if not, why."""

    status: Literal["ok", "unavailable"]
    reason: str | None = Field(default=None, description="only where unavailable")


class Provenance(BaseModel):
    """Where the model comes from; more than these is told as far as it is known."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(description="of the registered model")
    stage: str
    version: int = Field(description="in the registry")
    tag: str = Field(description="in the BentoML model store")
    aliases: list[str]
    digest: str = Field(description="SHA-256 over the model's files")
    classes: list[str | int]
    features: list[str] = Field(description="in the order of the model's own signature")
    engine: Literal["onnx", "sklearn"]


class Problem(BaseModel):
    """One place of the request and what is wrong there."""

    loc: list[str | int] = Field(description="path in the body, such as instances, 3, petal_width")
    msg: str


class ErrorBody(BaseModel):
    """Every answer that is not a success, whatever raised it."""

    error: str = Field(description="one line that says what is wrong")
    detail: list[Problem] | None = Field(
        default=None, description="the places that are wrong; absent where there are none"
    )


class InvalidRequestError(IrisError):
    """A request that breaks the contract.

    Attributes:
        detail: the places that are wrong, each as a `Problem`.
        status: the HTTP status of the answer.
    """

    def __init__(
        self, message: str, detail: Sequence[dict[str, Any]] = (), *, status: int = 400
    ) -> None:
        super().__init__(message)
        self.detail = list(detail)
        self.status = status


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
    if len(body) > SHORT_BODY_BYTES and (rows := _parse_matrix(body)) is not None:
        _check_count(len(rows), max_rows)
        return rows
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

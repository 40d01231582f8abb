"""The columns of a model, from its signature or its estimator, and the rows of its example."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from iris_api.errors import one_line
from iris_api.schema import MAXIMUM_COLUMNS, TYPICAL, UNKNOWN_TEXT, Column, ColumnType, plain_name
from iris_api.vetting.mixed_tables.texts import Text
from iris_api.vetting.mlmodel import (
    MAXIMUM_TEXT_BYTES,
    SIGN_AGAIN,
    VettingError,
    read_file,
    shorten,
)
from iris_api.vetting.training_profile import TrainingProfile

EXAMPLE_ROWS = 100
"""Most rows that are kept of an example."""

InputColumn = tuple[str, ColumnType, bool]
"""Name, type and whether it is required, of a column in the model's own order."""

_TYPES: dict[str, ColumnType] = {
    "double": "number",
    "float": "number",
    "long": "integer",
    "integer": "integer",
    "boolean": "boolean",
    "string": "string",
}
"""Types of a column by MLflow's names for them."""


class _Tensor(BaseModel):
    dtype: str
    shape: list[int]


class _Input(BaseModel):
    model_config = ConfigDict(strict=True)

    type: str | dict[str, Any]
    name: str | None = None
    required: bool = True
    tensor: _Tensor | None = Field(default=None, alias="tensor-spec")


_INPUTS = TypeAdapter(list[_Input])


def read_columns(signature: Mapping[str, str], estimator: Any) -> list[InputColumn]:
    """Return the columns of a fitted estimator, in its own order.

    A signature of a two-dimensional tensor has no names, and a model may have no signature. Then
    the columns are those that the estimator was fitted on.

    Raises:
        VettingError: The signature cannot be served, or the estimator was fitted on other columns.
    """
    fitted, count = _fitted_names(estimator), getattr(estimator, "n_features_in_", None)
    if not isinstance(count, int | np.integer):
        raise VettingError("the estimator does not have its number of columns; fit it first")
    columns = _of_signature(signature["inputs"]) if "inputs" in signature else None
    if columns is None:
        names = fitted or [f"x{place}" for place in range(min(count, MAXIMUM_COLUMNS + 1))]
        return [(name, "number", True) for name in names]
    if fitted:
        _check_order(fitted, [name for name, _, _ in columns])
    if len(columns) != count:
        raise VettingError(
            f"the model was fitted on {count} columns and its signature has "
            f"{len(columns)}; {SIGN_AGAIN}"
        )
    return columns


def _of_signature(inputs: str) -> list[InputColumn] | None:
    """Return the columns of a signature's inputs, or None for those of one tensor."""
    try:
        found = _INPUTS.validate_json(inputs)
    except ValidationError as error:
        raise VettingError(
            f"the signature's inputs are not a list of columns; {SIGN_AGAIN}"
        ) from error
    if any(column.tensor for column in found):
        _check_tensor(found)
        return None
    return [_column(column) for column in found]


def _column(column: _Input) -> InputColumn:
    if column.name is None:
        raise VettingError(f"a column of the signature has no name; {SIGN_AGAIN}")
    kind = column.type if isinstance(column.type, str) else "collection"
    if kind not in _TYPES:
        raise VettingError(
            f"the column {one_line(column.name, 40)} has the type {one_line(kind, 40)}; "
            "numbers, integers, booleans and texts are served: fit the model on such columns"
        )
    return column.name, _TYPES[kind], column.required


def _check_tensor(found: Sequence[_Input]) -> None:
    first = found[0].tensor
    if len(found) > 1 or first is None or len(first.shape) != 2:
        raise VettingError(
            "the signature has several tensors, or one that is no table of rows and columns; "
            f"{SIGN_AGAIN}"
        )
    if not first.dtype.startswith(("float", "int", "uint", "bool")):
        raise VettingError(
            f"the signature has a tensor of {one_line(first.dtype, 40)}; fit the model on numbers"
        )


def _fitted_names(estimator: Any) -> list[str]:
    """Return the names of the columns that an estimator was fitted on; none after an array.

    A pipeline returns the names of its first step.
    """
    names = np.asarray(getattr(estimator, "feature_names_in_", []), dtype=object).ravel().tolist()
    return [name if isinstance(name, str) else "?" for name in names]


def _check_order(fitted: Sequence[str], names: Sequence[str]) -> None:
    """Reject an estimator that was fitted on other columns than its signature names.

    Values reach the estimator by their place in the signature. With two orders, every answer would
    be for mixed-up columns.
    """
    before, after = [[plain_name(name) for name in each] for each in (fitted, names)]
    if before == after:
        return
    same = sorted(before) == sorted(after)
    differs = "in another order than" if same else "which are not those of"
    raise VettingError(
        f"the estimator was fitted on the columns {shorten(fitted)}, {differs} its signature; "
        f"{SIGN_AGAIN}"
    )


def add_categories(columns: Sequence[Column], texts: Iterable[Text]) -> list[Column]:
    """Return the columns with what the estimator knows of their texts."""
    known = {text.name: text for text in texts}
    return [
        column.model_copy(
            update={
                "categories": text.categories,
                "unknown_categories": text.accepted is None,
                "required": column.required or not text.nullable,
            }
        )
        if (text := known.get(column.name))
        else column
        for column in columns
    ]


def read_examples(
    directory: Path, columns: Sequence[Column], profile: TrainingProfile | None
) -> NDArray[np.float64]:
    """Return the rows of a model's input example, with columns in the given order.

    MLflow writes a data frame as `{"columns": […], "data": [[…], …]}` and an array as
    `{"inputs": [[…], …]}`. Where there is none, or another, the mean row of the training profile is
    returned; without one, typical lengths of an iris, or ones.
    """
    low, high = np.array([column.domain for column in columns]).T
    required = np.array([column.required for column in columns])
    try:
        content = json.loads(read_file(directory, "input_example.json", MAXIMUM_TEXT_BYTES))
        rows = _read_rows(content, columns)
        accepted = (rows >= low) & (rows <= high) & np.isfinite(rows)
        if len(rows) and (accepted | (np.isnan(rows) & ~required)).all():
            return rows
    except (VettingError, RecursionError, ValueError, TypeError, LookupError, ArithmeticError):
        pass
    means = [_typical(column, profile) for column in columns]
    return np.clip([means], low, high)


def _typical(column: Column, profile: TrainingProfile | None) -> float:
    """Return the mean or the most frequent cell of a column."""
    if profile is None:
        return TYPICAL.get(column.plain_name, 1.0)
    name = column.plain_name
    if name in profile.features:
        mean = profile.features[name].mean
        return mean if column.type == "number" else round(mean)
    shares = profile.categories[name].categories
    most = max(shares, key=shares.__getitem__, default="")
    return column.codes.get(most, UNKNOWN_TEXT) if column.type == "string" else most == "true"


def _read_rows(content: dict[str, Any], columns: Sequence[Column]) -> NDArray[np.float64]:
    """Return an example's rows, (n, columns)."""
    if "inputs" in content:
        order, data = list(range(len(columns))), content["inputs"]
    else:
        order = [content["columns"].index(column.name) for column in columns]
        data = content["data"]
    if any(len(row) < len(columns) for row in data):
        raise ValueError("a row is too short")
    pairs = list(zip(order, columns, [column.codes for column in columns], strict=True))
    return np.array(
        [
            [_cell(row[at], column, codes) for at, column, codes in pairs]
            for row in data[:EXAMPLE_ROWS]
        ],
        dtype=np.float64,
    )


def _cell(value: Any, column: Column, codes: Mapping[str, float]) -> float:
    if value is None:
        return math.nan
    return codes.get(value, UNKNOWN_TEXT) if column.type == "string" else float(value)

"""The contract of a model: the columns of a row, the task, and the labels.

It comes with the registered model: the signature names the columns and their types, and the
training profile may give ranges. The import records it; requests, documents and metrics follow it.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from iris_api.errors import IrisError, one_line

ColumnType = Literal["number", "integer", "boolean", "string"]

Task = Literal["classifier", "regressor"]

Label = bool | int | float | str
"""A label as the estimator has it; a float is a whole number."""

_KINDS = {"number": "a number", "integer": "an integer", "boolean": "a boolean", "string": "a text"}
_LABELS = {int: "integers", bool: "booleans", float: "whole floats", str: "texts"}

MAXIMUM_COLUMNS = 2000
MAXIMUM_NAME = 100
"""Most columns, and most characters of a name: both are repeated in messages and metrics."""

MAXIMUM_CATEGORIES = 1000
"""Most categories of a column."""

MAXIMUM_INTEGER = 2**53 - 1
"""Largest integer of an integer column; float64 holds each integer up to it exactly."""

UNKNOWN_TEXT = -1.0
"""The cell of a text that is not among the categories of its column."""

RESERVED = "instances"
"""The key of a body with many rows, which cannot be a column as well."""

FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
"""Plain names of the columns of IrisModel, in the order in which its requests have them."""

IRIS_RANGE = (0.0, 100.0)
"""Range in cm of each column of IrisModel; other values are mistakes of unit or decimal point."""

TYPICAL = dict(zip(FEATURES, (5.8, 3.1, 3.8, 1.2), strict=True))
"""About the mean of each column in the iris data set, in cm."""

_UNIT = re.compile(r"\s*\(([^()]*)\)\s*$")


class SchemaError(IrisError):
    """Columns that cannot be a contract: one line that says why, and what to change."""


class IncompatibleError(SchemaError):
    """A version that would change what a request or an answer of the active version means."""


class Column(BaseModel):
    """One column of the rows of a model."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="as in the model's signature")
    plain_name: str = Field(description="name without its unit, of letters, digits and _ alone")
    type: ColumnType
    required: bool = Field(default=True, description="false: null stands for a missing value")
    minimum: float | None = Field(default=None, description="smallest value that is accepted")
    maximum: float | None = Field(default=None, description="largest value that is accepted")
    unit: str | None = None
    categories: list[str] | None = Field(
        default=None, description="texts that the model knows, of a column of texts"
    )
    unknown_categories: bool = Field(
        default=False, description="whether other texts are accepted as well"
    )

    @property
    def domain(self) -> tuple[float, float]:
        """The smallest and the largest accepted cell; infinite where any finite number is."""
        if self.type == "boolean":
            return 0.0, 1.0
        if self.type == "string":
            known = len(self.categories or [])
            return UNKNOWN_TEXT if self.unknown_categories else 0.0, max(known - 1.0, UNKNOWN_TEXT)
        limit = MAXIMUM_INTEGER if self.type == "integer" else math.inf
        low = -limit if self.minimum is None else max(self.minimum, -limit)
        high = limit if self.maximum is None else min(self.maximum, limit)
        return low, high

    @property
    def codes(self) -> dict[str, float]:
        """The cell of each category: its place among them."""
        return {text: float(place) for place, text in enumerate(self.categories or [])}


class Schema(BaseModel):
    """The contract of a model."""

    model_config = ConfigDict(frozen=True)

    columns: Annotated[list[Column], Field(min_length=1, max_length=MAXIMUM_COLUMNS)]
    task: Task
    labels: list[Label] | None = Field(
        default=None, description="of a classifier, in the order of the probabilities' columns"
    )

    @model_validator(mode="after")
    def _check(self) -> "Schema":
        if len(set(self.names)) < len(self.columns):
            raise ValueError("two columns have the same plain name")
        return self

    @property
    def names(self) -> list[str]:
        """The plain name of each column, in their order."""
        return [column.plain_name for column in self.columns]

    def in_order(self, names: Iterable[str]) -> list[Column]:
        """Return the columns in another order, by their plain names."""
        by_name = dict(zip(self.names, self.columns, strict=True))
        return [by_name[name] for name in names]


def make_columns(
    found: Sequence[tuple[str, ColumnType, bool]],
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> list[Column]:
    """Return the columns of requests.

    Args:
        found: Name, type and whether it is required, of each column in the model's own order.
        ranges: The smallest and the largest accepted number, by plain name.

    Returns:
        The columns in the same order. Those of IrisModel are in the order of `FEATURES` and have
        their unit and range, because a model may have been fitted in another one, or without them.

    Raises:
        SchemaError: A name cannot be used, or there are too many.
    """
    names = [name for name, _, _ in found]
    _check_names(names)
    columns = []
    for (name, type_, required), plain in zip(found, _plain_names(names), strict=True):
        low, high = (ranges or {}).get(plain, (None, None))
        column = Column(
            name=name,
            plain_name=plain,
            type=type_,
            required=required,
            minimum=low,
            maximum=high,
            unit=unit_of(name),
        )
        columns.append(column)
    units = {column.unit or "cm" for column in columns}
    if sorted(column.plain_name for column in columns) != sorted(FEATURES) or units != {"cm"}:
        return columns
    ordered = sorted(columns, key=lambda column: FEATURES.index(column.plain_name))
    low, high = IRIS_RANGE
    return [
        column.model_copy(
            update={
                "unit": "cm",
                "minimum": low if column.minimum is None else column.minimum,
                "maximum": high if column.maximum is None else column.maximum,
            }
        )
        for column in ordered
    ]


def plain_name(name: str) -> str:
    """Return a name without its unit, with _ for what is not a letter, a digit or _."""
    bare = _UNIT.sub("", name) or name
    return "".join(char if char.isalnum() else "_" for char in bare)


def unit_of(name: str) -> str | None:
    """Return what stands in parentheses at the end of a name."""
    found = _UNIT.search(name)
    return found[1] if found and found.start() > 0 else None


def changes(active: Schema, new: Schema) -> list[str]:
    """Return how another version would change what a request or an answer means.

    An empty list means that clients of the active version need not know of the new one.
    """
    return [*_changed_columns(active, new), *_changed_answers(active, new)]


def _changed_columns(active: Schema, new: Schema) -> Iterable[str]:
    before = {column.plain_name: column for column in active.columns}
    after = {column.plain_name: column for column in new.columns}
    for name, column in before.items():
        if name not in after:
            yield f"the column {name} is gone"
        elif after[name].type != column.type:
            yield f"the column {name} was {_KINDS[column.type]} and is {_KINDS[after[name].type]}"
        elif after[name].required and not column.required:
            yield f"the column {name} has become required"
        elif column.unit and after[name].unit and column.unit != after[name].unit:
            yield f"the column {name} was in {column.unit} and is in {after[name].unit}"
    yield from (
        f"the column {name} is new and required"
        for name, column in after.items()
        if name not in before and column.required
    )
    kept = [name for name in before if name in after]
    # A new column comes last, or the cells of an array would change their places.
    if kept != list(after)[: len(kept)]:
        yield "its columns are in another order"


def _changed_answers(active: Schema, new: Schema) -> Iterable[str]:
    if active.task != new.task:
        yield f"the model was a {active.task} and is a {new.task}"
        return
    before, after = active.labels or [], new.labels or []
    kinds = [" and ".join(sorted({_LABELS[type(label)] for label in of})) for of in (before, after)]
    if kinds[0] != kinds[1]:
        yield f"its labels were {kinds[0]} and are {kinds[1]}"
        return
    yield from (f"the label {one_line(label)} is gone" for label in before if label not in after)
    yield from (f"the label {one_line(label)} is new" for label in after if label not in before)
    if before != after and set(before) == set(after):
        yield "its labels are in another order"


def _check_names(names: Sequence[str]) -> None:
    if not names:
        raise SchemaError("the model has no columns")
    if len(names) > MAXIMUM_COLUMNS:
        raise SchemaError(f"the model has {len(names)} columns, and {MAXIMUM_COLUMNS} are possible")
    for name in names:
        if not (name.strip() and name.isprintable() and len(name) <= MAXIMUM_NAME):
            raise SchemaError(
                f"the column {one_line(name, 40)!r} has no name of 1 to {MAXIMUM_NAME} printable "
                "characters; rename it"
            )
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise SchemaError(f"{count} columns have the name {name}; rename them")
    if RESERVED in names:
        raise SchemaError(f"a column has the name {RESERVED}, a key of requests; rename it")


def _plain_names(names: Sequence[str]) -> list[str]:
    """Return each column's plain name, or its own where that would stand for two columns."""
    plain = [plain_name(name) for name in names]
    taken = Counter([*plain, RESERVED])
    return [name if taken[short] > 1 else short for name, short in zip(names, plain, strict=True)]

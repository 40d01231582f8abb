"""Rows as JSON has them, checked cell by cell against a schema: what is wrong is said in words.

A row is float64: a boolean is 0 or 1, a text is its place among the known texts of its column, and
a missing value is NaN. So a table of any kind is one array.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from iris_api.protocols.problems import InvalidRequestError, Problem, explain, printable
from iris_api.schema import UNKNOWN_TEXT, Column, Schema

T = TypeVar("T")

Path = tuple[str | int, ...]

Cell = float | str
"""The number of a cell, or what is wrong with it."""

NAMED_COLUMNS = 20
"""Most columns that an error names."""

MORE_NAMES = 256
"""Most names of a row beyond two for each column. To explain a wrong name takes 8 µs."""

_QUANTITIES = {"mm": "length", "cm": "length", "m": "length", "km": "length", "in": "length"}

_ABSENT = object()


class RowReader:
    """Checks rows of one schema; both ways to name a column are accepted."""

    def __init__(self, schema: Schema) -> None:
        self.names = schema.names
        more = ", …" if len(self.names) > NAMED_COLUMNS else ""
        self.shown_names = ", ".join(self.names[:NAMED_COLUMNS]) + more
        self.own_names = [column.name for column in schema.columns]
        self._columns = schema.columns
        self._checks = [_check(column) for column in schema.columns]
        own = {name: place for place, name in enumerate(self.own_names)}
        self._places = own | {name: place for place, name in enumerate(self.names)}
        largest = np.finfo(np.float64).max
        domains = [_limits(column) for column in schema.columns]
        self._low, self._high = np.clip(np.array(domains), -largest, largest).T
        self._whole = np.flatnonzero([column.type != "number" for column in schema.columns])
        self._optional = np.array([not column.required for column in schema.columns])

    def read(self, row: Any, path: Path = ()) -> list[float]:
        """Return the cells of a row, an object or an array.

        Raises:
            InvalidRequestError: It breaks the schema; the error names each wrong cell.
        """
        if isinstance(row, Mapping):
            self.check_names(len(row))
        cells: list[float] = []
        problems = list(self._problems(row, path, cells))
        if problems:
            raise explain(problems)
        return cells

    def check_matrix(self, rows: NDArray[np.float64], path: Path = ()) -> None:
        """Check rows that are numbers already, without a Python object for each.

        Raises:
            InvalidRequestError: A cell breaks the schema; the error names the first one.
        """
        valid = (rows >= self._low) & (rows <= self._high)
        if self._whole.size:
            whole = rows[:, self._whole]
            valid[:, self._whole] &= whole == np.trunc(whole)
        if self._optional.any():
            valid |= np.isnan(rows) & self._optional
        if not valid.all():
            row, place = np.argwhere(~valid)[0].tolist()
            found = self._checks[place](float(rows[row, place]))
            text = found if isinstance(found, str) else "is missing"
            raise explain([_problem((*path, row), self.names[place], text)])

    def read_cell(self, place: int, value: Any, path: Path = ()) -> float:
        """Return a cell of one column, or raise an InvalidRequestError."""
        cell = _read(value, self._checks[place], required=self._columns[place].required)
        if isinstance(cell, str):
            raise explain([_problem(path, self.names[place], cell)])
        return cell

    def check_names(self, count: int, place: str = "a row") -> None:
        """Reject far more names than there are columns, before each of them is explained."""
        if count > (limit := 2 * len(self.names) + MORE_NAMES):
            raise InvalidRequestError(f"{place} has {count} names, at most {limit} are allowed")

    def place(self, name: str) -> int | None:
        """Return the place of the column with this name, or None."""
        return self._places.get(name)

    def by_name(self, make: Callable[[Column], T]) -> dict[str, T]:
        """Return the result of a function for each column, by both names of the column."""
        return {name: make(self._columns[place]) for name, place in self._places.items()}

    def knows(self, name: str) -> bool:
        """Return whether a column has this name."""
        return name in self._places

    def unknown(self, keys: Sequence[str], path: Path = ()) -> list[Problem]:
        """Return the problems of keys that are not columns."""
        return [_problem(path, printable(key), "is not one of the expected names") for key in keys]

    def _problems(self, row: Any, path: Path, cells: list[float]) -> Iterator[Problem]:
        """Yield what is wrong with a row, and append the cells that are right."""
        if isinstance(row, Mapping):
            values, unknown, twice = self._by_name(row)
        elif not isinstance(row, list):
            yield Problem(list(path), "must be an array")
            return
        elif len(row) > len(self._columns):
            yield Problem(list(path), self._count())
            return
        else:
            values, unknown, twice = row + [_ABSENT] * (len(self._columns) - len(row)), [], []
        for name, column, check, value in zip(
            self.names, self._columns, self._checks, values, strict=True
        ):
            omitted = value is _ABSENT and not column.required  # in an array, those at its end
            cell = math.nan if omitted else _read(value, check, required=column.required)
            if isinstance(cell, str):
                yield _problem(path, name, cell)
            else:
                cells.append(cell)
        yield from (_problem(path, name, "is given twice") for name in twice)
        yield from self.unknown(unknown, path)

    def _by_name(self, row: Mapping[str, Any]) -> tuple[list[Any], list[str], list[str]]:
        values, unknown, twice = [_ABSENT] * len(self._columns), [], []
        for key, value in row.items():
            place = self._places.get(key)
            if place is None:
                unknown.append(key)
            elif values[place] is not _ABSENT:
                twice.append(self.names[place])
            else:
                values[place] = value
        return values, unknown, twice

    def _count(self) -> str:
        return f"must have exactly {len(self.names)} columns: {self.shown_names}"


def _limits(column: Column) -> tuple[float, float]:
    """Return the smallest and the largest cell of a column."""
    if column.type == "string":
        return UNKNOWN_TEXT, len(column.categories or []) - 1
    return column.domain


def _problem(path: Path, name: str, text: str) -> Problem:
    return Problem([*path, name], text)


def _read(value: Any, check: Callable[[Any], Cell], *, required: bool) -> Cell:
    if value is _ABSENT:
        return "is missing"
    if value is None and not required:
        return math.nan
    return check(value)


def _check(column: Column) -> Callable[[Any], Cell]:
    """Return the function that reads a cell of a column."""
    if column.type == "boolean":
        return lambda value: float(value) if isinstance(value, bool) else "must be true or false"
    if column.type == "string":
        return _text(column)
    return _integer(column) if column.type == "integer" else _number(column)


def _text(column: Column) -> Callable[[Any], Cell]:
    codes = column.codes
    known = ", ".join(map(repr, column.categories[:NAMED_COLUMNS])) if column.categories else ""

    def check(value: Any) -> Cell:
        if not isinstance(value, str):
            return "must be a text"
        if value not in codes and not column.unknown_categories:
            return f"must be one of {known}"
        return codes.get(value, UNKNOWN_TEXT)

    return check


def _number(column: Column) -> Callable[[Any], Cell]:
    low, high = column.domain
    outside = _outside(column)

    def check(value: Any) -> Cell:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "must be a number"
        number = _to_float(value)
        if not math.isfinite(number):
            return "must be a finite number, not NaN or Infinity"
        return number if low <= number <= high else outside

    return check


def _integer(column: Column) -> Callable[[Any], Cell]:
    number = _number(column)

    def check(value: Any) -> Cell:
        cell = number(value)
        if isinstance(cell, str):
            return "must be a whole number" if cell == "must be a number" else cell
        return cell if cell.is_integer() else "must be a whole number"

    return check


def _outside(column: Column) -> str:
    """Return what is wrong with a number outside the column's range."""
    unit = f" {column.unit}" if column.unit else ""
    quantity = _QUANTITIES.get(column.unit or "", "number")
    low, high = column.domain
    if math.isinf(low) or math.isinf(high):
        limit = f"at least {low:.17g}" if math.isinf(high) else f"at most {high:.17g}"
        return f"must be a {quantity} of {limit}{unit}"
    return f"must be a {quantity} of {low:.17g} to {high:.17g}{unit}"


def _to_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of more than 308 digits
        return math.inf

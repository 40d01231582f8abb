"""Rows decoded by msgspec, whose types are made of a schema.

It decodes common valid bodies, a few million rows a second. `rows.RowReader` handles all others and
explains what is wrong with them.
"""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from iris_api.schema import UNKNOWN_TEXT, Column, Schema

_astuple = msgspec.structs.astuple


class Decoder:
    """Decodes bodies with rows of one schema."""

    def __init__(self, schema: Schema) -> None:
        self._columns = schema.columns
        self._texts = [
            (place, column.codes)
            for place, column in enumerate(schema.columns)
            if column.type == "string"
        ]
        self._integers = [
            place for place, column in enumerate(schema.columns) if column.type == "integer"
        ]
        self._plain = not self._texts and all(column.required for column in schema.columns)
        own = [column.name for column in schema.columns]
        ways = [schema.names] if own == schema.names else [schema.names, own]
        # msgspec takes no such names; the reader does.
        self._by_name = [
            _Names(schema, names) for names in ways if not {'"', "\\"} & set("".join(names))
        ]

    def decode(self, body: bytes) -> NDArray[np.float64] | None:
        """Return the rows of a body, one object or `instances`: float64 (n, columns).

        None means that the body is invalid, or valid in an uncommon way.
        """
        if b"\\" in body:  # a key can be written in several ways
            return None
        for names in self._by_name:
            if rows := names.decode(body):
                return self._to_array(rows)
        return None

    def _to_array(self, rows: Sequence[tuple[Any, ...]]) -> NDArray[np.float64] | None:
        if self._plain:
            width = len(self._columns)
            cells = chain.from_iterable(rows)
            array = np.fromiter(cells, np.float64, len(rows) * width).reshape(-1, width)
        else:
            array = np.array([self._to_numbers(row) for row in rows], dtype=np.float64)
        if self._integers:
            whole = array[:, self._integers]
            if not np.all((whole == np.trunc(whole)) | np.isnan(whole)):
                return None
        return array

    def _to_numbers(self, row: tuple[Any, ...]) -> Sequence[Any]:
        """Replace texts by their codes; numpy makes NaN of None."""
        if not self._texts:
            return row
        cells = list(row)
        for place, codes in self._texts:
            text = cells[place]
            cells[place] = None if text is None else codes.get(text, UNKNOWN_TEXT)
        return cells


class _Names:
    """The types of msgspec for one way to name the columns."""

    def __init__(self, schema: Schema, names: Sequence[str]) -> None:
        cells = [_type(column) for column in schema.columns]
        fields = [f"column_{place}" for place in range(len(names))]
        row = msgspec.defstruct(
            "Row",
            list(zip(fields, cells, strict=True)),
            rename=dict(zip(fields, names, strict=True)),
            forbid_unknown_fields=True,
            gc=False,
        )
        body = msgspec.defstruct(
            "Body",
            [("instances", list[row | tuple[tuple(cells)]])],  # type: ignore[misc]
            forbid_unknown_fields=True,
        )
        self._row = msgspec.json.Decoder(row)
        self._body: msgspec.json.Decoder[Any] = msgspec.json.Decoder(body)
        self._colons = sum(1 + name.count(":") for name in names)

    def decode(self, body: bytes) -> Sequence[tuple[Any, ...]] | None:
        found: list[Any]
        try:
            # Of short bodies most are one row.
            if b'"instances"' not in body:
                found, colons = [self._row.decode(body)], 0
            else:
                found, colons = self._body.decode(body).instances, 1
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        count = body.count(b":") - colons
        if count == 0:
            return found  # without a name, all rows are arrays
        rows = [row if type(row) is tuple else _astuple(row) for row in found]
        # msgspec takes the last of two equal keys. Then the body has more colons than it should.
        count -= self._colons * sum(type(row) is not tuple for row in found)
        return rows if count in (0, _colons_in_texts(rows)) else None


def _colons_in_texts(rows: Sequence[tuple[Any, ...]]) -> int:
    return sum(cell.count(":") for row in rows for cell in row if type(cell) is str)


def _type(column: Column) -> Any:
    """Return the type of a cell of a column."""
    kind: Any = _number(column)
    if column.type == "boolean":
        kind = bool
    elif column.type == "string":
        known = column.categories or [""]
        kind = str if column.unknown_categories else Literal[tuple(known)]
    return kind if column.required else kind | None


def _number(column: Column) -> Any:
    """Return float within the range of the column; whether it is whole is checked later."""
    low, high = (limit if math.isfinite(limit) else None for limit in column.domain)
    return Annotated[float, msgspec.Meta(ge=low, le=high)]

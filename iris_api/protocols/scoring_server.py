"""MLflow's scoring server: `POST /invocations` with a data frame, tensors or CSV.

It follows `mlflow.pyfunc.scoring_server`, but wrong types are never cast, and a column that the
model does not have is ignored only where every column of the model is there: a misspelled optional
column would otherwise count as a missing value.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from iris_api.model.engines import Answer
from iris_api.protocols.calls import JSON, Call, Headers, Query, Reply, header
from iris_api.protocols.native import check_keys, read_json, write_answer
from iris_api.protocols.problems import (
    SHOWN_PROBLEMS,
    InvalidRequestError,
    Problem,
    explain,
    printable,
)
from iris_api.schema import Column

CSV = b"text/csv"

SPLIT = "dataframe_split"

FORMS = (SPLIT, "dataframe_records", "instances", "inputs")
"""The keys of a body, of which it has one."""


class _Split(msgspec.Struct, forbid_unknown_fields=True):
    data: msgspec.Raw
    columns: list[str] | None = None
    index: msgspec.Raw = msgspec.Raw()


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    dataframe_split: _Split | None = None
    dataframe_records: msgspec.Raw = msgspec.Raw()
    inputs: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Body).decode


class Invocations(Call):
    """`POST /invocations`."""

    media_types = (JSON, CSV)
    media_types_text = "send JSON or CSV, with Content-Type: application/json or text/csv"

    def parse(self, body: bytes, headers: Headers) -> Query:
        """Parse one of the forms of MLflow's scoring server."""
        self.native.check_values(body)
        media_type = header(headers, b"content-type") or JSON
        if media_type.partition(b";")[0].strip().lower() == CSV:
            return Query(self._read(self._read_csv(body), "row"))
        rows = self._decode(body)
        if rows is not None:
            return Query(rows)
        form, found = _only_form(read_json(body))
        if isinstance(found, Mapping) and form in _READERS:
            self.native.reader.check_names(len(found), form)
            found = _READERS[form](found)
        rows = self._read(found, form)
        check_keys(body)
        return Query(rows)

    def write(self, _query: Query, answer: Answer) -> Reply:
        """Write `predictions`."""
        return Reply(write_answer(self.model, answer, probabilities=False))

    def _decode(self, body: bytes) -> NDArray[np.float64] | None:
        """Return the rows of a body in a common form; its rows are those of the native protocol."""
        if b'"instances"' not in body:
            try:
                found = _decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return None
            split = found.dataframe_split or _Split(msgspec.Raw())
            forms = [bytes(rows) for rows in (split.data, found.dataframe_records, found.inputs)]
            if sum(map(bool, forms)) != 1:
                return None
            data, names = b"".join(forms), split.columns
            own = (self.native.reader.names, self.native.reader.own_names)
            # With names beside them, rows are arrays alone.
            if names is not None and (names not in own or b"{" in data):
                return None
            # A key that is given twice has one colon too many.
            frame = body.rstrip(b"} \t\r\n").removesuffix(data)  # which is the last in common forms
            inner = bytes(split.index) + "".join(names or []).encode()
            keys = 1 + bool(split.data) + bool(split.index) + (names is not None)
            if frame.count(b":") != keys + inner.count(b":"):
                return None
            body = b'{"instances":%b}' % data
        rows = self.native.decoder.decode(body)
        if rows is not None:
            self.native.check_count(len(rows), "the body")
        return rows

    def _read(self, rows: Any, form: str) -> NDArray[np.float64]:
        """Read rows one by one, each an object or an array."""
        if not isinstance(rows, list) or not rows:
            raise explain([Problem([form], "must be an array with at least one row")])
        self.native.check_count(len(rows), form)
        read = self.native.reader.read
        cells = [read(self._known(row), (form, place)) for place, row in enumerate(rows)]
        return np.array(cells, dtype=np.float64)

    def _known(self, row: Any) -> Any:
        """Return a row without the columns that the model does not have, if it has all others."""
        if not isinstance(row, Mapping):
            return row
        self.native.reader.check_names(len(row))
        known = {name: cell for name, cell in row.items() if self.native.reader.knows(name)}
        return known if len(known) >= len(self.native.reader.names) else row

    def _read_csv(self, body: bytes) -> list[dict[str, Any]]:
        """Return the rows of CSV with a header; an empty cell is a missing value."""
        rows: list[dict[str, Any]] = []
        readers = self.native.reader.by_name(_cell_reader)
        try:
            lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
            names = next(lines, [])
            self.native.reader.check_names(len(names), "the header")
            _check_names(names, ("header",))
            for line in filter(None, lines):  # an empty line is no row, as for pandas
                row = _by_name(names, line, ("row", len(rows)))
                rows.append({key: readers.get(key, str)(text) for key, text in row.items()})
                self.native.check_count(len(rows), "the body")
        except (UnicodeDecodeError, csv.Error) as error:
            raise InvalidRequestError(f"not valid CSV in UTF-8: {error}") from None
        return rows


def _read_split(split: Mapping[str, Any]) -> Any:
    if unknown := split.keys() - {"columns", "data", "index"}:
        text = "is not one of columns, data and index"
        raise explain([Problem([SPLIT, printable(min(unknown))], text)])
    names, rows = split.get("columns"), split.get("data")
    if names is None or not isinstance(rows, list):
        return rows
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise explain([Problem([SPLIT, "columns"], "must be an array of names")])
    _check_names(names, (SPLIT, "columns"))
    return [_by_name(names, row, (SPLIT, "data", n)) for n, row in enumerate(rows)]


def _read_columns(columns: Mapping[str, Any]) -> Any:
    """Return the rows of an object that has an array for each column, or one cell for each."""
    if not any(isinstance(cells, list) for cells in columns.values()):
        return [columns]
    lengths = {len(cells) if isinstance(cells, list) else -1 for cells in columns.values()}
    if len(lengths) > 1:
        raise explain([Problem(["inputs"], "must have arrays of one length")])
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


_READERS = {SPLIT: _read_split, "inputs": _read_columns}
"""The functions that make rows of the forms that are objects."""


def _only_form(content: Any) -> tuple[str, Any]:
    """Return the only form of a body, and what it has."""
    forms = [form for form in FORMS if form in content] if isinstance(content, dict) else []
    if len(forms) != 1:
        raise InvalidRequestError(f"the body must be an object with one of {', '.join(FORMS)}")
    for key in content.keys() - forms:
        if key != "params":
            raise explain([Problem([printable(key)], "is not one of the expected names")])
        if content[key]:
            raise explain([Problem([key], "this model takes no parameters; leave them out")])
    return forms[0], content[forms[0]]


def _check_names(names: list[str], place: tuple[str, ...]) -> None:
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        shown = doubled[:SHOWN_PROBLEMS]
        raise explain([Problem([*place, printable(name)], "is given twice") for name in shown])


def _by_name(names: list[str], row: Any, path: tuple[str | int, ...]) -> dict[str, Any]:
    if not isinstance(row, list) or len(row) != len(names):
        raise explain([Problem(list(path), f"must have {len(names)} cells, one for each column")])
    return dict(zip(names, row, strict=True))


def _cell_reader(column: Column) -> Callable[[str], Any]:
    """Return the function that reads a cell of CSV, as JSON would have it."""
    if column.type == "string":
        return lambda text: text or None
    if column.type == "boolean":
        return lambda text: {"true": True, "false": False, "": None}.get(text.lower(), text)

    def number(text: str) -> float | str | None:
        try:
            return float(text) if "_" not in text else text
        except ValueError:
            return text or None

    return number

"""The native protocol: JSON with one row by its names, or with many rows as `instances`."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pydantic_core
from numpy.typing import NDArray

from iris_api.model.engines import Answer
from iris_api.model.loaded_model import Model
from iris_api.protocols.decoding import Decoder
from iris_api.protocols.problems import InvalidRequestError, Problem, explain, printable
from iris_api.protocols.rows import Path, RowReader
from iris_api.schema import RESERVED, Schema

SHORT_BODY_BYTES = 256
"""Maximum size of a body whose number of values need not be counted before it is parsed."""

MAXIMUM_CELLS = 4_000_000
"""Most cells of a request, rows times columns: the default limit of rows with 40 columns."""

SHORT_CELLS = 100_000
"""Most missing cells that a body of the shortest rows could have to count as short. Each takes up
to 0.5 µs to read, and a row at least 3 bytes of JSON."""


class NativeProtocol:
    """Bodies with rows of one schema."""

    def __init__(self, schema: Schema, max_rows: int) -> None:
        self.decoder = Decoder(schema)
        self.reader = RowReader(schema)
        width = len(schema.columns)
        self.max_rows = min(max_rows, MAXIMUM_CELLS // width)
        # Twice the values that a row of any form has.
        self._max_values = 2 * (width + 1) * self.max_rows + SHORT_BODY_BYTES
        self._optional = sum(not column.required for column in schema.columns)
        self._names = self.reader.shown_names

    def parse_rows(self, body: bytes) -> NDArray[np.float64]:
        """Parse the body of a request, JSON in one of the two forms.

        Returns:
            Shape (n, columns), n >= 1, in the order of the schema's columns.

        Raises:
            InvalidRequestError: The body breaks the protocol.
        """
        self.check_values(body)
        rows = self.decoder.decode(body)
        if rows is None:
            return self._read(body)
        self.check_count(len(rows), RESERVED)
        return rows

    def _read(self, body: bytes) -> NDArray[np.float64]:
        """Parse a body that the decoder left, or say what is wrong with it."""
        content = read_json(body)
        if not isinstance(content, dict):
            text = f"the body must be an object with {self._names}, or with {RESERVED}"
            raise InvalidRequestError(text)
        rows = self._read_rows(content)
        check_keys(body)
        return np.array(rows, dtype=np.float64)

    def _read_rows(self, content: dict[str, Any]) -> list[list[float]]:
        if RESERVED not in content:
            return [self.reader.read(content)]
        self.reader.check_names(len(content), "the body")
        others = [key for key in content if key != RESERVED]
        if both := [key for key in others if self.reader.knows(key)]:
            text = f"send either {RESERVED} or {self._names}, not both"
            raise InvalidRequestError(
                text, [Problem([name], f"stands beside {RESERVED}") for name in both]
            )
        rows = self._read_instances(content[RESERVED])
        if others:
            raise explain(self.reader.unknown(others))
        return rows

    def _read_instances(self, instances: Any) -> list[list[float]]:
        if not isinstance(instances, list):
            raise explain([Problem([RESERVED], "must be an array")])
        if not instances:
            raise explain([Problem([RESERVED], "must have at least one row")])
        self.check_count(len(instances), RESERVED)
        # The first wrong row ends it: each takes a hundred times as long as a valid one.
        return [self.reader.read(row, (RESERVED, place)) for place, row in enumerate(instances)]

    def is_quick(self, body: bytes) -> bool:
        """Return whether a short body has few cells too: a missing one takes no byte of it."""
        return len(body) * self._optional <= SHORT_CELLS

    def check_count(self, count: int, place: str) -> None:
        """Reject more rows than a request may have, by the limit of rows or of cells."""
        if count > self.max_rows:
            text = f"{place}: has {count} rows, at most {self.max_rows} are allowed"
            raise InvalidRequestError(f"{text}; send several bodies", status=413)

    def check_values(self, body: bytes) -> None:
        """Reject a body that would become far more Python objects than the allowed rows.

        Each value is the first of an array or object, or follows a comma.
        """
        if len(body) <= SHORT_BODY_BYTES:
            return
        containers = body.count(b"[") + body.count(b"{")  # of which each row is one
        values = containers + body.count(b",")
        if containers > 2 * self.max_rows + SHORT_BODY_BYTES or values > self._max_values:
            text = f"the body has many more values than {self.max_rows} rows have; send several"
            raise InvalidRequestError(text, status=413)


def read_json(body: bytes) -> Any:
    """Parse JSON, or raise an error that says why it is none.

    NaN and Infinity, which are no JSON, are left to the reader of rows, which names the place.
    """
    try:
        return pydantic_core.from_json(body)
    except ValueError as error:
        raise InvalidRequestError(f"not valid JSON: {_reason(body, error)}") from None


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


def check_keys(body: bytes) -> None:
    """Reject JSON with an object that has a key twice: other parsers keep only the last."""
    try:
        pairs = json.loads(body, object_pairs_hook=tuple, parse_int=float)
        objects = list(_objects(pairs, ()))
    except (ValueError, RecursionError) as error:  # in a part that no other parser reads
        raise InvalidRequestError(f"not valid JSON: {error}") from None
    for path, found in objects:
        if len(found) > len(dict(found)):
            keys = Counter(name for name, _ in found)
            doubled = [(*path, name) for name, count in keys.items() if count > 1]
            raise explain([Problem([*map(_shown, key)], "is given twice") for key in doubled])


def _shown(step: str | int) -> str | int:
    return step if isinstance(step, int) else printable(step)


def _objects(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Yield each object within a value, as a tuple of its pairs, and its path."""
    if isinstance(value, tuple):
        yield path, value
    for step, inner in value if isinstance(value, tuple) else enumerate(value):
        if isinstance(inner, tuple | list):
            yield from _objects(inner, (*path, step))


def write_answer(model: Model, answer: Answer, *, probabilities: bool) -> bytes:
    """Write a model's answer as `Predictions`, or as `Probabilities`."""
    content = (
        {"classes": model.classes, "probabilities": answer.probabilities}
        if probabilities
        else {"predictions": model.predictions(answer)}
    )
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)

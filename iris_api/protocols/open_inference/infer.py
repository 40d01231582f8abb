"""The prediction call of the Open Inference Protocol: tensors become rows, and answers tensors.

A request is one tensor of all columns, of any name and the shape [n, columns], or one tensor a
column, of its name and the shape [n] or [n, 1]. NaN or null is a missing value.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from iris_api.model.engines import Answer
from iris_api.model.loaded_model import Model
from iris_api.protocols.calls import JSON, Call, Headers, Query, Reply, header
from iris_api.protocols.native import NativeProtocol, check_keys
from iris_api.protocols.open_inference.messages import DATATYPES, label_datatype
from iris_api.protocols.open_inference.tensors import (
    NUMBERS,
    Request,
    Tensor,
    TensorReader,
    count_keys,
    decode_request,
    to_float,
)
from iris_api.protocols.problems import InvalidRequestError, Problem, explain, printable
from iris_api.schema import Column

BINARY = b"application/octet-stream"

LENGTH = "Inference-Header-Content-Length"
"""The header with the size of the JSON before the binary tensors, in bytes."""

_LENGTH = LENGTH.lower().encode()


class _Wanted(NamedTuple):
    """The parts that an answer must have: an id, and outputs, each in JSON or in binary."""

    id: str | None
    outputs: list[tuple[str, bool]]


class Infer(Call):
    """`POST /v2/models/NAME/infer`."""

    media_types = (JSON, BINARY)
    media_types_text = (
        "send JSON, with Content-Type: application/json, "
        f"or binary tensors after it, with the header {LENGTH}"
    )

    def __init__(self, model: Model, native: NativeProtocol) -> None:
        super().__init__(model, native)
        self._columns = model.schema.columns
        self._outputs = ["predict"] + ["predict_proba"] * model.has_probabilities
        self._datatype = label_datatype(model.schema)
        self._numeric = all(column.type in {"number", "integer"} for column in self._columns)
        self._packed = {label: _pack(str(label)) for label in model.schema.labels or []}

    def parse(self, body: bytes, headers: Headers) -> Query:
        """Parse JSON, and the binary tensors after it."""
        size = _json_size(header(headers, _LENGTH), len(body))
        head = body if size is None else body[:size]
        self.native.check_values(head)
        try:
            request = decode_request(head)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequestError(f"not a request of this protocol: {error}") from None
        # The decoder keeps the last of two equal keys, each of which has a colon.
        if head.count(b":") > count_keys(request) or b"\\" in head:
            check_keys(head)
        wanted = self._wanted(request)
        rows = self._decode(request.inputs) if size is None else None
        if rows is None:
            binary = b"" if size is None else memoryview(body)[size:]
            rows = self._rows(request.inputs, TensorReader(binary))
        probabilities = any(name == "predict_proba" for name, _ in wanted.outputs)
        return Query(rows, probabilities, wanted)

    def _wanted(self, request: Request) -> _Wanted:
        binary = bool(request.parameters and request.parameters.binary_data_output)
        if request.outputs is None:
            return _Wanted(request.id, [(name, binary) for name in self._outputs])
        outputs: list[tuple[str, bool]] = []
        for place, output in enumerate(request.outputs):
            if output.name not in self._outputs:
                text = f"must be one of {', '.join(self._outputs)}"
                raise explain([Problem(["outputs", place, "name"], text)])
            if output.name in dict(outputs):  # an answer with each of them would have no limit
                raise explain([Problem(["outputs", place, "name"], "is given twice")])
            own = output.parameters.binary_data if output.parameters else None
            outputs.append((output.name, binary if own is None else own))
        return _Wanted(request.id, outputs)

    def _decode(self, inputs: Sequence[Tensor]) -> NDArray[np.float64] | None:
        """Return the rows of a tensor in a common form, as the native protocol decodes them.

        None means that it is wrong, or right in an uncommon form.
        """
        tensor = inputs[0] if len(inputs) == 1 else None
        if tensor is None or not self._numeric or tensor.datatype not in {"FP64", "FP32"}:
            return None
        data, shape = bytes(tensor.data), tensor.shape
        if b":" in data or shape[:1] > [self.native.max_rows]:
            return None
        is_row = shape[:1] == [1] and not data.startswith(b"[[")
        rows = self.native.decoder.decode(
            b'{"instances":%b}' % (b"[%b]" % data if is_row else data)
        )
        return rows if rows is not None and list(rows.shape) == shape else None

    def _rows(self, inputs: Sequence[Tensor], tensors: "TensorReader") -> NDArray[np.float64]:
        if not inputs:
            raise explain([Problem(["inputs"], "must have at least one tensor")])
        for place, tensor in enumerate(inputs):
            self._check_shape(tensor, place)
        if len(inputs) == 1 and self._has_all_columns(inputs[0]):
            rows = self._matrix(inputs[0], tensors)
        else:
            rows = self._by_column(inputs, tensors)
        tensors.check_end()
        self.native.reader.check_matrix(rows, ("inputs",))
        return rows

    def _check_shape(self, tensor: Tensor, place: int) -> None:
        shape = tensor.shape
        if not 1 <= len(shape) <= 2 or min(shape) < 1:
            text = "must be [n] or [n, columns], with at least one row"
            raise explain([Problem(["inputs", place, "shape"], text)])
        self.native.check_count(shape[0], "inputs")
        if tensor.datatype != "BYTES" and tensor.datatype not in NUMBERS:
            text = f"must be one of {', '.join(NUMBERS)} and BYTES"
            raise explain([Problem(["inputs", place, "datatype"], text)])

    def _has_all_columns(self, tensor: Tensor) -> bool:
        is_column = self.native.reader.knows(tensor.name) and tensor.shape[1:] in ([], [1])
        return len(tensor.shape) == 2 and not is_column

    def _matrix(self, tensor: Tensor, tensors: "TensorReader") -> NDArray[np.float64]:
        """Return the rows of one tensor of all columns."""
        if tensor.shape[1] != len(self._columns):
            text = f"must be [n, {len(self._columns)}]: {self.native.reader.shown_names}"
            raise explain([Problem(["inputs", 0, "shape"], text)])
        for column in self._columns:
            _check_type(tensor, column, 0)
        found = tensors.read(tensor, 0)
        if isinstance(found, np.ndarray):
            return to_float(found, 0).reshape(tensor.shape)
        width = len(self._columns)
        texts = [found[place::width] for place in range(width)]
        return np.stack([self._codes(place, column) for place, column in enumerate(texts)], axis=1)

    def _by_column(self, inputs: Sequence[Tensor], tensors: "TensorReader") -> NDArray[np.float64]:
        """Return the rows of one tensor a column."""
        count = inputs[0].shape[0]
        columns: dict[int, NDArray[np.float64]] = {}
        for number, tensor in enumerate(inputs):
            place = self.native.reader.place(tensor.name)
            if place is None:
                raise explain(self.native.reader.unknown([tensor.name], ("inputs",)))
            if place in columns:
                raise explain([Problem(["inputs", printable(tensor.name)], "is given twice")])
            if tensor.shape not in ([count], [count, 1]):
                text = f"must be [{count}] or [{count}, 1], as of the other columns"
                raise explain([Problem(["inputs", number, "shape"], text)])
            _check_type(tensor, self._columns[place], number)
            found = tensors.read(tensor, number)
            columns[place] = (
                to_float(found, number)
                if isinstance(found, np.ndarray)
                else self._codes(place, found)
            )
        missing = [column for place, column in enumerate(self._columns) if place not in columns]
        if absent := [column.plain_name for column in missing if column.required]:
            raise explain([Problem(["inputs", name], "is missing") for name in absent])
        # Last: a shape alone, of a short body, could ask for gigabytes.
        rows = np.full((count, len(self._columns)), np.nan)
        for place, cells in columns.items():
            rows[:, place] = cells
        return rows

    def _codes(self, place: int, texts: Sequence[str | None]) -> NDArray[np.float64]:
        read = self.native.reader.read_cell
        return np.array([read(place, text, ("inputs", row)) for row, text in enumerate(texts)])

    def write(self, query: Query, answer: Answer) -> Reply:
        """Write the outputs that are wanted: JSON, and binary tensors after it."""
        wanted: _Wanted = query.details
        parts: list[bytes] = []
        outputs = []
        for name, binary in wanted.outputs:
            output, data = self._output(name, answer)
            if binary:
                parts.append(self._to_bytes(data))
                output["parameters"] = {"binary_data_size": len(parts[-1])}
            else:
                output["data"] = data
            outputs.append(output)
        content = {
            "model_name": self.model.metadata.name,
            "model_version": str(self.model.version),
            **({} if wanted.id is None else {"id": wanted.id}),
            "outputs": outputs,
        }
        head = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
        if not parts:
            return Reply(head)
        return Reply(b"".join([head, *parts]), {LENGTH: str(len(head))}, BINARY.decode())

    def _output(self, name: str, answer: Answer) -> tuple[dict[str, Any], Any]:
        """Return the description of an output, and its data."""
        if name == "predict":
            values = self.model.predictions(answer)
            return {"name": name, "datatype": self._datatype, "shape": [len(values)]}, values
        found = np.asarray(answer.probabilities, dtype=np.float64)
        return {"name": name, "datatype": "FP64", "shape": list(found.shape)}, found.ravel()

    def _to_bytes(self, data: Any) -> bytes:
        if isinstance(data, np.ndarray):
            return data.tobytes()
        if self._datatype == "BYTES":
            return b"".join(map(self._packed.__getitem__, data))
        return np.array(data, dtype=NUMBERS[self._datatype]).tobytes()


def _json_size(value: bytes | None, body_size: int) -> int | None:
    """Return the size of the JSON that the header says, or None without it."""
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18 or int(value) > body_size:
        raise InvalidRequestError(f"{LENGTH} must be a number of bytes within the body")
    return int(value)


def _pack(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "little") + data


def _check_type(tensor: Tensor, column: Column, place: int) -> None:
    """Reject text for numbers, numbers for text, and booleans for numbers."""
    fits = {
        "string": tensor.datatype == "BYTES",
        "boolean": tensor.datatype != "BYTES",
    }.get(column.type, tensor.datatype not in {"BYTES", "BOOL"})
    if not fits:
        text = f"must be {DATATYPES[column.type]} for {column.plain_name}, of type {column.type}"
        raise explain([Problem(["inputs", place, "datatype"], text)])

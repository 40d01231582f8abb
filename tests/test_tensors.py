"""Tensors of the Open Inference Protocol: what is in them, and what they claim to be."""

import json
import tracemalloc
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from support import protocols
from support.protocols import Message, infer, tensor, texts
from support.tables import IRISES, MIXED

from iris_api.model.loaded_model import Model
from iris_api.protocols.calls import Call
from iris_api.protocols.native import NativeProtocol
from iris_api.protocols.open_inference.infer import Infer
from iris_api.protocols.problems import InvalidRequestError
from iris_api.protocols.scoring_server import Invocations
from iris_api.schema import FEATURES, Schema, make_columns

MAX_ROWS = 100


def _call(kind: type[Call], schema: Schema) -> Call:
    model = SimpleNamespace(schema=schema, has_probabilities=False)
    return kind(cast("Model", model), NativeProtocol(schema, MAX_ROWS))


INFER = _call(Infer, IRISES)
TABLE = _call(Infer, MIXED)
FRAMES = cast("Invocations", _call(Invocations, MIXED))
IRIS_FRAMES = _call(Invocations, IRISES)
NATIVE = NativeProtocol(MIXED, MAX_ROWS)
WIDE = _call(Infer, Schema(columns=make_columns([("a", "number", True)]), task="regressor"))
ROW = [5.5, 3.5, 1.5, 0.5]


def _rows(call: Call, sent: Message) -> Any:
    headers = [(name.lower().encode(), value.encode()) for name, value in sent.headers.items()]
    return call.parse(sent.body, headers).rows


def _error(call: Call, sent: Message) -> tuple[int, str]:
    with pytest.raises(InvalidRequestError) as caught:
        _rows(call, sent)
    return caught.value.status, str(caught.value)


@pytest.mark.parametrize("name", ["<f2", "<f4", "<f8", *(f"<{k}{n}" for k in "iu" for n in "1248")])
def test_datatypes(name: str) -> None:
    """Each datatype of numbers means the same in binary and in JSON."""
    kind = np.dtype(name)
    datatype = {"f": "FP", "i": "INT", "u": "UINT"}[kind.kind] + str(kind.itemsize * 8)
    values = np.array([ROW, [1, 2, 3, 4]]).astype(kind)

    binary = _rows(INFER, infer(tensor("x", datatype, (2, 4), values.tobytes())))
    plain = _rows(INFER, infer(tensor("x", datatype, (2, 4), values.tolist())))

    assert binary.dtype == np.float64
    assert binary.tolist() == plain.tolist() == values.astype(float).tolist()


def test_table() -> None:
    """A row of numbers, texts, booleans and missing values is the same in each protocol."""
    row = {"age": 41, "job": "nurse", "city__born": "Rome", "owner": True, "income": None}
    other = row | {"city__born": None, "income": 7.5, "owner": False}
    expected = NATIVE.parse_rows(json.dumps({"instances": [row, other]}).encode())
    parts = {name: [row[name], other[name]] for name in row}
    tensors = [
        tensor("age (years)", "INT32", [2, 1], np.array([41, 41], "<i4").tobytes()),
        tensor("job", "BYTES", [2], texts(["nurse", "nurse"])),
        tensor("city__born", "BYTES", [2], ["Rome", None]),
        tensor("owner", "BOOL", [2, 1], b"\1\0"),
        tensor("income", "FP64", [2], [None, 7.5]),
    ]
    text = (
        ",age (years),job,city: born,owner,income\n0,41,nurse,Rome,True,\n1,41,nurse,,false,7.5\n"
    )
    frame = {"columns": list(row), "data": [list(row.values()), list(other.values())]}

    found = [
        _rows(TABLE, infer(*tensors)),
        _rows(TABLE, infer(*tensors[::-1])),
        _rows(FRAMES, Message(text.encode(), {"content-type": "text/csv; charset=utf-8"})),
        _rows(FRAMES, protocols.json_message({"dataframe_split": frame})),
        _rows(FRAMES, protocols.json_message({"dataframe_records": [row, other]})),
        _rows(FRAMES, protocols.json_message({"inputs": parts})),
    ]

    for rows in found:
        assert np.array_equal(rows, expected, equal_nan=True)


def test_missing_columns() -> None:
    """Columns that are not required may be left out."""
    required = {"age": 41, "job": "nurse", "owner": True}
    tensors = [
        tensor("age", "UINT8", [1], b"\x29"),
        tensor("job", "BYTES", [1], ["nurse"]),
        tensor("owner", "BOOL", [1], [True]),
    ]
    expected = NATIVE.parse_rows(json.dumps(required).encode())

    assert np.array_equal(_rows(TABLE, infer(*tensors)), expected, equal_nan=True)
    rows = _rows(FRAMES, protocols.json_message({"inputs": required}))
    assert np.array_equal(rows, expected, equal_nan=True)


def test_largest_integers() -> None:
    """An integer that float64 does not have is rejected, and none is changed."""
    for number in (2**53, -(2**53)):
        sent = infer(tensor("a", "INT64", [1], np.array([number]).tobytes()))
        assert _rows(WIDE, sent).tolist() == [[float(number)]]
    words = "inputs[0].data: must have integers of -2^53 to 2^53, which FP64 holds"
    for number in (2**53 + 1, -(2**63)):
        assert _error(WIDE, infer(tensor("a", "INT64", [1], [number])))[1] == words
    largest = np.array([2**64 - 1], "<u8").tobytes()
    assert _error(WIDE, infer(tensor("a", "UINT64", [1], largest)))[1] == words
    words = "inputs[0].data: must have numbers that INT64 holds"
    assert _error(WIDE, infer(tensor("a", "INT64", [1], [2**63])))[1] == words


SIXTEEN = np.array(ROW).tobytes()


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (infer(), "inputs: must have at least one tensor"),
        (infer(tensor("x", "FP64", [1, 4])), "inputs[0].data: is missing"),
        (infer(tensor("x", "FP64", [1, 3], ROW[:3])), "inputs[0].shape: must be [n, 4]: sepal_le"),
        (infer(tensor("x", "FP64", [1, 4], ROW[:3])), "inputs[0].data: must have 4 values, by the"),
        (infer(tensor("x", "FP64", [2, 4], [ROW, ROW[:3]])), "inputs[0].data: must have 8 values"),
        (infer(tensor("x", "FP64", [2, 4], [ROW, [ROW]])), "inputs[0].data: is not valid for FP64"),
        (
            infer(tensor("x", "FP64", [0, 4], [])),
            "inputs[0].shape: must be [n] or [n, columns], wi",
        ),
        (infer(tensor("x", "FP64", [-1, 4], ROW)), "inputs[0].shape: must be [n] or [n, columns]"),
        (infer(tensor("x", "FP64", [-1, -4], ROW)), "inputs[0].shape: must be [n] or [n, columns]"),
        (infer(tensor("x", "FP64", [], ROW)), "inputs[0].shape: must be [n] or [n, columns], with"),
        (
            infer(tensor("x", "FP64", [1, 4, 1], ROW)),
            "inputs[0].shape: must be [n] or [n, columns]",
        ),
        (infer(tensor("x", "FP64", [1, 2**64], ROW)), "inputs[0].shape: must be [n, 4]: sepal_len"),
        (infer(tensor("x", "FP64", [4], ROW)), "inputs.x: is not one of the expected names"),
        (infer(tensor("x", "FP8", [1, 4], ROW)), "inputs[0].datatype: must be one of FP16, FP32"),
        (
            infer(tensor("x", "BYTES", [1, 4], ["1"] * 4)),
            "inputs[0].datatype: must be FP64 for sep",
        ),
        (
            infer(tensor("x", "BOOL", [1, 4], [True] * 4)),
            "inputs[0].datatype: must be FP64 for sep",
        ),
        (
            infer(tensor("x", "FP64", [1, 4], ["1"] * 4)),
            "inputs[0].data: is not valid for FP64: Ex",
        ),
        (
            infer(tensor("x", "INT8", [1, 4], [1.5] * 4)),
            "inputs[0].data: is not valid for INT8: Ex",
        ),
        (infer(tensor("x", "INT8", [1, 4], [300] * 4)), "inputs[0].data: must have numbers that I"),
        (
            infer(tensor("x", "FP64", [1, 4], SIXTEEN[:-1])),
            "inputs[0].data: must have 32 bytes, by",
        ),
        (infer(tensor("x", "FP32", [1, 4], SIXTEEN)), "inputs[0].data: must have 16 bytes, by the"),
        (infer(tensor("x", "FP64", [1, 4], [*ROW[:3], 101])), "inputs[0].petal_width: must be a l"),
        (infer(tensor("x", "FP64", [1, 4], [*ROW[:3], None])), "inputs[0].petal_width: must be a "),
        (
            infer(tensor("x", "FP64", [2, 4], np.array([ROW, [*ROW[:3], np.nan]]).tobytes())),
            "inputs[1].petal_width: must be a finite number, not NaN or Infinity",
        ),
        (
            infer(*(tensor(name, "FP64", [1], [1]) for name in FEATURES[:2])),
            "inputs.petal_length: is missing (and 1 more)",
        ),
        (
            infer(*(tensor("sepal_width", "FP64", [1], [1]) for _ in range(2))),
            "inputs.sepal_width: is given twice",
        ),
        (
            infer(
                *(tensor(name, "FP64", [n + 1], [1] * (n + 1)) for n, name in enumerate(FEATURES))
            ),
            "inputs[1].shape: must be [1] or [1, 1], as of the other columns",
        ),
        (
            infer(tensor("x", "FP64", [1, 4], ROW), outputs=[{"name": "predict_proba"}]),
            "outputs[0].name: must be one of predict",
        ),
        (
            infer(tensor("x", "FP64", [1, 4], ROW), outputs=[{"name": "predict"}] * 2),
            "outputs[1].name: is given twice",
        ),
        (Message(b"{", {}), "not a request of this protocol: Input data was truncated"),
        (Message(b"[]", {}), "not a request of this protocol: Expected `object`, got `array`"),
        (Message(b'{"inputs":[{}]}', {}), "not a request of this protocol: Object missing requ"),
        (Message(b"{}", {protocols.LENGTH: "3"}), "Inference-Header-Content-Length must be a n"),
        (Message(b"{}", {protocols.LENGTH: "-1"}), "Inference-Header-Content-Length must be a n"),
        (Message(b"{}", {protocols.LENGTH: "9" * 99}), "Inference-Header-Content-Length must be"),
    ],
)
def test_lies(sent: Message, error: str) -> None:
    """A request that is not what it claims to be is an error that says where."""
    status, text = _error(INFER, sent)

    assert status == 400
    assert text.startswith(error)
    assert "\n" not in text


def test_too_many_rows() -> None:
    """More rows than a request may have are rejected by their shape alone."""
    for shape in ([101, 4], [2**62, 4], [2**64, 2**64]):
        assert _error(INFER, infer(tensor("x", "FP64", shape, ROW)))[0] == 413


def test_rows_that_are_not_there() -> None:
    """No room is made for the rows that a shape claims before the data of a tensor is read."""
    columns = make_columns([(f"x{place}", "number", False) for place in range(2000)])
    call = _call(Infer, Schema(columns=columns, task="regressor"))
    sent = infer(tensor("x1", "FP64", [100], [1]))
    tracemalloc.start()
    try:
        error = _error(call, sent)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert error == (400, "inputs[0].data: must have 100 values, by the shape")
    assert peak < 100 * 2000  # an eighth of such rows


NAMES = [f"x{place}" for place in range(2 * 5 + 257)]
MANY = dict.fromkeys(NAMES, 1)


@pytest.mark.parametrize(
    ("sent", "place"),
    [
        (Message(",".join(NAMES).encode(), {"content-type": "text/csv"}), "the header"),
        (protocols.json_message({"dataframe_records": [MANY]}), "a row"),
        (protocols.json_message({"inputs": MANY}), "inputs"),
        (protocols.json_message({"instances": [MANY]}), "a row"),
    ],
)
def test_many_names(sent: Message, place: str) -> None:
    """Far more names than there are columns are counted, and none of them is explained."""
    words = f"{place} has 267 names, at most 266 are allowed"

    assert _error(FRAMES, sent) == (400, words)


ROWS = b"[[5,3,1,0]]"
TENSOR = b'{"name":"x","shape":[1,4],"datatype":"FP64","data":[5,3,1,0]'
COLUMNS = b'"columns":["sepal_length","sepal_width","petal_length","petal_width"]'


@pytest.mark.parametrize(
    ("call", "body", "place"),
    [
        (IRIS_FRAMES, b'{"inputs":%b,"inputs":%b}' % (ROWS, ROWS), "inputs"),
        (IRIS_FRAMES, b'{"inputs":%b,"\\u0069nputs":%b}' % (ROWS, ROWS), "inputs"),
        (
            IRIS_FRAMES,
            b'{"dataframe_split":{%b,"data":%b,%b}}' % (COLUMNS, ROWS, COLUMNS),
            "dataframe_split.columns",
        ),
        (
            IRIS_FRAMES,
            b'{"dataframe_split":{"data":%b,"data":%b}}' % (ROWS, ROWS),
            "dataframe_split.data",
        ),
        (
            FRAMES,
            b'{"dataframe_records":[{"age":1,"age":2,"job":"nurse","owner":true}]}',
            "dataframe_records[0].age",
        ),
        (INFER, b'{"inputs":[%b}],"inputs":[%b}]}' % (TENSOR, TENSOR), "inputs"),
        (INFER, b'{"inputs":[%b,"data":[1,1,1,1]}]}' % TENSOR, "inputs[0].data"),
        (INFER, b'{"inputs":[%b,"shape":[2,4]}]}' % TENSOR, "inputs[0].shape"),
        (INFER, b'{"id":"1","id":"2","inputs":[%b}]}' % TENSOR, "id"),
        (INFER, b'{"inputs":[%b,"d\\u0061ta":[1,1,1,1]}]}' % TENSOR, "inputs[0].data"),
    ],
)
def test_keys_given_twice(call: Call, body: bytes, place: str) -> None:
    """A key that an object has twice is an error, where a parser would keep the last one."""
    assert _error(call, Message(body, {})) == (400, f"{place}: is given twice")


def test_parts_that_are_not_read() -> None:
    """A part that the decoder of a request skips cannot end in another error."""
    for part in (b"[" * 90_000 + b"]" * 90_000, b'"\xff"'):
        body = b'{"inputs":[%b}],"more":%b,"more":["\\u0061","data","inputs"]}' % (TENSOR, part)

        assert _error(INFER, Message(body, {}))[0] in {400, 413}


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        ({"columns": [], "data": [ROW]}, "dataframe_split.data[0]: must have 0 cells, one for"),
        (
            {"columns": FEATURES, "data": [dict(zip(FEATURES, ROW, strict=True))]},
            "dataframe_split.data[0]: must have 4 cells, one for each column",
        ),
    ],
)
def test_rows_beside_names(frame: dict[str, Any], error: str) -> None:
    """Beside the names of the columns, a row is an array with a cell for each of them."""
    sent = protocols.json_message({"dataframe_split": frame})

    assert _error(IRIS_FRAMES, sent)[1].startswith(error)


def test_common_frames_are_decoded() -> None:
    """The decoder reads what is right and common, with an index or names that have colons."""
    cells = [5, "nurse", "10:30", True, 1.5]
    own = [column.name for column in MIXED.columns]
    split = {"columns": own, "index": ["10:30"], "data": [cells]}
    contents: list[Any] = [
        {"dataframe_split": split},
        {"dataframe_split": {"data": [cells]}},
        {"dataframe_records": [dict(zip(own, cells, strict=True))]},
        {"inputs": [cells]},
    ]

    for content in contents:
        assert FRAMES._decode(json.dumps(content).encode()) is not None  # noqa: SLF001


def test_values_of_csv() -> None:
    """CSV may have as many values as JSON."""
    sent = Message(b"," * 10_000, {"content-type": "text/csv"})

    assert _error(FRAMES, sent)[0] == 413


@pytest.mark.parametrize(
    ("sizes", "error"),
    [
        ((16, 15), "inputs[1].data: must have 16 bytes, by the shape and the datatype"),
        ((16, 17), "inputs[1].data: must have 17 bytes, and the body ends before"),
        ((32, 16), "inputs[0].data: must have 16 bytes, by the shape and the datatype"),
        ((16, -16), "inputs[1].data: must have -16 bytes, and the body ends before"),
        ((16, 2**63), f"inputs[1].data: must have {2**63} bytes, and the body ends before"),
        ((16, None), "inputs[1].data: is missing"),
    ],
)
def test_lengths_that_lie(sizes: tuple[int | None, ...], error: str) -> None:
    """Binary tensors are exactly as long as they say, one after the other."""
    cells = np.array([1.0, 2.0]).tobytes()
    tensors = [tensor(name, "FP64", [2], cells) for name in FEATURES]
    body, headers = infer(*tensors[:2])
    head = json.loads(body[: int(headers[protocols.LENGTH])])
    for each, size in zip(head["inputs"], sizes, strict=True):
        each["parameters"]["binary_data_size"] = size
    text = json.dumps(head).encode()
    sent = Message(text + cells * 2, {protocols.LENGTH: str(len(text))})

    assert _error(INFER, sent) == (400, error)


def test_bytes_that_are_left() -> None:
    """Bytes after the last tensor are rejected."""
    body, headers = infer(tensor("x", "FP64", [1, 4], SIXTEEN))

    error = _error(INFER, Message(body + b"x", headers))[1]

    assert error == "the body has 1 bytes more than its tensors"


@pytest.mark.parametrize("data", [b"\5\0\0\0nurs", b"\5\0\0", texts(["nurse"]) + b"x"])
def test_texts_that_lie(data: bytes) -> None:
    """Texts end where their lengths say."""
    sent = infer(tensor("job", "BYTES", [1], data))

    assert (
        _error(TABLE, sent)[1]
        == "inputs[0].data: must have 1 texts, each after its length in 4 bytes"
    )


def test_unknown_text() -> None:
    """A text that the model does not know is named with its row."""
    sent = infer(tensor("job", "BYTES", [2], texts(["clerk", "poet"])))

    assert _error(TABLE, sent)[1] == "inputs[1].job: must be one of 'clerk', 'nurse'"


@pytest.mark.parametrize(
    ("name", "datatype", "value", "error"),
    [
        ("age", "FP64", 5.5, "inputs[0].age_years: must be a whole number"),
        ("age", "FP64", -1, "inputs[0].age_years: must be a number of 0 to 9007199254740991 years"),
        ("owner", "FP64", 0.5, "inputs[0].owner: must be true or false"),
        ("owner", "INT8", 2, "inputs[0].owner: must be true or false"),
    ],
)
def test_cells(name: str, datatype: str, value: float, error: str) -> None:
    """Cells of an array are held against the schema as those of JSON are."""
    good = {"age": ("INT8", 5), "job": ("BYTES", "nurse"), "owner": ("BOOL", True)}
    cells = good | {name: (datatype, value)}
    sent = infer(*(tensor(key, kind, [1], [cell]) for key, (kind, cell) in cells.items()))

    assert _error(TABLE, sent)[1] == error.replace("age_years", "age")

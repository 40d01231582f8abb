"""Requests of other protocols than the service's own, made of rows, and their answers."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]

INFER = "/v2/models/IrisModel/infer"
LENGTH = "Inference-Header-Content-Length"


class Message(NamedTuple):
    """The body of a request or of an answer, and its headers."""

    body: bytes
    headers: dict[str, str]


def json_message(content: object) -> Message:
    """Return a body of JSON."""
    return Message(json.dumps(content).encode(), {"Content-Type": "application/json"})


def split(rows: Rows, names: Sequence[str], order: Sequence[int]) -> Message:
    """Return a data frame as MLflow's clients send it, with its columns in an order."""
    columns = [names[place] for place in order]
    data = rows[:, list(order)].tolist()
    index = list(range(len(rows)))
    return json_message({"dataframe_split": {"columns": columns, "index": index, "data": data}})


def csv_message(rows: Rows, names: Sequence[str]) -> Message:
    """Return a data frame as `DataFrame.to_csv` writes it, with its index."""
    text = io.StringIO()
    csv.writer(text).writerows(
        [["", *names], *([place, *row] for place, row in enumerate(rows.tolist()))]
    )
    return Message(text.getvalue().encode(), {"Content-Type": "text/csv"})


def tensor(name: str, datatype: str, shape: Sequence[int], data: Any = None) -> dict[str, Any]:
    """Return a tensor of V2; bytes are sent after the JSON."""
    found = {"name": name, "datatype": datatype, "shape": list(shape)}
    if isinstance(data, bytes):
        return found | {"parameters": {"binary_data_size": len(data)}, "binary": data}
    return found if data is None else found | {"data": data}


def infer(*tensors: dict[str, Any], **more: Any) -> Message:
    """Return a request of V2."""
    binary = b"".join(each.get("binary", b"") for each in tensors)
    inputs = [{key: each[key] for key in each if key != "binary"} for each in tensors]
    head = json.dumps({"inputs": inputs, **more}).encode()
    headers = {LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    return Message(head + binary, headers) if binary else json_message(json.loads(head))


def texts(values: Sequence[str]) -> bytes:
    """Return a binary tensor of texts."""
    return b"".join(len(text.encode()).to_bytes(4, "little") + text.encode() for text in values)


def outputs(answer: Message) -> dict[str, Any]:
    """Return the outputs of an answer of V2 by their names, as arrays or lists of texts."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    size = int(headers.get(LENGTH.lower(), len(answer.body)))
    binary, found = answer.body[size:], {}
    for output in json.loads(answer.body[:size])["outputs"]:
        data = output.get("data")
        if data is None:
            length = output["parameters"]["binary_data_size"]
            part, binary = binary[:length], binary[length:]
            data = _texts(part) if output["datatype"] == "BYTES" else np.frombuffer(part)
        is_text = output["datatype"] == "BYTES"
        found[output["name"]] = data if is_text else np.reshape(data, output["shape"])
    assert not binary
    return found


def _texts(part: bytes) -> list[str]:
    found = []
    while part:
        end = 4 + int.from_bytes(part[:4], "little")
        found.append(part[4:end].decode())
        part = part[end:]
    return found


def columns(rows: Rows, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return a tensor for each column, every other one in binary."""
    data = [rows[:, place].tolist() for place in range(len(names))]
    sent = [np.array(cells).tobytes() if n % 2 else cells for n, cells in enumerate(data)]
    return [
        tensor(name, "FP64", [len(rows), 1], cells) for name, cells in zip(names, sent, strict=True)
    ]


Make = Callable[[Rows, Sequence[str]], Message]

REQUESTS: dict[str, tuple[str, Make]] = {
    "instances": ("/invocations", lambda rows, _: json_message({"instances": rows.tolist()})),
    "inputs": ("/invocations", lambda rows, _: json_message({"inputs": rows.tolist()})),
    "inputs by column": (
        "/invocations",
        lambda rows, names: json_message(
            {"inputs": dict(zip(names, rows.T.tolist(), strict=True))}
        ),
    ),
    "split": ("/invocations", lambda rows, names: split(rows, names, (0, 1, 2, 3))),
    "split in another order": (
        "/invocations",
        lambda rows, names: split(rows, names, (3, 0, 2, 1)),
    ),
    "records": (
        "/invocations",
        lambda rows, names: json_message(
            {"dataframe_records": [dict(zip(names, row, strict=True)) for row in rows.tolist()]}
        ),
    ),
    "CSV": ("/invocations", csv_message),
    "V1": (
        "/v1/models/IrisModel:predict",
        lambda rows, _: json_message({"instances": rows.tolist()}),
    ),
    "V2": (INFER, lambda rows, _: infer(tensor("x", "FP64", rows.shape, rows.ravel().tolist()))),
    "V2 nested": (INFER, lambda rows, _: infer(tensor("x", "FP32", rows.shape, rows.tolist()))),
    "V2 by column": (INFER, lambda rows, names: infer(*columns(rows, names))),
    "V2 binary": (
        INFER,
        lambda rows, _: infer(
            tensor("x", "FP64", rows.shape, rows.tobytes()), parameters={"binary_data_output": True}
        ),
    ),
    "V2 of a version": (
        "/v2/models/IrisModel/versions/1/infer",
        lambda rows, _: infer(
            tensor("x", "FP64", rows.shape, rows.tobytes()), outputs=[{"name": "predict"}]
        ),
    ),
}
"""The path of each kind of request, and what makes its body of rows and the names of columns."""

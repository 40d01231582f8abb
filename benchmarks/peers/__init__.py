"""The servers that are compared: this service, and others for the same model."""

import json
import struct
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

# Nothing of iris_api: the peers load this package, and must load nothing of the service.

MLSERVER_FOLDER = Path(__file__).parents[2] / ".venv" / "mlserver"
"""The environment of MLServer, which needs other versions of some packages."""

Names = Sequence[str]
Rows = Sequence[Sequence[Any]]


class Message(NamedTuple):
    """The body of a request, and its headers."""

    body: bytes
    headers: Mapping[str, str]


def _json(make: Callable[[Names, Rows], Any]) -> Callable[[Names, Rows], Message]:
    def encode(names: Names, rows: Rows) -> Message:
        body = json.dumps(make(names, rows), separators=(",", ":")).encode()
        return Message(body, {"Content-Type": "application/json"})

    return encode


def _named(names: Names, rows: Rows) -> list[dict[str, Any]]:
    return [dict(zip(names, row, strict=True)) for row in rows]


def _tensor(rows: Rows, **content: Any) -> dict[str, Any]:
    return {"name": "rows", "shape": [len(rows), len(rows[0])], "datatype": "FP64", **content}


def _binary(_names: Names, rows: Rows) -> Message:
    """Write the rows as a binary tensor, and ask for labels that are binary as well."""
    data = array("d", chain.from_iterable(rows)).tobytes()
    content = {
        "inputs": [_tensor(rows, parameters={"binary_data_size": len(data)})],
        "outputs": [{"name": "predict", "parameters": {"binary_data": True}}],
    }
    head = json.dumps(content, separators=(",", ":")).encode()
    kind = {"Content-Type": "application/octet-stream"}
    return Message(head + data, kind | {"Inference-Header-Content-Length": str(len(head))})


def read_labels(answer: bytes) -> list[Any]:
    """Return the labels of an answer of any protocol, in the order of the rows."""
    text = answer.decode("latin-1")  # a tensor can follow the JSON
    content, end = json.JSONDecoder().raw_decode(text)
    if isinstance(content, list):
        return content
    if "predictions" in content:
        return list(content["predictions"])
    (output,) = content["outputs"]
    return list(output["data"] if "data" in output else _texts(answer[end:]))


def _texts(data: bytes) -> Iterator[str]:
    """Split a tensor of texts: each follows its length."""
    place = 0
    while place < len(data):
        (length,) = struct.unpack_from("<I", data, place)
        yield data[place + 4 : place + 4 + length].decode()
        place += 4 + length


@dataclass(frozen=True)
class Call:
    """A kind of request.

    Attributes:
        path: The path of the prediction.
        encode: Makes the message from the names of the columns and rows.
    """

    path: str
    encode: Callable[[Names, Rows], Message]


ROW = _json(lambda names, rows: _named(names, rows)[0])
OBJECTS = _json(lambda names, rows: {"instances": _named(names, rows)})
ARRAYS = _json(lambda _, rows: {"instances": rows})
SPLIT = _json(lambda names, rows: {"dataframe_split": {"columns": names, "data": rows}})
V2 = _json(
    lambda _, rows: {
        "inputs": [_tensor(rows, data=[*chain.from_iterable(rows)])],
        "outputs": [{"name": "predict"}],
    }
)

NATIVE = {
    "row": Call("/predict", ROW),
    "objects": Call("/predict", OBJECTS),
    "arrays": Call("/predict", ARRAYS),
}
OTHERS = {
    "invocations": Call("/invocations", ARRAYS),
    "v1": Call("/v1/models/IrisModel:predict", ARRAYS),
    "v2": Call("/v2/models/IrisModel/infer", V2),
    "binary": Call("/v2/models/IrisModel/infer", _binary),
}


@dataclass(frozen=True)
class Peer:
    """A server and the requests that it takes.

    Attributes:
        name: The name in the tables.
        arguments: The command; {python}, {port}, {entry} and {home}, the folders of the model and
            of its store, and {spare}, another port, are filled in here and in `env`.
        calls: By their names, the kinds of requests. Each peer has `row`, for one row.
        env: Additional variables of the environment.
        cores: The cores that it can use.
    """

    name: str
    arguments: Sequence[str]
    calls: Mapping[str, Call]
    env: dict[str, str] = field(default_factory=dict)
    cores: int = 1

    def command(self, **places: Any) -> tuple[list[str], dict[str, str]]:
        """Return the command and its variables, with the places filled in."""
        places["python"] = sys.executable
        env = {key: value.format(**places) for key, value in self.env.items()}
        return [argument.format(**places) for argument in self.arguments], env


_LISTEN = ("--host", "127.0.0.1", "--port", "{port}")


def _bentoml(service: str) -> Sequence[str]:
    return ("{python}", "-m", "bentoml", "serve", service, *_LISTEN)


def _uvicorn(app: str) -> Sequence[str]:
    bare = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--lifespan", "off")
    return ("{python}", "-m", "uvicorn", app, *bare, *_LISTEN)


OURS = Peer(
    "this service",
    _bentoml("service:IrisClassifier"),
    NATIVE | OTHERS,
    {"IRIS_WORKERS": "1"},
)
TWO = replace(OURS, name=f"{OURS.name}, two workers", env={"IRIS_WORKERS": "2"}, cores=2)
ABLATED = replace(OURS, arguments=_bentoml("benchmarks.ablated:IrisClassifier"))
BENTOML = Peer(
    "BentoML as it comes, with onnxruntime",
    _bentoml("benchmarks.peers.bentoml_onnx:Onnx"),
    {"arrays": NATIVE["arrays"]},
)
LIMIT = Peer("limit", _uvicorn("benchmarks.peers.bare_asgi:app"), NATIVE)
FASTAPI = Peer("FastAPI + scikit-learn", _uvicorn("benchmarks.peers.fastapi_sklearn:app"), NATIVE)
MLSERVER = Peer(
    "MLServer",
    (str(MLSERVER_FOLDER / "bin" / "mlserver"), "start", "{home}/mlserver"),
    dict.fromkeys(("row", "arrays"), OTHERS["v2"]),
    {
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": "{port}",
        "MLSERVER_GRPC_PORT": "{spare}",
        "MLSERVER_METRICS_ENDPOINT": "",
        "MLSERVER_PARALLEL_WORKERS": "0",
        "MLSERVER_DEBUG": "false",
    },
)
MLFLOW = Peer(
    "mlflow models serve",
    (
        *("{python}", "-m", "mlflow", "models", "serve", "--model-uri", "{entry}/mlflow_model"),
        *("--env-manager", "local", "--workers", "1", *_LISTEN),
    ),
    dict.fromkeys(("row", "arrays"), Call("/invocations", SPLIT)),
)
PYFUNC = Peer(
    "BentoML + MLflow pyfunc",
    _bentoml("benchmarks.peers.bentoml_pyfunc:PyFunc"),
    {
        "row": Call("/predict", _json(lambda names, rows: {"input_data": _named(names, rows)})),
        "arrays": Call("/predict_array", _json(lambda _, rows: {"input_data": rows})),
    },
)

PEERS = (OURS, LIMIT, FASTAPI, MLSERVER, MLFLOW, PYFUNC)

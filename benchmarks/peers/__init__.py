"""The servers that are compared: this service, and others for the same model."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

# Not from iris_api: the peers load this package, and must load nothing of the service.
FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")

Rows = Sequence[Sequence[float]]


def instances(rows: Rows) -> Any:
    """Return the body for this service, with rows in centimetres."""
    return {"instances": rows}


def records(rows: Rows) -> Any:
    """Return the body for a BentoML method that takes a data frame."""
    return {"input_data": [dict(zip(FEATURES, row, strict=True)) for row in rows]}


def array(rows: Rows) -> Any:
    """Return the body for a BentoML method that takes an array."""
    return {"input_data": rows}


def split(rows: Rows) -> Any:
    """Return the smaller one of the bodies with names for MLflow's scoring server."""
    return {"dataframe_split": {"columns": FEATURES, "data": rows}}


@dataclass(frozen=True)
class Peer:
    """A server, its requests and its answers.

    Attributes:
        name: The name in the tables.
        arguments: Arguments of Python; {port} and {entry}, the folder of the model, are filled in.
        body: Makes the JSON of a request from rows in centimetres.
        path: The path of the prediction.
        bare: Whether the answer is a list of labels, and not an object with predictions.
        env: Additional variables of the environment.
    """

    name: str
    arguments: tuple[str, ...]
    body: Callable[[Rows], Any] = instances
    path: str = "/predict"
    bare: bool = False
    env: dict[str, str] = field(default_factory=dict)

    def command(self, port: int, entry: Path) -> list[str]:
        """Return the command that serves an entry of the model store on a port."""
        filled = (argument.format(port=port, entry=entry) for argument in self.arguments)
        return [sys.executable, "-m", *filled]

    def encode(self, rows: Rows) -> bytes:
        """Return the request body for rows in centimetres."""
        return json.dumps(self.body(rows), separators=(",", ":")).encode()

    def labels(self, answer: bytes) -> list[Any]:
        """Return the labels of an answer, in the order of the rows."""
        content = json.loads(answer)
        labels: list[Any] = content if self.bare else content["predictions"]
        return labels


_LISTEN = ("--host", "127.0.0.1", "--port", "{port}")
_UVICORN = (
    *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--lifespan", "off"),
    *_LISTEN,
)
_PYFUNC = ("bentoml", "serve", "benchmarks.peers.bentoml_pyfunc:PyFunc", *_LISTEN)

OURS = Peer(
    "this service",
    ("bentoml", "serve", "service:IrisClassifier", *_LISTEN),
    env={"IRIS_WORKERS": "1"},
)
SWITCHED = replace(
    OURS, arguments=("bentoml", "serve", "benchmarks.switched:IrisClassifier", *_LISTEN)
)
ABLATED = replace(
    OURS, arguments=("bentoml", "serve", "benchmarks.ablated:IrisClassifier", *_LISTEN)
)
BENTOML = Peer(
    "BentoML as it comes, with onnxruntime",
    ("bentoml", "serve", "benchmarks.peers.bentoml_onnx:Onnx", *_LISTEN),
)
PYFUNC = Peer("BentoML + pyfunc, data frame", _PYFUNC, records, bare=True)
PYFUNC_ARRAY = Peer("BentoML + pyfunc, array", _PYFUNC, array, "/predict_array", bare=True)
MLFLOW = Peer(
    "mlflow models serve",
    (
        *("mlflow", "models", "serve", "--model-uri", "{entry}/mlflow_model"),
        *("--env-manager", "local", "--workers", "1", *_LISTEN),
    ),
    split,
    "/invocations",
)
FASTAPI = Peer(
    "FastAPI + scikit-learn", ("uvicorn", "benchmarks.peers.fastapi_sklearn:app", *_UVICORN)
)
LIMIT = Peer("limit: ASGI + onnxruntime", ("uvicorn", "benchmarks.peers.bare_asgi:app", *_UVICORN))

PEERS = (OURS, PYFUNC, PYFUNC_ARRAY, MLFLOW, FASTAPI, LIMIT)

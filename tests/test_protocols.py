"""The protocols of MLflow's scoring server, of KServe and of the Open Inference Protocol."""

import gzip
import json
from typing import Any

import httpx
import numpy as np
import pytest
from sklearn.datasets import load_iris
from support import protocols
from support.protocols import INFER, Message, infer, tensor

from iris_api.schema import FEATURES

IRISES = load_iris().data
ROW = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
V1 = "/v1/models/IrisModel:predict"


def _post(client: httpx.Client, path: str, sent: Message, **headers: str) -> httpx.Response:
    return client.post(path, content=sent.body, headers=sent.headers | headers)


def _labels(answer: httpx.Response) -> Any:
    if INFER.rpartition("/")[2] not in str(answer.request.url):
        return answer.json()["predictions"]
    found = protocols.outputs(Message(answer.content, dict(answer.headers)))
    return found["predict"]


@pytest.mark.parametrize("kind", protocols.REQUESTS)
def test_every_iris(client: httpx.Client, estimator: Any, kind: str) -> None:
    """All rows get scikit-learn's labels from the same version, however they are sent."""
    path, make = protocols.REQUESTS[kind]
    answer = _post(client, path, make(IRISES, FEATURES))

    assert answer.status_code == 200, answer.text
    assert _labels(answer) == estimator.predict(IRISES).tolist()
    assert answer.headers["X-Model-Version"] == "1"


@pytest.mark.parametrize("binary", [False, True])
def test_outputs(client: httpx.Client, estimator: Any, binary: bool) -> None:
    """The wanted outputs come in their order, in the wanted form, with the id of the request."""
    wanted = [
        {"name": "predict_proba", "parameters": {"binary_data": binary}},
        {"name": "predict", "parameters": {"binary_data": not binary}},
    ]
    sent = infer(tensor("x", "FP64", IRISES.shape, IRISES.tobytes()), id="a7", outputs=wanted)
    answer = _post(client, INFER, sent)
    head = json.loads(answer.content[: int(answer.headers[protocols.LENGTH])])
    found = protocols.outputs(Message(answer.content, dict(answer.headers)))

    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert (head["id"], head["model_name"], head["model_version"]) == ("a7", "IrisModel", "1")
    assert [output["datatype"] for output in head["outputs"]] == ["FP64", "BYTES"]
    assert list(found) == ["predict_proba", "predict"]
    assert np.abs(found["predict_proba"] - estimator.predict_proba(IRISES)).max() < 1e-12
    assert found["predict"] == estimator.predict(IRISES).tolist()


@pytest.mark.parametrize("path", ["", "/versions/1"])
def test_metadata(client: httpx.Client, path: str) -> None:
    """The metadata of V2 are those of the schema, and both ready paths say so."""
    model = client.get(f"/v2/models/IrisModel{path}").json()
    ready = client.get(f"/v2/models/IrisModel{path}/ready")

    columns = [{"name": name, "datatype": "FP64", "shape": [-1, 1]} for name in FEATURES]
    assert (model["name"], model["versions"], model["inputs"]) == ("IrisModel", ["1"], columns)
    assert model["outputs"] == [
        {"name": "predict", "datatype": "BYTES", "shape": [-1]},
        {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 3]},
    ]
    assert ready.json() == {"name": "IrisModel", "ready": True}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/ping", "\n"),
        ("/version", "3.17.2"),
        ("/v1/models", '{"models":["IrisModel"]}'),
        ("/v1/models/IrisModel", '{"name":"IrisModel","ready":true}'),
        ("/v1/models/Iris%4dodel", '{"name":"IrisModel","ready":true}'),
        ("/v2/health/live", '{"live":true}'),
        ("/v2/health/ready", '{"ready":true}'),
    ],
)
def test_get(client: httpx.Client, path: str, expected: str) -> None:
    """The GET routes answer as their clients expect."""
    answer = client.get(path)

    assert (answer.status_code, answer.text) == (200, expected)
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_server_metadata(client: httpx.Client, path: str) -> None:
    """The server names its extension."""
    assert client.get(path).json()["extensions"] == ["binary_tensor_data"]


NO_MODEL = {"error": "this service has no model of this name; it serves IrisModel"}
NO_VERSION = {"error": "this version does not answer; version 1 does"}


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/v1/models/Other:predict", NO_MODEL),
        ("POST", "/v1/models/Iris%254dodel:predict", NO_MODEL),
        ("POST", "/v1/models/{name}:predict", NO_MODEL),
        ("GET", "/v1/models/Other", NO_MODEL),
        ("GET", "/v2/models/Other/ready", NO_MODEL),
        ("POST", "/v2/models/Other/infer", NO_MODEL),
        ("POST", "/v2/models/IrisModel/versions/2/infer", NO_VERSION),
        ("POST", "/v2/models/IrisModel/versions/{version}/infer", NO_VERSION),
        ("GET", "/v2/models/IrisModel/versions/01", NO_VERSION),
    ],
)
def test_unknown_model(
    client: httpx.Client, method: str, path: str, expected: dict[str, str]
) -> None:
    """Another name, and another version than the active one, is not found."""
    answer = client.request(method, path, json=ROW if method == "POST" else None)

    assert (answer.status_code, answer.json()) == (404, expected)


FRAME: dict[str, Any] = {"columns": [*FEATURES, "colour"], "data": [[5.1, 3.5, 1.4, 0.2, "red"]]}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "the body must be an object with one of dataframe_split, dataframe_records, "),
        ({}, "the body must be an object with one of dataframe_split, dataframe_records, "),
        (ROW | {"inputs": [[1, 2, 3, 4]]}, "the body must be an object with one of "),
        (ROW | {"params": {"a": 1}}, "params: this model takes no parameters; leave them out"),
        (ROW | {"param": {}}, "param: is not one of the expected names"),
        ({"instances": [[5.1, 3.5, 1.4, "0.2"]]}, "instances[0].petal_width: must be a number"),
        ({"inputs": {"a": [1], "b": [1, 2]}}, "inputs: must have arrays of one length"),
        ({"inputs": {"a": [1]}}, "inputs[0].sepal_length: is missing (and 4 more)"),
        ({"inputs": 5}, "inputs: must be an array with at least one row"),
        ({"dataframe_records": {"a": 1}}, "dataframe_records: must be an array with at least "),
        (
            {"dataframe_split": FRAME | {"data": [[1]]}},
            "dataframe_split.data[0]: must have 5 cells",
        ),
        ({"dataframe_split": FRAME | {"rows": []}}, "dataframe_split.rows: is not one of "),
        (
            {"dataframe_split": {"columns": ["a", "a"], "data": []}},
            "dataframe_split.columns.a: is ",
        ),
        ({"dataframe_split": {"columns": "a", "data": []}}, "dataframe_split.columns: must be an "),
        (
            {
                "dataframe_split": {
                    "columns": [*FEATURES[:3], "petal_wdith"],
                    "data": [[1, 2, 3, 4]],
                }
            },
            "dataframe_split[0].petal_width: is missing (and 1 more)",
        ),
    ],
)
def test_invocations_that_are_wrong(client: httpx.Client, body: object, message: str) -> None:
    """An error is one of MLflow's, and names the place."""
    answer = client.post("/invocations", json=body)

    assert answer.status_code == 400
    assert answer.json().keys() == {"error_code", "message"}
    assert answer.json()["error_code"] == "BAD_REQUEST"
    assert answer.json()["message"].startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "row: must be an array with at least one row"),
        ("sepal_length,sepal_length\n1,2", "header.sepal_length: is given twice"),
        ("sepal_length,sepal_width\n1,2,3", "row[0]: must have 2 cells, one for each column"),
        (
            "sepal_length,sepal_width,petal_length,petal_width\n1,2,x,nan",
            "row[0].petal_length: must",
        ),
        ('sepal_length\n"1', "not valid CSV in UTF-8: unexpected end of data"),
        ("\udc80", "not valid CSV in UTF-8: 'utf-8' codec can't decode"),
    ],
)
def test_wrong_csv(client: httpx.Client, text: str, message: str) -> None:
    """CSV that cannot be read is an error that names the row."""
    body = text.encode(errors="surrogateescape")
    answer = client.post("/invocations", content=body, headers={"Content-Type": "text/csv"})

    assert answer.status_code == 400
    assert answer.json()["message"].startswith(message)


def test_columns_that_are_ignored(client: httpx.Client) -> None:
    """A column that the model does not have is ignored where all of its own are there."""
    records = [dict(zip(FRAME["columns"], FRAME["data"][0], strict=True))]
    for body in ({"dataframe_split": FRAME}, {"dataframe_records": records}):
        assert client.post("/invocations", json=body).json() == {"predictions": ["setosa"]}


def test_v1_takes_instances_alone(client: httpx.Client) -> None:
    """The native protocol's form of one row is not part of V1."""
    answer = client.post(V1, json=dict(zip(FEATURES, ROW["instances"][0], strict=True)))

    assert answer.status_code == 400
    assert answer.json() == {"error": "the body must be an object with instances"}


@pytest.mark.parametrize("path", ["/invocations", V1, INFER])
def test_statuses(client: httpx.Client, path: str) -> None:
    """Media type, method and size are checked as for the native protocol, in each shape."""
    key = "message" if path == "/invocations" else "error"
    text = client.post(path, content=b"x", headers={"Content-Type": "text/html"})
    get = client.get(path)
    large = client.post(path, content=b" " * (16 * 2**20 + 1))

    assert [answer.status_code for answer in (text, large)] == [415, 413]
    assert text.json()[key].startswith("send JSON")
    assert large.json()[key] == "the body has more than 16777216 bytes; send several"
    if path != V1:  # where GET asks for a model with this name
        assert (get.status_code, get.headers["Allow"]) == (405, "POST")
        assert get.json()[key] == "GET is not possible here; use POST"


@pytest.mark.parametrize("kind", ["instances", "V1", "V2", "V2 binary"])
def test_gzip(client: httpx.Client, estimator: Any, kind: str) -> None:
    """A compressed body is unpacked, and a long answer compressed where that is accepted."""
    path, make = protocols.REQUESTS[kind]
    body, headers = make(IRISES, FEATURES)
    packed = Message(gzip.compress(body), headers | {"Content-Encoding": "gzip"})
    answer = _post(client, path, packed)
    plain = _post(client, path, packed, **{"Accept-Encoding": "gzip;q=0"})
    short = _post(client, path, make(IRISES[:1], FEATURES))

    assert _labels(answer) == _labels(plain) == estimator.predict(IRISES).tolist()
    assert answer.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert "Content-Encoding" not in short.headers


@pytest.mark.parametrize(
    ("body", "encoding", "status", "error"),
    [
        (b"{}", "br", 415, "send the body as it is, or with Content-Encoding: gzip"),
        (b"{}", "gzip", 400, "the body is not gzip: "),
        (gzip.compress(b"{}")[:-1], "gzip", 400, "the body ends before the end of its gzip data"),
        (gzip.compress(b"{}") + b"more", "gzip", 400, "the body is not gzip: "),
        (gzip.compress(b"") * 1000, "gzip", 400, "the body has more than 100 gzip parts"),
        (
            gzip.compress(bytes(2**24 + 1)),
            "gzip",
            413,
            "the body has more than 16777216 bytes once",
        ),
        (gzip.compress(bytes(2**20)) * 17, "gzip", 413, "the body has more than 16777216 bytes"),
    ],
    ids=["brotli", "not gzip", "short", "more", "many parts", "bomb", "bomb in parts"],
)
def test_wrong_encoding(
    client: httpx.Client, body: bytes, encoding: str, status: int, error: str
) -> None:
    """Bodies that are not gzip, or too large once they are unpacked, are rejected."""
    answer = client.post("/predict", content=body, headers={"Content-Encoding": encoding})

    assert answer.status_code == status
    assert answer.json()["error"].startswith(error)
    assert answer.headers.get("Accept-Encoding") == ("gzip" if status == 415 else None)


@pytest.mark.parametrize("path", ["/metrics", "/docs.json"])
def test_compressed_pages(client: httpx.Client, path: str) -> None:
    """Long pages are compressed where that is accepted."""
    packed = client.get(path)
    plain = client.get(path, headers={"Accept-Encoding": "identity"})

    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers

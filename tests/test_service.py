"""Answers of the service: every route, every row of the data set, and invalid requests."""

import contextlib
import json
from pathlib import Path
from typing import Any

import bentoml
import httpx
import numpy as np
import pytest
from sklearn.datasets import load_iris
from support import servers
from support.scrape import scrape

from iris_api.schema import FEATURES

SETOSA = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
TWO_ROWS = {"instances": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5]]}
TOO_MANY_ROWS = "instances: has 100001 rows, at most 100000 are allowed; send several bodies"
BAD_REQUESTS = json.loads(Path(__file__).with_name("bad_requests.json").read_text("utf-8"))


def test_predict_by_name(client: httpx.Client) -> None:
    """One flower by name gets one label, and says which version gave it."""
    answer = client.post("/predict", json=SETOSA)

    assert answer.status_code == 200
    assert answer.text == '{"predictions":["setosa"]}'
    assert answer.headers["X-Model-Version"] == "1"
    assert answer.headers["Content-Type"] == "application/json"


def test_predict_instances(client: httpx.Client) -> None:
    """Rows get their labels in their own order, and may be arrays and objects at once."""
    arrays = client.post("/predict", json=TWO_ROWS)
    mixed = client.post("/predict", json={"instances": [TWO_ROWS["instances"][1], SETOSA]})

    assert arrays.text == '{"predictions":["setosa","versicolor"]}'
    assert mixed.json() == {"predictions": ["versicolor", "setosa"]}


def test_predict_proba(client: httpx.Client, estimator: Any) -> None:
    """Probabilities come with their classes, equal scikit-learn's and name the version."""
    answer = client.post("/predict_proba", json=TWO_ROWS)

    assert answer.status_code == 200
    assert answer.headers["X-Model-Version"] == "1"
    assert answer.json()["classes"] == ["setosa", "versicolor", "virginica"]
    expected = estimator.predict_proba(TWO_ROWS["instances"])
    assert np.abs(np.array(answer.json()["probabilities"]) - expected).max() < 1e-5


def test_every_row_of_the_data_set(client: httpx.Client, estimator: Any) -> None:
    """Each flower of the data set gets scikit-learn's own label, in both request forms."""
    expected = estimator.predict(load_iris().data).tolist()

    def predict(body: object) -> list[str]:
        found: list[str] = client.post("/predict", json=body).json()["predictions"]
        return found

    rows = load_iris().data.tolist()
    assert predict({"instances": rows}) == expected
    for row, label in zip(rows, expected, strict=True):
        assert predict(dict(zip(FEATURES, row, strict=True))) == [label]
        assert predict({"instances": [row]}) == [label]


def test_health(client: httpx.Client) -> None:
    """A service with a model is healthy."""
    answer = client.get("/health")

    assert answer.status_code == 200
    assert answer.text == '{"status":"ok"}'


def test_model(client: httpx.Client) -> None:
    """The provenance begins with name, stage and version, and holds the rest of it."""
    answer = client.get("/model")

    assert answer.status_code == 200
    assert answer.text.startswith('{"name":"IrisModel","stage":"Production","version":1,')
    found = answer.json()
    assert found["aliases"] == ["champion"]
    assert found["tag"] == f"irismodel:v1-{found['digest'][:8]}"
    assert found["tracking_uri"].startswith("http://127.0.0.1:")
    assert found["features"] == list(FEATURES)
    assert found["engine"] == "onnx"
    assert found["proof"]["rows"] > 1000
    assert found["metrics"]["accuracy_mean"] > 0.9


def test_bentoml_client(service: servers.Server) -> None:
    """BentoML's client calls both methods with keyword arguments."""
    with bentoml.SyncHTTPClient(service.url) as client:
        flower = client.predict(**SETOSA)
        rows = client.predict(**TWO_ROWS)
        probabilities = client.predict_proba(**TWO_ROWS)

    assert flower == {"predictions": ["setosa"]}
    assert rows == {"predictions": ["setosa", "versicolor"]}
    assert len(probabilities["probabilities"]) == 2


@pytest.mark.parametrize("path", ["/predict", "/predict_proba"])
@pytest.mark.parametrize("case", BAD_REQUESTS, ids=lambda case: case["name"])
def test_bad_request(client: httpx.Client, case: dict[str, Any], path: str) -> None:
    """Each invalid request has its status and its whole body."""
    body = case["body"].encode() if "body" in case else case["latin1"].encode("latin-1")
    headers = {"Content-Type": case.get("content_type", "application/json")}
    answer = client.post(path, content=body, headers=headers)

    assert answer.json() == case["answer"]
    assert answer.status_code == case["status"]
    assert answer.headers["Content-Type"] == "application/json"


def test_many_problems(client: httpx.Client) -> None:
    """The answer to a thousand invalid rows has the first one."""
    answer = client.post("/predict", json={"instances": [[0, 0, -1, "a"]] * 1000})

    assert answer.status_code == 400
    assert answer.json() == {
        "error": "instances[0].petal_length: must be a length of 0 to 100 cm (and 1 more)",
        "detail": [
            {"loc": ["instances", 0, "petal_length"], "msg": "must be a length of 0 to 100 cm"},
            {"loc": ["instances", 0, "petal_width"], "msg": "must be a number"},
        ],
    }


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (
            '{"instances":' + "[" * 100_000,
            400,
            "not valid JSON: recursion limit exceeded at line 1",
        ),
        (json.dumps({"instances": [[0] * 4] * 100_001}), 413, TOO_MANY_ROWS),
        (json.dumps({"instances": [SETOSA] * 100_001}), 413, TOO_MANY_ROWS),
    ],
    ids=["deeply nested", "too many arrays", "too many objects"],
)
def test_large_body(client: httpx.Client, body: str, status: int, error: str) -> None:
    """Endless nesting and too many rows, in either form, are rejected."""
    answer = client.post("/predict", content=body)

    assert answer.status_code == status
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"].startswith(error)


@pytest.mark.parametrize("value", ["{}", "[[[[[]]]]]"])
def test_too_many_values(client: httpx.Client, service: servers.Server, value: str) -> None:
    """Too many values are rejected before there is a Python object for each."""
    (worker,) = servers.workers(service)
    before = worker.memory_info().rss
    answer = client.post("/predict", content=f'{{"instances":[{f"{value}," * 1_000_000}{value}]}}')

    assert answer.status_code == 413
    assert answer.json() == {
        "error": "the body has many more values than 100000 rows have; send several"
    }
    assert worker.memory_info().rss - before < 50 * 2**20


@pytest.mark.parametrize(
    "head", [b"Content-Length: 99999999999\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"]
)
def test_body_without_end(service: servers.Server, head: bytes) -> None:
    """A body that is too large is rejected before its end, and the connection closed."""
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    with servers.connect(service) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\n" + head)
        with contextlib.suppress(ConnectionError):
            for _ in range(40):
                connection.sendall(chunk)
        answer = servers.read(connection)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()
    assert answer.endswith(b'{"error":"the body has more than 16777216 bytes; send several"}')


def test_client_that_leaves(service: servers.Server, client: httpx.Client) -> None:
    """A client that disconnects during its upload affects no other, and leaves no traceback."""
    name, reason = "iris_rejected_requests_total", {"reason": "disconnected"}
    before = scrape(service.url).value(name, **reason)
    with servers.connect(service) as connection:
        connection.sendall(servers.post(b'{"instances"', length=100))
    servers.wait_for(lambda: scrape(service.url).value(name, **reason) == before + 1)

    assert client.post("/predict", json=SETOSA).status_code == 200
    assert "Traceback" not in service.log.read_text("utf-8")


def test_without_a_content_type(client: httpx.Client) -> None:
    """A body without a content type is parsed as JSON."""
    answer = client.post("/predict", content=json.dumps(SETOSA).encode())

    assert "content-type" not in answer.request.headers
    assert answer.json() == {"predictions": ["setosa"]}


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("GET", "/predict", "POST"), ("POST", "/model", "GET, HEAD")]
)
def test_wrong_method(client: httpx.Client, method: str, path: str, allowed: str) -> None:
    """A wrong method is answered with the right ones."""
    answer = client.request(method, path)

    assert answer.status_code == 405
    assert answer.headers["Allow"] == allowed
    assert answer.json() == {"error": f"{method} is not possible here; use {allowed}"}


def test_without_a_model(plain_env: dict[str, str], tmp_path: Path) -> None:
    """A service with an empty store runs, and every route that needs a model says what to do."""
    env = plain_env | {"BENTOML_HOME": str(tmp_path / "home")}
    reason = (
        f"irismodel:latest is not in the model store {tmp_path}/home/models; "
        "run python import_model.py"
    )
    with (
        servers.bentoml_service(tmp_path / "log", env=env) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        health = client.get("/health")
        others = [
            client.post("/predict", json=SETOSA),
            client.post("/predict_proba", json=SETOSA),
            client.get("/model"),
        ]
        rejected = scrape(server.url).value("iris_rejected_requests_total", reason="no_model")

    assert rejected == 2
    assert health.status_code == 503
    assert health.json() == {"status": "unavailable", "reason": reason}
    for answer in others:
        assert answer.status_code == 503
        assert answer.json() == {"error": reason}

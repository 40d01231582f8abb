"""Every estimator that train_model.py offers answers over HTTP as scikit-learn does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from conftest import Tracking
from sklearn.svm import LinearSVC
from support import registered as models
from support import servers, warm
from support.irises import fresh_rows
from support.scrape import scrape

import train_model
from iris_api.vetting.estimator import open_estimator
from iris_api.vetting.mlmodel import read_flavor

pytestmark = pytest.mark.thorough

NOT_COMPILED = ("neighbors", "svc")
ENGINES = {name: "sklearn" if name in NOT_COMPILED else "onnx" for name in train_model.ESTIMATORS}


@pytest.fixture(scope="module")
def registered(tracking: Tracking) -> dict[str, str]:
    """Train all of them as versions of one registered model, and return their model URIs."""
    script = (
        "import sys, train_model, warnings; warnings.simplefilter('ignore');"
        "[print(train_model.train(e, 'Kind', promote=False)) for e in sys.argv[1:]]"
    )
    done = servers.run("-c", script, *ENGINES, env=tracking.env, timeout=240)
    assert done.returncode == 0, done.stderr
    uris = [line for line in done.stdout.splitlines() if line.startswith("models:")]
    return dict(zip(ENGINES, uris, strict=True))


@pytest.fixture(scope="module")
def env(
    tracking: Tracking, registered: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Return the environment of the imports and of the service, with a store of their own."""
    return tracking.env | {
        "BENTOML_HOME": str(tmp_path_factory.mktemp("home")),
        "IRIS_MODEL_URI": registered["logistic"],
        "IRIS_RELOAD_SECONDS": "0.1",
    }


@pytest.fixture(scope="module")
def server(
    env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    """Run a service that loads one estimator after the other, as each is imported."""
    folder = tmp_path_factory.mktemp("service")
    assert warm.run(folder, env=env).status == 0
    with servers.bentoml_service(folder / "log", env=env) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: servers.Server) -> Iterator[httpx.Client]:
    """Return an HTTP client of that service."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
@pytest.mark.parametrize("kind", ENGINES)
def test_same_answers(
    kind: str, registered: dict[str, str], env: dict[str, str], client: httpx.Client, tmp_path: Path
) -> None:
    """Labels and probabilities over HTTP are scikit-learn's, for the data set and many rows."""
    imported = warm.run(tmp_path, registered[kind], env=env)
    assert imported.status == 0, imported.stderr
    entry = Path(env["BENTOML_HOME"], "models", imported.stdout.strip().replace(":", "/"))
    metadata = yaml.safe_load((entry / "model.yaml").read_text("utf-8"))["metadata"]
    estimator: Any = open_estimator(entry / "mlflow_model", read_flavor(entry / "mlflow_model"))
    rows = fresh_rows(seed=7)
    servers.wait_for(lambda: client.get("/model").json()["version"] == metadata["version"])
    body = {"instances": rows.tolist()}
    predicted = client.post("/predict", json=body)
    probable = client.post("/predict_proba", json=body)
    card = client.get("/model").json()

    labels, probabilities = estimator.predict(rows), estimator.predict_proba(rows)
    different = np.count_nonzero(np.array(predicted.json()["predictions"]) != labels)
    assert predicted.headers["X-Model-Version"] == str(metadata["version"])
    assert different <= metadata["proof"].get("ties", 0)
    assert np.abs(np.array(probable.json()["probabilities"]) - probabilities).max() < 1e-9
    assert card["engine"] == ENGINES[kind]
    if ENGINES[kind] == "onnx":
        assert card["proof"]["rows"] > 9000
        assert card["proof"]["largest_difference"] < 1e-9
        assert card["proof"]["steps"] > 100
        assert card["proof"]["domain"] == [[0.0, 100.0]] * 4
        assert card["proof"]["precision"] == "float64"
        assert card["proof"]["versions"].keys() >= {"scikit-learn", "onnx", "onnxruntime"}
    else:
        assert card["proof"]["reason"]
        assert "served by scikit-learn, which is slower: " in imported.stderr


def test_without_probabilities(
    tracking: Tracking,
    env: dict[str, str],
    server: servers.Server,
    client: httpx.Client,
    tmp_path: Path,
) -> None:
    """A model without probabilities predicts; /predict_proba is 404, counted by its reason."""
    models.use(tracking.url)
    models.log("Kind", LinearSVC())
    imported = warm.run(tmp_path, "models:/Kind/latest", env=env)
    assert imported.status == 0, imported.stderr
    version = len(ENGINES) + 1
    servers.wait_for(lambda: client.get("/model").json()["version"] == version)

    body = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
    predicted = client.post("/predict", json=body)
    without = client.post("/predict_proba", json=body)
    page = scrape(server.url)
    with servers.connect(server) as connection:
        connection.sendall(servers.post(b"", "/predict_proba", length=110_000))
        early = connection.recv(65536)
        connection.sendall(b" " * 110_000 + servers.post(json.dumps(body).encode()))
        late = connection.recv(65536)

    assert predicted.json() == {"predictions": ["setosa"]}
    assert without.status_code == 404
    assert without.json() == {"error": "this model gives no probabilities; use POST /predict"}
    assert page.value("iris_rejected_requests_total", reason="no_probabilities") == 1
    # A 404 before the end of a body costs the client neither the answer nor the connection.
    assert early.startswith(b"HTTP/1.1 404 ")
    assert late.startswith(b"HTTP/1.1 200 ")


def test_engine_is_chosen(registered: dict[str, str], env: dict[str, str], tmp_path: Path) -> None:
    """With --engine, scikit-learn serves a model that compiles, and one that cannot is rejected."""
    env = env | {"BENTOML_HOME": str(tmp_path)}
    sklearn = warm.run(tmp_path, "--engine", "sklearn", registered["bayes"], env=env)
    onnx = warm.run(tmp_path, "--engine", "onnx", registered["neighbors"], env=env)

    tag = sklearn.stdout.strip().replace(":", "/")
    content = yaml.safe_load((tmp_path / "models" / tag / "model.yaml").read_text("utf-8"))
    assert content["metadata"]["engine"] == "sklearn"
    assert onnx.status == 1
    assert onnx.stdout == ""
    assert onnx.error
    assert [path.name for path in tmp_path.glob("models/kind/v*")] == [tag.partition("/")[2]]

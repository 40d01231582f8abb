"""A mixed table from registration to HTTP, compiled and by scikit-learn itself."""

from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest
from conftest import Tracking
from sklearn.linear_model import LogisticRegression
from support import registered, servers, warm
from support.scrape import growth
from support.tables import loans, mixed

import iris_api

ROWS, OUTCOMES = loans()
PLAIN = ["purpose", "home_city", "owner", "children", "income", "debt"]
ARRAYS = ROWS.astype(object).where(ROWS.notna(), None).to_numpy().tolist()
"""The rows as JSON has them."""

OBJECTS = [dict(zip(PLAIN, row, strict=True)) for row in ARRAYS]


@pytest.fixture(scope="module")
def fitted() -> Any:
    """Return a pipeline that was fitted on the table of loans."""
    return mixed(LogisticRegression(max_iter=1000)).fit(ROWS, OUTCOMES)


@pytest.fixture(
    scope="module", params=["onnx", pytest.param("sklearn", marks=pytest.mark.thorough)]
)
def service(
    request: pytest.FixtureRequest,
    tracking: Tracking,
    fitted: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[servers.Server]:
    """Register, import and serve the pipeline."""
    folder = tmp_path_factory.mktemp("loans")
    registered.use(tracking.url)
    uri = iris_api.log_model(
        fitted, ROWS, OUTCOMES, name=f"Loans{request.param}", ranges={"debt": (-1e5, 1e5)}
    )
    env = tracking.env | {"BENTOML_HOME": str(folder / "home"), "IRIS_MODEL_URI": uri}
    done = warm.run(folder, uri, "--engine", request.param, env=env)
    assert done.status == 0, done.stderr
    with servers.bentoml_service(folder / "log", env=env) as server:
        yield server


@pytest.fixture(scope="module")
def client(service: servers.Server) -> Iterator[httpx.Client]:
    """Connect to the service."""
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


@pytest.mark.parametrize("instances", [ARRAYS, OBJECTS], ids=["arrays", "objects"])
def test_every_row(client: httpx.Client, fitted: Any, instances: list[Any]) -> None:
    """Each row has scikit-learn's label and probabilities."""
    labels = client.post("/predict", json={"instances": instances})
    probabilities = client.post("/predict_proba", json={"instances": instances})

    assert labels.json() == {"predictions": fitted.predict(ROWS).tolist()}
    expected = fitted.predict_proba(ROWS).tolist()
    for found, row in zip(probabilities.json()["probabilities"], expected, strict=True):
        assert found == pytest.approx(row, abs=1e-12)


def test_one_row(client: httpx.Client, fitted: Any) -> None:
    """Missing cells can be left out of an object, and other texts are accepted where they may."""
    row = {key: value for key, value in OBJECTS[0].items() if key not in {"home_city", "income"}}
    frame = ROWS.iloc[:1].assign(**{"home city": "Paris", "income (EUR)": None})

    without = client.post("/predict", json=row)
    another = client.post("/predict_proba", json=row | {"home city": "Paris"})

    assert without.status_code == 200, without.text
    expected = fitted.predict_proba(frame)[0].tolist()
    assert another.json()["probabilities"][0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"purpose": "boat"}, "purpose: must be one of 'car', 'house', 'study', 'travel'"),
        ({"purpose": None}, "purpose: must be a text"),
        ({"home_city": 7}, "home_city: must be a text"),
        ({"owner": 1}, "owner: must be true or false"),
        ({"owner": "true"}, "owner: must be true or false"),
        ({"children": 1.5}, "children: must be a whole number"),
        ({"children": 2**53}, "children: must be a number of "),
        ({"debt": None}, "debt: must be a number"),
        ({"debt": 1e6}, "debt: must be a number of -100000 to 100000"),
    ],
)
def test_wrong_cell(client: httpx.Client, change: dict[str, Any], error: str) -> None:
    """A wrong cell is named, with the known texts where others are not accepted."""
    answer = client.post("/predict", json=OBJECTS[0] | change)

    assert answer.status_code == 400
    assert answer.json()["error"].startswith(error)


def test_document(client: httpx.Client) -> None:
    """The OpenAPI document has the types and the texts, and its examples are answered."""
    document = client.get("/docs.json").json()
    row = document["components"]["schemas"]["Row"]
    request = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]

    assert row["properties"]["purpose"]["enum"] == ["car", "house", "study", "travel"]
    assert row["properties"]["home_city"]["type"] == ["string", "null"]
    assert row["required"] == ["purpose", "owner", "children", "debt"]
    for example in request["examples"].values():
        root = request["schema"] | {"components": document["components"]}
        jsonschema.Draft202012Validator(root).validate(example["value"])
        assert client.post("/predict", json=example["value"]).status_code == 200


def test_categories_are_counted(client: httpx.Client, service: servers.Server) -> None:
    """Each text and boolean is counted, and texts beyond those of the training profile as other."""
    rows = [OBJECTS[0] | {"home_city": city, "owner": True} for city in ("Rome", "Paris", None)]

    with growth(service.url) as grown:
        assert client.post("/predict", json={"instances": rows}).status_code == 200

    name = "iris_feature_rows_total"
    assert grown(name, feature="home_city", bin="Rome") == 1
    assert grown(name, feature="home_city", bin="other") == 1
    assert grown(name, feature="home_city", bin="Bern") == 0
    assert grown(name, feature="owner", bin="true") == 3
    purposes = [{"feature": "purpose", "bin": purpose} for purpose in ("car", "house", "study")]
    assert sum(grown(name, **labels) for labels in purposes) in {0, 3}
    ratio = "iris_feature_expected_ratio"
    assert 0.35 < grown.after.value(ratio, feature="owner", bin="true") < 0.45
    assert grown.after.value(ratio, feature="home_city", bin="other") == 0

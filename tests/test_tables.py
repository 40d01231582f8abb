"""Models of other tables than the irises: registered, imported, served and asked."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pandas as pd
import pytest
from conftest import Tracking
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support import programs, registered, servers, warm

import iris_api
from iris_api.errors import IrisError


@dataclass(frozen=True)
class Table:
    """A data set and the estimator that is fitted on it."""

    data: Any
    estimator: Any


TABLES = {
    "WineModel": Table(
        load_wine(as_frame=True), make_pipeline(StandardScaler(), LogisticRegression())
    ),
    "TumourModel": Table(
        load_breast_cancer(as_frame=True), RandomForestClassifier(40, random_state=0)
    ),
    "DigitModel": Table(
        load_digits(as_frame=True), RandomForestClassifier(40, max_depth=9, random_state=0)
    ),
    "DiabetesModel": Table(
        load_diabetes(as_frame=True), make_pipeline(StandardScaler(), LinearRegression())
    ),
}


@dataclass(frozen=True)
class Served:
    """A service with a table's model."""

    client: httpx.Client
    rows: pd.DataFrame
    expected: list[Any]


@pytest.fixture(
    scope="module",
    params=[
        "WineModel",
        "DiabetesModel",
        pytest.param("TumourModel", marks=pytest.mark.thorough),
        pytest.param("DigitModel", marks=pytest.mark.thorough),
    ],
)
def served(
    request: pytest.FixtureRequest, tracking: Tracking, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Register, import and serve a model."""
    name, folder = request.param, tmp_path_factory.mktemp("table")
    table = TABLES[name]
    rows, labels = table.data.data, table.data.target
    if "target_names" in table.data:
        labels = table.data.target_names[labels]
    registered.use(tracking.url)
    uri = iris_api.log_model(table.estimator.fit(rows, labels), rows, labels, name=name)
    env = tracking.env | {"BENTOML_HOME": str(folder / "home"), "IRIS_MODEL_URI": uri}
    done = warm.run(folder, uri, env=env)
    assert "compiled to ONNX and proved" in done.stderr, done.stderr
    with (
        servers.bentoml_service(folder / "log", env=env) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        yield Served(client, rows, table.estimator.predict(rows).tolist())


def _plain(served: Served) -> list[str]:
    return [
        column["plain_name"] for column in served.client.get("/model").json()["schema"]["columns"]
    ]


def test_every_row(served: Served) -> None:
    """Each row has scikit-learn's label, as an array and by either name of its columns."""
    names = _plain(served)
    records = served.rows.to_dict("records")
    plain = [dict(zip(names, row, strict=True)) for row in served.rows.to_numpy().tolist()]

    for instances in (served.rows.to_numpy().tolist(), records, plain):
        answer = served.client.post("/predict", json={"instances": instances})
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == pytest.approx(served.expected)
        assert answer.headers["X-Model-Version"] == "1"
    one = served.client.post("/predict", json=plain[0])
    assert one.json()["predictions"] == pytest.approx(served.expected[:1])


def test_document(served: Served) -> None:
    """The OpenAPI document has the columns, and its examples are answered."""
    document = served.client.get("/docs.json").json()
    row = document["components"]["schemas"]["Row"]
    request = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]

    assert list(row["properties"]) == _plain(served)
    for example in request["examples"].values():
        root = request["schema"] | {"components": document["components"]}
        jsonschema.Draft202012Validator(root).validate(example["value"])
        assert served.client.post("/predict", json=example["value"]).status_code == 200


@pytest.mark.thorough
def test_generated_requests(served: Served, tmp_path: Path) -> None:
    """No generated request is answered with a status from 500 on, or unlike the document."""
    url, paths = str(served.client.base_url).rstrip("/"), "^/(predict|predict_proba|model)$"
    # A row that is far out, which the schema allows, may have no finite answer.
    wide = ("--exclude-checks", "positive_data_acceptance", "--phases", "examples,fuzzing")
    options = ("--include-path-regex", paths, "--max-examples", "20", *wide)
    done = programs.schemathesis(url, tmp_path, *options)

    assert done.returncode == 0, done.stdout


def test_wrong_bodies(served: Served) -> None:
    """A wrong body names the column."""
    names = _plain(served)
    row = served.rows.to_numpy()[0].tolist()
    wrong = [*row[:-1], "much"]

    short = served.client.post("/predict", json={"instances": [row[:-1]]})
    text = served.client.post("/predict", json={"instances": [row, wrong]})
    unknown = served.client.post("/predict", json=dict(zip(names, row, strict=True)) | {"x": 1})

    assert short.json()["error"] == f"instances[0].{names[-1]}: is missing"
    assert text.json()["error"].startswith(f"instances[1].{names[-1]}: must be a ")
    assert unknown.json()["error"] == "x: is not one of the expected names"
    assert {answer.status_code for answer in (short, text, unknown)} == {400}


def test_drift_is_counted(served: Served) -> None:
    """The training profile came with the model, so that each column has its bins in the metrics."""
    name = _plain(served)[0]

    page = served.client.get("/metrics").text.replace(" ", "")

    assert f'iris_feature_rows_total{{bin="above",feature="{name}",' in page
    label = "25-60" if isinstance(served.expected[0], float) else served.expected[0]
    assert f'iris_label_expected_ratio{{label="{label}",' in page
    assert f'iris_predictions_total{{label="{label}",' in page


def test_far_rows(served: Served) -> None:
    """Without a range any finite number is accepted, as far as the prediction is finite as well."""
    first = served.rows.to_numpy()[0].tolist()
    instances, largest = [first, [1e6] * len(first)], [1e308] * len(first)
    is_line = len(largest) in {10, 13}  # of diabetes and of wine; trees have an answer everywhere

    answer = served.client.post("/predict", json={"instances": instances})
    beyond = served.client.post("/predict", json={"instances": [instances[0], largest]})

    assert answer.status_code == 200
    assert beyond.status_code == (400 if is_line else 200)
    if is_line:
        assert beyond.json()["error"].startswith("the model gives no finite number for row 1,")


def test_probabilities(served: Served) -> None:
    """A classifier gives a probability for each class, and a regressor says that it has none."""
    instances = served.rows.to_numpy()[:1].tolist()

    answer = served.client.post("/predict_proba", json={"instances": instances})
    document = served.client.get("/docs.json").json()

    if isinstance(served.expected[0], float):
        assert answer.status_code == 404
        assert answer.json()["error"] == "this regressor gives no probabilities; use POST /predict"
        assert "/predict_proba" not in document["paths"]
    else:
        assert sum(answer.json()["probabilities"][0]) == pytest.approx(1)


X, Y = load_wine(return_X_y=True)
FITTED = LogisticRegression(max_iter=10_000).fit(X, Y)


@pytest.mark.parametrize(
    ("estimator", "rows", "ranges", "problem"),
    [
        (LogisticRegression(), X, {}, "LogisticRegression is not fitted; fit it first"),
        (
            StandardScaler().fit(X),
            X,
            {},
            "StandardScaler is neither a classifier nor a regressor, which an import rejects",
        ),
        (FITTED, X[0], {}, "rows have the shape (13,) and there are 178 labels; give a table"),
        (FITTED, [["red"]] * 178, {}, "LogisticRegression does not answer the rows: dtype="),
        (FITTED, X.tolist(), {"ash": (0, 9)}, "ranges names ash, which is no column of the rows"),
    ],
)
def test_what_cannot_be_registered(
    estimator: Any, rows: Any, ranges: dict[str, Any], problem: str
) -> None:
    """An error names what is wrong before a server is asked."""
    with pytest.raises(IrisError) as caught:
        iris_api.log_model(estimator, rows, Y, name="Any", ranges=ranges)

    assert str(caught.value).startswith(problem)


def test_promotion_that_drops_a_column(
    tracking: Tracking, run: warm.Run, fails: warm.Fails
) -> None:
    """A version with other columns is activated only where that is asked for."""
    registered.use(tracking.url)
    data = TABLES["WineModel"].data
    for rows in (data.data.iloc[:, :3], data.data.iloc[:, :2]):
        registered.log("CellarModel", rows=rows, labels=data.target, serialization_format="skops")
    tag = run("models:/CellarModel/1").stdout.strip()

    rejected = fails("models:/CellarModel/2")
    allowed = run("models:/CellarModel/2", "--allow-schema-change")
    back = fails("models:/CellarModel/1")

    assert rejected.error == (
        f"requests to {tag} would change their meaning: the column ash is gone; "
        "when all clients are ready for that, import it with --allow-schema-change"
    )
    assert allowed.stdout.startswith("cellarmodel:v2-")
    assert "the column ash is new and required" in back.error

"""From the registry to the store: which version, what is kept of it, and what is rejected."""

import json
from pathlib import Path

import httpx
import mlflow
import numpy as np
import pytest
from conftest import Tracking
from sklearn.datasets import load_iris
from sklearn.neighbors import RadiusNeighborsClassifier
from support import registered, servers
from support.warm import Fails, Run, metadata, runner

from iris_api.schema import FEATURES

ENGINES = ("auto", "onnx", "sklearn")


@pytest.fixture
def new_home(tmp_path: Path) -> Path:
    """Return the path of a BENTOML_HOME that does not exist."""
    return tmp_path / "bentoml"


@pytest.fixture
def import_model(tracking: Tracking, new_home: Path, tmp_path: Path) -> Run:
    """Return a function that runs the command line with an empty store."""
    return runner(tmp_path / "output", tracking.env | {"BENTOML_HOME": str(new_home)})


@pytest.fixture(scope="module", autouse=True)
def client(tracking: Tracking) -> mlflow.MlflowClient:
    """Return MLflow's own client, and make its functions use the same server."""
    return registered.use(tracking.url)


def test_metadata(home: Path) -> None:
    """All that the design names is in the metadata, and the digest is the tag's."""
    (entry,) = (home / "models" / "irismodel").glob("v1-*")
    found = metadata(home, f"irismodel:{entry.name}")

    assert found["name"] == "IrisModel"
    assert found["version"] == 1
    assert found["stage"] == "Production"
    assert found["aliases"] == ["champion"]
    assert len(found["run_id"]) == 32
    assert found["model_id"].startswith("m-")
    assert found["source"].startswith("mlflow-artifacts:/")
    assert found["tracking_uri"].startswith("http://127.0.0.1:")
    assert entry.name == f"v1-{found['digest'][:8]}"
    assert found["classes"] == ["setosa", "versicolor", "virginica"]
    assert found["features"] == list(FEATURES)
    assert found["signature"]["inputs"][0]["name"] == "sepal_length"
    assert found["sklearn_version"].count(".") == 2
    assert found["engine"] == "onnx"
    assert found["proof"]["largest_difference"] < 1e-9
    assert 0.9 < found["metrics"]["accuracy_mean"] <= 1
    assert found["imported_at"].endswith("+00:00")


@pytest.mark.thorough
def test_ordinary_entry(home: Path, plain_env: dict[str, str]) -> None:
    """BentoML lists the entry, and its own MLflow loader predicts the same labels."""
    env = plain_env | {"BENTOML_HOME": str(home)}
    listed = servers.run("-m", "bentoml", "models", "list", "-o", "json", env=env)
    (tag,) = [entry["tag"] for entry in json.loads(listed.stdout)]
    script = (
        "import bentoml, sys, pandas as pd; from sklearn.datasets import load_iris;"
        f"rows = pd.DataFrame(load_iris().data, columns={list(FEATURES)!r});"
        f"print(*bentoml.mlflow.load_model({tag!r}).predict(rows), sep=',')"
    )
    predicted = servers.run("-c", script, env=env)

    assert predicted.returncode == 0, predicted.stderr
    labels = predicted.stdout.strip().split(",")
    assert np.mean(np.array(labels) == registered.SPECIES) > 0.9


@pytest.mark.parametrize("meaning", ["/1", "/production", "/latest", "@champion"])
def test_output_is_the_tag(run: Run, store: Path, meaning: str) -> None:
    """Standard output is exactly the tag, the same one for each URI that means the version."""
    done = run(IRIS_MODEL_URI=f"models:/IrisModel{meaning}")

    (entry,) = (store / "models" / "irismodel").glob("v1-*")
    assert done.status == 0
    assert done.stdout == f"irismodel:{entry.name}\n"
    assert f"irismodel:{entry.name} is in the store already, and active" in done.stderr


def test_promotion(
    client: mlflow.MlflowClient, import_model: Run, new_home: Path, plain_env: dict[str, str]
) -> None:
    """A promoted second version gets a new tag, and a restarted service says version 2.

    The second one has its columns in another order, and gets each value in its own column.
    """
    registered.log("Promoted")
    client.transition_model_version_stage("Promoted", "1", "Production")
    first = import_model("models:/Promoted/Production")
    registered.log("Promoted", rows=registered.ROWS[list(FEATURES[::-1])])
    latest = import_model("models:/Promoted/latest")
    client.transition_model_version_stage("Promoted", "2", "Production", True)
    second = import_model("models:/Promoted/Production")
    env = plain_env | {
        "BENTOML_HOME": str(new_home),
        "IRIS_MODEL_URI": "models:/Promoted/Production",
    }
    with servers.bentoml_service(new_home / "service.log", env=env) as server:
        model = httpx.get(f"{server.url}/model")
        answer = httpx.post(
            f"{server.url}/predict", json={"instances": registered.IRIS.data.tolist()}
        )

    assert first.stderr.splitlines()[-1] == (
        "the service answers with it when IRIS_MODEL_URI=models:/Promoted/Production"
    )
    assert first.stdout.startswith("promoted:v1-")
    assert latest.stdout == second.stdout
    assert second.stdout.startswith("promoted:v2-")
    assert model.text.startswith('{"name":"Promoted","stage":"Production","version":2,')
    assert model.json()["features"] == list(FEATURES[::-1])
    assert answer.headers["X-Model-Version"] == "2"
    found = np.array(answer.json()["predictions"])
    assert np.mean(found == registered.SPECIES) > 0.9


@pytest.mark.filterwarnings("ignore:Operation with range:DeprecationWarning")  # of MLflow
@pytest.mark.parametrize("engine", ["onnx", "sklearn"])
def test_names_of_the_data_set(import_model: Run, new_home: Path, engine: str) -> None:
    """A model of `load_iris(as_frame=True)`, its columns in another order, keeps its examples."""
    frame = load_iris(as_frame=True).data
    rows = frame[["petal width (cm)", "sepal length (cm)", "petal length (cm)", "sepal width (cm)"]]
    registered.log("Original", rows=rows, input_example=rows[50:52])
    done = import_model("models:/Original/latest", "--engine", engine)

    assert done.status == 0, done.stderr
    found = metadata(new_home, done.stdout)
    assert found["features"] == ["petal_width", "sepal_length", "petal_length", "sepal_width"]
    assert found["example"]["rows"] == rows[50:52].to_numpy().tolist()
    assert found["example"]["labels"] == [1, 1]


def test_names_of_files(import_model: Run, new_home: Path, tmp_path: Path) -> None:
    """Files and locations have any name that MLflow itself can load."""
    names = ["50%.png", "a:b.txt", "star*.txt", "Tribe\u010d.txt", "7\u202fPM.png"]
    for name in names:
        (tmp_path / name).write_text(name)
    mlflow.create_experiment("names", artifact_location="mlflow-artifacts:/my%20folder")
    mlflow.set_experiment("names")
    registered.log("Named", extra_files=[str(tmp_path / name) for name in names])
    mlflow.set_experiment("iris")
    done = import_model("models:/Named/1")

    assert done.status == 0, done.stderr
    (files,) = new_home.glob("models/named/v1-*/mlflow_model/extra_files")
    assert {path.name: path.read_text() for path in files.iterdir()} == {n: n for n in names}


@pytest.mark.parametrize("engine", ENGINES)
def test_order_of_the_signature(fails: Fails, engine: str) -> None:
    """A signature in another order than the estimator's is rejected, whatever the engine."""
    registered.log("Reordered", signed=registered.ROWS[list(FEATURES[::-1])])
    done = fails("models:/Reordered/latest", "--engine", engine)

    assert done.error == (
        "the estimator was fitted on the columns sepal_length, sepal_width, petal_length, "
        "petal_width, in another order than its signature; "
        "log the model again with infer_signature of the rows that it was fitted on"
    )


def test_folders_beside_the_store(run: Run, store: Path) -> None:
    """Files of a killed import are removed, and files of others are not."""
    others, left = store / "staging/others", store / "staging/iris-import-left"
    for folder in (others, left):
        folder.mkdir(parents=True)
        (folder / "file").write_text("another program's")
    done = run("models:/IrisModel/1")

    assert done.status == 0, done.stderr
    assert (others / "file").read_text() == "another program's"
    assert not left.exists()


def test_two_models_with_one_store_name(run: Run, fails: Fails, store: Path) -> None:
    """A model whose name is another's in the store is rejected before the registry is asked."""
    registered.log("irismodel")
    (entry,) = (store / "models" / "irismodel").glob("v1-*")
    status = store / "registry/irismodel.json"
    before = status.read_text() if status.exists() else None
    done = fails("models:/irismodel/1")
    tried = fails("--dry-run", "models:/irismodel/1")
    after = status.read_text() if status.exists() else None
    again = run("models:/IrisModel/1")

    line = (
        f"error: the store has irismodel:{entry.name} of the registered model IrisModel, and "
        "irismodel would be irismodel there as well; use another BENTOML_HOME for one of them, "
        "or rename it in the registry"
    )
    assert done.stderr.splitlines() == ["importing models:/irismodel/1", line]
    assert tried.last == line
    assert after == before
    assert again.status == 0


def test_rows_that_scikit_learn_cannot_answer(fails: Fails) -> None:
    """A model that fails for accepted rows is rejected, whichever engine should serve it."""
    registered.log("Near", RadiusNeighborsClassifier(radius=1.0, algorithm="brute"))
    lines = {fails("--engine", engine, "models:/Near/1").last for engine in ENGINES}

    (line,) = lines
    assert line.startswith(
        "error: scikit-learn itself does not answer every row that the service accepts: "
        "ValueError: No neighbors found"
    )
    assert line.endswith(
        "; train an estimator that does, or give iris_api.log_model the ranges in which it does"
    )


@pytest.mark.thorough
def test_service_of_another_model(home: Path, plain_env: dict[str, str], tmp_path: Path) -> None:
    """A service does not answer with a model that only shares its name in the store."""
    env = plain_env | {
        "BENTOML_HOME": str(servers.copy_store(home, tmp_path / "home")),
        "IRIS_MODEL_URI": "models:/irismodel/Production",
    }
    with servers.bentoml_service(tmp_path / "log", env=env) as server:
        health = httpx.get(f"{server.url}/health")

    (entry,) = (home / "models" / "irismodel").glob("v1-*")
    assert health.status_code == 503
    assert health.json()["reason"] == (
        f"irismodel:{entry.name} is of the registered model IrisModel, not of irismodel; "
        "use another BENTOML_HOME for one of them, or rename it in the registry"
    )


NO_URI = (
    "{!r} is not a model URI; write models:/NAME/VERSION, models:/NAME/STAGE, "
    "models:/NAME/latest or models:/NAME@ALIAS"
)
NOT_REGISTERED = (
    "{0!r} is a model without a name or version in the registry; register it, "
    "mlflow.register_model({0!r}, NAME), and import models:/NAME/VERSION"
)
NO_STAGE = (
    "{!r} is neither a version nor a stage; the stages are None, Staging, Production, Archived, "
    "and an alias is written models:/IrisModel@ALIAS"
)
WRONG_URIS = {
    "no URI": ("IrisModel", NO_URI.format("IrisModel")),
    "surrogate": ("models:/Iris\udcff/1", NO_URI.format("models:/Iris?/1")),
    "escape": ("models:/Iris\x1b/1", NO_URI.format("models:/Iris?/1")),
    "logged model": ("models:/m-0123", NOT_REGISTERED.format("models:/m-0123")),
    "run": ("runs:/0123/model", NOT_REGISTERED.format("runs:/0123/model")),
    "alias as stage": ("models:/IrisModel/champion", NO_STAGE.format("champion")),
    "5000 digits": ("models:/IrisModel/" + "9" * 5000, NO_STAGE.format("9" * 80)),
    "superscript": ("models:/IrisModel/\u00b2", NO_STAGE.format("\u00b2")),
}


@pytest.mark.parametrize(("uri", "line"), WRONG_URIS.values(), ids=WRONG_URIS)
def test_wrong_usage(import_model: Run, new_home: Path, uri: str, line: str) -> None:
    """Text that is no model URI is a usage error, and no store is made."""
    done = import_model(uri)

    assert (done.status, done.stdout) == (2, "")
    assert done.error == line
    assert not new_home.exists()


MISSING = "URI is not in the registry of SERVER: "
UNKNOWN = {
    "/Nobody/1": f"{MISSING}Model Version (name=Nobody, version=1) not found",
    "/Nobody/latest": f"{MISSING}Registered Model with name=Nobody not found",
    "/Nobody/Production": f"{MISSING}Registered Model with name=Nobody not found",
    "/IrisModel/99": f"{MISSING}Model Version (name=IrisModel, version=99) not found",
    "/IrisModel@nobody": f"{MISSING}Registered model alias nobody not found.",
    "/IrisModel/Staging": (
        "IrisModel has no version in stage Staging on SERVER; promote one, "
        "or name a version: models:/IrisModel/1"
    ),
}


@pytest.mark.parametrize(("path", "line"), UNKNOWN.items())
def test_unknown_version(fails: Fails, tracking: Tracking, path: str, line: str) -> None:
    """A name, version, alias or stage that does not exist is named."""
    done = fails(f"models:{path}")

    assert done.error.replace(tracking.url, "SERVER").replace(f"models:{path} ", "URI ") == line


def test_help_teaches(plain_env: dict[str, str]) -> None:
    """The help names the variables and has examples."""
    done = servers.run("import_model.py", "--help", env=plain_env)

    assert done.returncode == 0
    for part in ("MLFLOW_TRACKING_URI", "IRIS_MODEL_URI", "--trust-pickle", "TAG=$("):
        assert part in done.stdout


def test_same_version_at_another_address(run: Run, store: Path, tracking: Tracking) -> None:
    """The same files under another name of the server are the same entry, verified again."""
    other = tracking.url.replace("127.0.0.1", "localhost")
    again = run(MLFLOW_TRACKING_URI=other)
    (entry,) = (store / "models" / "irismodel").glob("v1-*")
    address = metadata(store, f"irismodel:{entry.name}")["tracking_uri"]
    with (entry / "model.onnx").open("ab") as file:
        file.write(b"x")
    tampered = run()

    assert again.stdout == f"irismodel:{entry.name}\n"
    assert f"irismodel:{entry.name} is in the store already, and active" in again.stderr
    assert address == other
    assert tampered.status == 1
    assert "model.onnx was changed after the import" in tampered.last


def test_changed_in_the_registry(
    tracking: Tracking, client: mlflow.MlflowClient, import_model: Run, new_home: Path
) -> None:
    """A version whose files changed behind its number is an alarm, and the store stays."""
    registered.log("Changed")
    tag = import_model("models:/Changed/1").stdout.strip()
    root = client.get_model_version_download_uri("Changed", "1").removeprefix("mlflow-artifacts:/")
    with (tracking.folder / "artifacts" / root / "requirements.txt").open("a") as file:
        file.write("# changed\n")
    entry = new_home / "models" / tag.replace(":", "/")
    done = import_model("models:/Changed/1")

    assert done.status == 1
    assert done.error == (
        f"version 1 of Changed changed in the registry since it was imported as {tag}; "
        f"if that is meant, run rm -r {entry}, then import again"
    )
    assert list((new_home / "models/changed").glob("v*")) == [entry]

"""The registry after train_model.py."""

import json
import re
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import yaml
from conftest import Tracking
from support import servers, warm

from iris_api.schema import FEATURES
from iris_api.vetting.training_profile import TrainingProfile


@pytest.fixture(scope="module")
def client(tracking: Tracking) -> mlflow.MlflowClient:
    """Return MLflow's own client."""
    return mlflow.MlflowClient(tracking.url)


def test_run(client: mlflow.MlflowClient) -> None:
    """Version 1 is promoted; its run has parameters, metrics, a digest of the data and a figure."""
    version = client.get_model_version_by_alias("IrisModel", "champion")
    assert version.run_id is not None
    run = client.get_run(version.run_id)

    assert version.version == "1"
    assert version.current_stage == "Production"
    assert run.data.params["estimator"] == "logistic"
    assert run.data.params["max_iter"] == "1000"
    for name in ("accuracy_mean", "accuracy_std", "log_loss_mean", "log_loss_std"):
        assert 0 <= run.data.metrics[name] <= 1
    assert run.inputs is not None
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.digest
    assert "confusion_matrix.png" in [file.path for file in client.list_artifacts(version.run_id)]


def test_training_profile(home: Path) -> None:
    """The profile came through the proxy and describes the data set."""
    (path,) = home.glob("models/irismodel/v1-*/mlflow_model/extra_files/training_profile.json")
    profile = TrainingProfile.model_validate_json(path.read_bytes())

    assert list(profile.features) == list(FEATURES)
    assert profile.classes == pytest.approx(
        {"setosa": 1 / 3, "versicolor": 1 / 3, "virginica": 1 / 3}
    )
    petal_width = profile.features["petal_width"]
    assert (petal_width.minimum, petal_width.maximum) == (0.1, 2.5)
    assert petal_width.mean == pytest.approx(1.199, abs=1e-3)
    assert petal_width.edges[0] == petal_width.minimum
    assert petal_width.edges[-1] == petal_width.maximum
    assert sum(petal_width.shares) == pytest.approx(1)
    # A third of the flowers has 0.2 or 0.3 cm, so that lower deciles coincide.
    assert len(petal_width.edges) < 11


def test_signature_and_example(home: Path) -> None:
    """The model says its columns and labels, and has a flower of each species as its example."""
    (folder,) = home.glob("models/irismodel/v1-*/mlflow_model")
    document = yaml.safe_load((folder / "MLmodel").read_text("utf-8"))
    example = folder / document["saved_input_example_info"]["artifact_path"]

    inputs = json.loads(document["signature"]["inputs"])
    assert [(column["name"], column["type"]) for column in inputs] == [
        (feature, "double") for feature in FEATURES
    ]
    assert json.loads(document["signature"]["outputs"])[0]["tensor-spec"]["dtype"] == "str"
    assert json.loads(example.read_text("utf-8")) == {
        "columns": list(FEATURES),
        "data": [[5.1, 3.5, 1.4, 0.2], [7.0, 3.2, 4.7, 1.4], [6.3, 3.3, 6.0, 2.5]],
    }


def test_without_promotion(tracking: Tracking, client: mlflow.MlflowClient, tmp_path: Path) -> None:
    """With --no-promote, another name and another estimator, nothing is promoted."""
    done = warm.train(
        tmp_path,
        *("--estimator", "bayes", "--name", "Unpromoted", "--no-promote"),
        env=tracking.env,
    )

    assert done.status == 0, done.stderr
    assert done.stdout == "models:/Unpromoted/1\n"
    version = client.get_model_version("Unpromoted", "1")
    assert version.current_stage == "None"
    assert version.aliases == []


@pytest.mark.thorough
def test_lower_accuracy(tracking: Tracking, tmp_path: Path) -> None:
    """A promotion of a version with a lower accuracy than the one before says by how much."""
    better, worse = (
        warm.train(tmp_path, "--estimator", name, "--name", "Worse", env=tracking.env)
        for name in ("discriminant", "bayes")
    )

    assert "lower than" not in better.stderr
    assert re.search(
        r"its accuracy is 0\.0\d\d lower than that of version 1, which it replaces; "
        r"to undo that, run python import_model\.py rollback\n$",
        worse.stderr,
    )


def test_without_a_server(plain_env: dict[str, str], tmp_path: Path) -> None:
    """Without a tracking server it says what import_model.py says, and leaves no file."""
    done = warm.train(tmp_path, env=plain_env)

    assert done.status == 1
    assert done.stderr == "error: MLFLOW_TRACKING_URI is not set; set it to http://HOST:5000\n"
    assert not list(Path.cwd().glob("ml*"))  # mlflow.db or mlruns


@pytest.mark.thorough
def test_experiment_outside_of_the_proxy(
    tracking: Tracking, client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    """An experiment with its own artifact location is rejected, with the fix."""
    client.create_experiment("old", artifact_location=tmp_path.as_uri())
    env = tracking.env | {"MLFLOW_EXPERIMENT_NAME": "old"}
    done = warm.train(tmp_path / "output", env=env)

    assert done.status == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == (
        f"error: experiment old keeps its artifacts at {tmp_path.as_uri()}, outside of the "
        "artifact proxy; set MLFLOW_EXPERIMENT_NAME to a new one on a server started with "
        "--serve-artifacts"
    )


@pytest.mark.thorough
def test_login_in_the_uri_is_not_shown(plain_env: dict[str, str], tmp_path: Path) -> None:
    """A login in the tracking URI is in no line, even where the server cannot be reached."""
    uri = f"http://ann:hidden%2Fword@127.0.0.1:{servers.free_port()}"
    done = warm.train(tmp_path, env=plain_env | {"MLFLOW_TRACKING_URI": uri})

    assert done.status == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "hidden" not in done.stdout + done.stderr
    assert "ann:" not in done.stderr


def test_profile_of_a_single_value() -> None:
    """Rows that are all the same have a profile that can be read again."""
    profile = TrainingProfile.of({name: np.full(3, 5.1) for name in FEATURES}, ["a", "b", "b"])

    assert TrainingProfile.model_validate_json(profile.model_dump_json()) == profile


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"shares": [0.5]}, "the shares must add up to 1"),
        ({"minimum": 2}, "the minimum must not be above the maximum"),
        ({"edges": [-1, 1]}, "the edges must be from minimum to maximum"),
        ({"edges": [0, 2]}, "the edges must be from minimum to maximum"),
    ],
)
def test_profile_rejects_nonsense(change: dict[str, Any], problem: str) -> None:
    """A profile whose numbers contradict each other is rejected."""
    feature = {"minimum": 0, "maximum": 1, "mean": 0, "deviation": 0, "edges": [0, 1]}
    content = {
        "features": {name: feature | {"shares": [1]} | change for name in FEATURES},
        "classes": {"setosa": 1},
    }

    with pytest.raises(ValueError, match=problem):
        TrainingProfile.model_validate_json(json.dumps(content))

"""Registries and clients of other versions, and artifacts in a bucket.

Each server and each client is a real one, in an environment of its own below `.compat/`, which the
first run makes with uv and later runs use again.
"""

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from support import servers, warm
from support.environments import CACHE, UV, environment

from iris_api.vetting.mlmodel import AS_SKOPS

pytestmark = [pytest.mark.compat, pytest.mark.timeout(900)]

OLD = ("2.22.5", "3.1.4")
SKLEARN = "scikit-learn==1.9.1"
SQLALCHEMY = "sqlalchemy<2.1"  # later ones lack what these servers import

LOG = """
import sys
import mlflow, mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

bunch = load_iris()
columns = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
rows = pd.DataFrame(bunch.data, columns=columns)
labels = bunch.target_names[bunch.target]
model = LogisticRegression(max_iter=1000).fit(rows, labels)
mlflow.set_experiment("iris")
client = mlflow.MlflowClient()
for name, serialization_format in zip(sys.argv[1::2], sys.argv[2::2]):
    place = {"artifact_path": "model"} if mlflow.__version__ < "3" else {"name": "model"}
    with mlflow.start_run():
        mlflow.log_metric("accuracy", 0.97)
        mlflow.sklearn.log_model(
            model,
            **place,
            registered_model_name=name,
            signature=infer_signature(rows, labels),
            serialization_format=serialization_format,
            pip_requirements=["scikit-learn"],
        )
    client.transition_model_version_stage(name, "1", "Production")
    client.set_registered_model_alias(name, "champion", "1")
"""


@contextlib.contextmanager
def _mlflow_server(
    python: Path, folder: Path, env: Mapping[str, str], artifacts: str = ""
) -> Iterator[str]:
    port = servers.free_port()
    command = [
        *(str(python), "-m", "mlflow", "server", "--serve-artifacts"),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", artifacts or str(folder / "artifacts")),
    ]
    url = f"http://127.0.0.1:{port}"
    # Its workers are found by name on the path; the processes for jobs are nine, and not needed.
    path = f"{python.parent}{os.pathsep}{env['PATH']}"
    env = {**env, "PATH": path, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with servers.running(
        command, url=url, ready="/health", log=folder / "mlflow.log", env=env, cwd=folder
    ):
        yield url


def _log(python: Path, env: Mapping[str, str], **formats: str) -> None:
    """Log and promote models of these names, each in its serialization format."""
    names = [part for pair in formats.items() for part in pair]
    subprocess.run(
        [python, "-W", "ignore", "-c", LOG, *names],
        env=env,
        check=True,
        capture_output=True,
        cwd=CACHE,
    )


@pytest.fixture(scope="module", params=OLD)
def old(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    plain_env: dict[str, str],
) -> Iterator[dict[str, str]]:
    """Run an old server, with models that the client of the same version logged."""
    python = environment(f"mlflow=={request.param}", SKLEARN, SQLALCHEMY)
    with _mlflow_server(python, tmp_path_factory.mktemp("old"), plain_env) as url:
        env = plain_env | {"MLFLOW_TRACKING_URI": url}
        _log(python, env, Iris_pickle="pickle", Iris_cloudpickle="cloudpickle")
        yield env


def _import(folder: Path, env: Mapping[str, str], *arguments: str) -> warm.Done:
    return warm.run(folder, *arguments, env={**env, "BENTOML_HOME": str(folder / "home")})


@pytest.mark.parametrize("serialization_format", ["pickle", "cloudpickle"])
def test_old_registry(old: dict[str, str], tmp_path: Path, serialization_format: str) -> None:
    """A pickle of an old client is rejected with both fixes, and imported when it is trusted."""
    name = f"Iris_{serialization_format}"
    rejected = _import(tmp_path, old, f"models:/{name}/Production")
    by_stage = _import(tmp_path, old, f"models:/{name}/Production", "--trust-pickle")
    by_alias = _import(tmp_path, old, f"models:/{name}@champion", "--trust-pickle")

    assert rejected.status == 1
    assert rejected.error == (
        f"the model is a {serialization_format}, which can run any code when it is opened; "
        'log the model again with mlflow.sklearn and serialization_format="skops" '
        "(MLflow 3.9 or later; autolog, too, writes cloudpickle unless it is given this), "
        "or import it with --trust-pickle if you trust its author"
    )
    assert by_stage.status == 0, by_stage.stderr
    assert by_stage.stdout == by_alias.stdout
    assert " is in the store already, and active\n" in by_alias.stderr
    found = warm.metadata(tmp_path / "home", by_stage.stdout)
    assert found["name"] == name
    assert found["stage"] == "Production"
    assert found["aliases"] == ["champion"]
    assert found["engine"] == "onnx"
    assert found["metrics"] == {"accuracy": 0.97}
    assert found["sklearn_version"] == "1.9.1"


@pytest.mark.parametrize("old", OLD[:1], indirect=True)
def test_older_scikit_learn(old: dict[str, str], tmp_path: Path) -> None:
    """An estimator that another scikit-learn made is rejected, even where its pickle is trusted."""
    python = environment(f"mlflow=={OLD[0]}", SKLEARN, SQLALCHEMY)
    older = tmp_path / "older"  # in front of the environment's own
    where = ["--python", str(python), "--target", str(older)]
    install = [*UV, "pip", "install", "--no-deps", *where, "scikit-learn==1.6.1"]
    subprocess.run(install, check=True)
    _log(python, old | {"PYTHONPATH": str(older)}, Iris_older="pickle")
    done = _import(tmp_path, old, "models:/Iris_older/1", "--trust-pickle")

    assert done.status == 1
    assert done.stdout == ""
    assert done.error == (
        "the model was made by scikit-learn 1.6.1 and this is 1.9.1, which may read it "
        f"wrongly; train and register it again with 1.9.1 and {AS_SKOPS}"
    )
    assert not list(tmp_path.glob("home/models/*/*"))


def test_file_that_the_server_cannot_send(tmp_path: Path, plain_env: dict[str, str]) -> None:
    """A file that breaks each connection is named, and is no reason to import again."""
    python = environment(f"mlflow=={OLD[1]}", SKLEARN, SQLALCHEMY)
    with _mlflow_server(python, tmp_path, plain_env) as url:
        env = plain_env | {"MLFLOW_TRACKING_URI": url}
        _log(python, env, Iris="pickle")
        (model,) = tmp_path.glob("artifacts/*/models/*/artifacts")
        (model / "Tribeč.txt").write_text("hills")
        done = _import(tmp_path, env, "models:/Iris@champion", "--trust-pickle")

    assert done.error.startswith("the server lists the file Tribeč.txt and cannot send it (")
    assert done.error.endswith(
        "; log and register the model again without it, or read the server's log"
    )


def test_bucket(tmp_path: Path, plain_env: dict[str, str]) -> None:
    """Artifacts in an S3 bucket come through the proxy; the import knows nothing of the bucket."""
    # Today's server with boto3 beside it, which is only the server's business; moto brings it.
    python = environment("mlflow==3.17.2", SKLEARN, "skops", "moto[server]")
    port = servers.free_port()
    s3 = f"http://127.0.0.1:{port}"
    login = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_S3_ENDPOINT_URL": s3,
    }
    with servers.running(
        [str(python.parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)],
        url=s3,
        ready="/moto-api/data.json",
        log=tmp_path / "moto.log",
        env=plain_env,
    ):
        assert httpx.put(f"{s3}/iris").is_success
        with _mlflow_server(python, tmp_path, plain_env | login, "s3://iris/artifacts") as url:
            env = plain_env | {"MLFLOW_TRACKING_URI": url}
            _log(python, env, IrisModel="skops")
            done = _import(tmp_path, env, "models:/IrisModel@champion")
        keys = re.findall(r"<Key>(.*?)</Key>", httpx.get(f"{s3}/iris?list-type=2").text)

    assert done.status == 0, done.stderr
    assert warm.metadata(tmp_path / "home", done.stdout)["engine"] == "onnx"
    assert [key for key in keys if key.endswith("/model.skops")]
    assert all(key.startswith("artifacts/") for key in keys)

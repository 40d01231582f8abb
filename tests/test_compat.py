"""Registries and clients of other versions, and artifacts in a bucket.

Each server and each client is a real one, in an environment of its own below `.compat/`, which the
first run makes with uv and later runs use again.
"""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import servers
import yaml

pytestmark = [pytest.mark.compat, pytest.mark.timeout(900)]

CACHE = servers.ROOT / ".compat"
OLD = ("2.22.5", "3.1.4")
SKLEARN = "scikit-learn==1.9.1"
OLDER_SKLEARN = "scikit-learn==1.6.1"
SQLALCHEMY = "sqlalchemy<2.1"  # later ones lack what these servers import

LOG = """
import sys
import mlflow, mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

name, serialization_format = sys.argv[1:]
bunch = load_iris()
columns = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
rows = pd.DataFrame(bunch.data, columns=columns)
labels = bunch.target_names[bunch.target]
model = LogisticRegression(max_iter=1000).fit(rows, labels)
mlflow.set_experiment("iris")
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
client = mlflow.MlflowClient()
client.transition_model_version_stage(name, "1", "Production")
client.set_registered_model_alias(name, "champion", "1")
"""


def _environment(*requirements: str) -> Path:
    """Make an environment, or find the one of an earlier run, and return its Python."""
    folder = CACHE / re.sub(r"[^a-z0-9.]+", "-", "_".join(requirements))
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        uv = [sys.executable, "-m", "uv", "--quiet"]
        subprocess.run([*uv, "venv", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run([*uv, "pip", "install", "--python", python, *requirements], check=True)
        (folder / ".installed").touch()
    return python


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
    # Its workers are found by name on the path.
    env = {**env, "PATH": f"{python.parent}{os.pathsep}{env['PATH']}"}
    with servers.running(
        command, url=url, ready="/health", log=folder / "mlflow.log", env=env, cwd=folder
    ):
        yield url


def _log(python: Path, name: str, serialization_format: str, env: Mapping[str, str]) -> None:
    subprocess.run(
        [python, "-W", "ignore", "-c", LOG, name, serialization_format],
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
    python = _environment(f"mlflow=={request.param}", SKLEARN, SQLALCHEMY)
    with _mlflow_server(python, tmp_path_factory.mktemp("old"), plain_env) as url:
        env = plain_env | {"MLFLOW_TRACKING_URI": url}
        for serialization_format in ("pickle", "cloudpickle"):
            _log(python, f"Iris-{serialization_format}", serialization_format, env)
        yield env


def _import(home: Path, env: Mapping[str, str], *arguments: str) -> "CompletedProcess[str]":
    return servers.run("import_model.py", *arguments, env={**env, "BENTOML_HOME": str(home)})


def _metadata(home: Path, tag: str) -> dict[str, Any]:
    path = home / "models" / tag.strip().replace(":", "/") / "model.yaml"
    found: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))["metadata"]
    return found


@pytest.mark.parametrize("serialization_format", ["pickle", "cloudpickle"])
def test_old_registry(old: dict[str, str], tmp_path: Path, serialization_format: str) -> None:
    """A pickle of an old client is refused with both mends, and imported when it is trusted."""
    name = f"Iris-{serialization_format}"
    refused = _import(tmp_path, old, f"models:/{name}/Production")
    by_stage = _import(tmp_path, old, f"models:/{name}/Production", "--trust-pickle")
    by_alias = _import(tmp_path, old, f"models:/{name}@champion", "--trust-pickle")

    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        f"error: the model is a {serialization_format}, which can run any code when it is opened; "
        'log the model again with mlflow.sklearn and serialization_format="skops", '
        "or import it with --trust-pickle if you trust its author"
    )
    assert by_stage.returncode == 0, by_stage.stderr
    assert by_stage.stdout == by_alias.stdout
    assert by_alias.stderr.endswith(" is in the store already\n")
    found = _metadata(tmp_path, by_stage.stdout)
    assert found["name"] == name
    assert found["stage"] == "Production"
    assert found["aliases"] == ["champion"]
    assert found["engine"] == "onnx"
    assert found["metrics"] == {"accuracy": 0.97}
    assert found["sklearn_version"] == "1.9.1"


def test_older_scikit_learn(old: dict[str, str], tmp_path: Path) -> None:
    """An estimator that another scikit-learn made is refused, even where its pickle is trusted."""
    python = _environment("mlflow==2.22.5", OLDER_SKLEARN, SQLALCHEMY)
    _log(python, "Iris-older", "pickle", old)
    done = _import(tmp_path, old, "models:/Iris-older/1", "--trust-pickle")

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == (
        "error: the model was made by scikit-learn 1.6.1 and this is 1.9.1, which may read it "
        "wrongly; train and register it again with 1.9.1"
    )
    assert not list(tmp_path.glob("models/*/*"))


def test_bucket(tmp_path: Path, plain_env: dict[str, str]) -> None:
    """Artifacts in an S3 bucket come through the proxy; the import knows nothing of the bucket."""
    moto = _environment("moto[server]")
    # Today's server with boto3 beside it, which is only the server's business.
    mlflow = _environment("mlflow==3.17.2", SKLEARN, "skops", "boto3")
    port = servers.free_port()
    bucket = f"http://127.0.0.1:{port}"
    login = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_S3_ENDPOINT_URL": bucket,
    }
    make = (
        "import boto3, sys;"
        "boto3.client('s3', endpoint_url=sys.argv[1]).create_bucket(Bucket='iris')"
    )
    listing = (
        "import boto3, sys; s3 = boto3.client('s3', endpoint_url=sys.argv[1]);"
        "print(*[found['Key'] for found in s3.list_objects_v2(Bucket='iris')['Contents']])"
    )
    with (
        servers.running(
            [str(moto.parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)],
            url=bucket,
            ready="/moto-api/data.json",
            log=tmp_path / "moto.log",
            env=plain_env,
        ),
        contextlib.ExitStack() as stack,
    ):
        subprocess.run([mlflow, "-c", make, bucket], env=plain_env | login, check=True)
        url = stack.enter_context(
            _mlflow_server(mlflow, tmp_path, plain_env | login, "s3://iris/artifacts")
        )
        env = plain_env | {"MLFLOW_TRACKING_URI": url}
        _log(mlflow, "IrisModel", "skops", env)
        done = _import(tmp_path / "home", env, "models:/IrisModel@champion")
        keys = subprocess.run(
            [mlflow, "-c", listing, bucket],
            env=plain_env | login,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    assert done.returncode == 0, done.stderr
    assert _metadata(tmp_path / "home", done.stdout)["engine"] == "onnx"
    assert "model.skops" in keys
    assert keys.startswith("artifacts/")

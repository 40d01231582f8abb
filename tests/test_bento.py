"""The Bento answers as the source tree does, and carries its model and no secret."""

import contextlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
import yaml
from conftest import Tracking
from support import servers

from iris_api.bentoml_server.image import UV

SECRET = "f5a1c0de-of-nobody"
LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
BODY = {"instances": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5]]}


@pytest.fixture(scope="module")
def bento_home(
    home: Path, plain_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Build the Bento, and return the home with it."""
    folder = tmp_path_factory.mktemp("bento")
    shutil.copytree(home / "models", folder / "models")
    env = plain_env | {"BENTOML_HOME": str(folder)} | dict.fromkeys(LOGIN, SECRET)
    done = servers.run("-m", "bentoml", "build", env=env)
    assert done.returncode == 0, done.stderr
    return folder


def _serving(
    folder: Path, env: Mapping[str, str]
) -> contextlib.AbstractContextManager[servers.Server]:
    """Serve the Bento from a folder that has nothing else."""
    return servers.bentoml_service(folder / "log", env=env, target="iris_api:latest", cwd=folder)


def _answers(url: str) -> list[str]:
    model = httpx.get(f"{url}/model").json()
    # Where the entry was found is all that differs, and what is known of a registry with that.
    assert model.pop("origin") in {"bento", "store"}
    model.pop("registry", None)
    return [
        httpx.post(f"{url}/predict", json=BODY).text,
        httpx.post(f"{url}/predict_proba", json=BODY).text,
        httpx.get(f"{url}/health").text,
        json.dumps(model),
        httpx.get(f"{url}/docs.json").text,
        httpx.get(f"{url}/").text,
        httpx.get(f"{url}/page/page.js").text,
    ]


def test_same_answers_elsewhere(
    service: servers.Server, bento_home: Path, plain_env: dict[str, str], tmp_path: Path
) -> None:
    """Exported, imported into an empty home and served by its tag, the Bento answers the same."""
    file = str(tmp_path / "iris_api.bento")
    env = plain_env | {"BENTOML_HOME": str(tmp_path / "other")}
    for command, home in (("export", bento_home), ("import", tmp_path / "other")):
        arguments = ["iris_api:latest", file] if command == "export" else [file]
        done = servers.run(
            "-m", "bentoml", command, *arguments, env=env | {"BENTOML_HOME": str(home)}
        )
        assert done.returncode == 0, done.stderr
    with _serving(tmp_path, env) as server:
        found = _answers(server.url)

    assert found == _answers(service.url)


@pytest.mark.thorough
def test_model_in_the_bento(bento_home: Path, plain_env: dict[str, str], tmp_path: Path) -> None:
    """A Bento with its model inside it, as in an image, needs no model store."""
    (built,) = (path.parent for path in bento_home.glob("bentos/iris_api/*/bento.yaml"))
    bento = shutil.copytree(built, tmp_path / "bento")
    shutil.copytree(bento_home / "models", bento / "models")
    env = plain_env | {"BENTOML_HOME": str(tmp_path / "other")}
    with servers.bentoml_service(tmp_path / "log", env=env, target=str(bento)) as server:
        model = httpx.get(f"{server.url}/model").json()

    assert model["origin"] == "bento"


@pytest.mark.thorough
def test_pointed_at_a_registry(
    tracking: Tracking, bento_home: Path, plain_env: dict[str, str], tmp_path: Path
) -> None:
    """With MLFLOW_TRACKING_URI the registry's version is imported before the service starts."""
    env = plain_env | {
        "BENTOML_HOME": str(bento_home),
        "MLFLOW_TRACKING_URI": tracking.url,
        "IRIS_MODEL_URI": "models:/IrisModel/1",
    }
    with _serving(tmp_path, env) as server:
        model = httpx.get(f"{server.url}/model").json()
        log = server.log.read_text("utf-8")

    assert "importing models:/IrisModel/1" in log
    assert model["origin"] == "store"
    assert model["registry"]["version"] == 1
    assert model["registry"]["error"] is None


@pytest.mark.thorough
def test_registry_that_is_down(bento_home: Path, plain_env: dict[str, str], tmp_path: Path) -> None:
    """If the registry does not answer, the service starts with its own model, and logs why."""
    address = f"http://127.0.0.1:{servers.free_port()}"
    env = plain_env | {"BENTOML_HOME": str(bento_home), "MLFLOW_TRACKING_URI": address}
    with _serving(tmp_path, env) as server:
        answer = httpx.post(f"{server.url}/predict", json=BODY)
        model = httpx.get(f"{server.url}/model").json()
        log = server.log.read_text("utf-8")

    assert answer.json() == {"predictions": ["setosa", "versicolor"]}
    lines = [json.loads(line) for line in log.splitlines()]
    why, what = [line["message"] for line in lines if line["level"] == "error"]
    assert why.startswith(f"error: {address} refuses the connection")
    assert what.startswith("the import failed, as said above; serving the model")
    assert f"{address} refuses the connection" in model["registry"]["error"]


def test_no_secret_in_the_bento(bento_home: Path) -> None:
    """A login in the environment of the build is in no file of the Bento."""
    files = [path for path in (bento_home / "bentos").rglob("*") if path.is_file()]

    assert len(files) > 20
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_pinned_model(bento_home: Path) -> None:
    """The Bento names the version that was active when it was built, and its lock is ours."""
    (file,) = bento_home.glob("bentos/iris_api/*/bento.yaml")
    models = yaml.safe_load(file.read_text("utf-8"))["models"]

    (entry,) = (bento_home / "models/irismodel").glob("v1-*")
    assert [model["tag"] for model in models] == [f"irismodel:{entry.name}"]
    packed = (file.parent / "env/python/requirements.txt").read_text("utf-8")
    pins = [line for line in packed.splitlines() if "==" in line]
    lock = (servers.ROOT / "requirements.txt").read_text("utf-8").splitlines()
    ours = [line.replace(" ;", ";") for line in lock if "==" in line and not line.startswith(" ")]
    assert sorted(set(pins)) == sorted({line.replace("'", '"') for line in ours})


def test_image_has_the_locked_uv() -> None:
    """The uv that installs the packages of an image has the version in the lock."""
    (locked,) = re.findall(
        r"^uv==.*", (servers.ROOT / "requirements-dev.txt").read_text(), re.MULTILINE
    )

    assert f'"$tools" {locked}\n' in UV

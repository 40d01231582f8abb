"""The first command of a newcomer: everything up, Ctrl-C, everything down."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import mlflow
import psutil
import pytest
from conftest import Tracking
from support import servers

from iris_api.settings import settings

START_SECONDS = 240


def _is_up(log: Path) -> bool:
    return "Ctrl-C" in log.read_text("utf-8")


@contextlib.contextmanager
def _quickstart(folder: Path, env: dict[str, str], log: Path) -> Iterator[servers.Server]:
    port = servers.free_port()
    env = env | {"IRIS_PORT": str(port)}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "quickstart.py"], cwd=folder, env=env, stdout=out, stderr=out
        )
    try:
        servers.wait_for(lambda: process.poll() is not None or _is_up(log), START_SECONDS)
        assert _is_up(log), log.read_text("utf-8")
        yield servers.Server(f"http://127.0.0.1:{port}", log, process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


@pytest.mark.thorough
def test_up_and_down(clone: Path, plain_env: dict[str, str], tmp_path: Path) -> None:
    """All steps are printed, the pasted curl line works, and Ctrl-C ends only what was started.

    The registry survives: the second time nothing is trained.
    """
    port = servers.free_port()
    env = plain_env | {"BENTOML_HOME": str(tmp_path / "bentoml"), "IRIS_MLFLOW_PORT": str(port)}
    with _quickstart(clone, env, tmp_path / "first.log") as first:
        shown = first.log.read_text("utf-8")
        curl = re.search(r"curl.*?\n\n", shown, re.DOTALL)
        assert curl
        pasted = subprocess.run(
            ["bash", "-c", curl[0]], capture_output=True, text=True, check=True, timeout=30
        )
        model = httpx.get(f"{first.url}/model")
        children = psutil.Process(first.process.pid).children(recursive=True)
        with subprocess.Popen(["sleep", "60"]) as bystander:
            first.process.send_signal(signal.SIGINT)
            first.process.wait(60)
            spared = bystander.poll() is None
            bystander.kill()
    with _quickstart(clone, env, tmp_path / "second.log") as second:
        again = httpx.get(f"{second.url}/model").json()

    assert pasted.stdout == '{"predictions":["setosa"]}'
    assert model.text.startswith('{"name":"IrisModel","stage":"Production","version":1')
    for url in (first.url, f"{first.url}/metrics", f"http://127.0.0.1:{port}"):
        assert f"{url}\n" in shown
    assert [line for line in shown.splitlines() if line.startswith("==>")] == [
        f"==> starting an MLflow server on port {port}, with its data in .quickstart/",
        "==> training IrisModel, because the registry has none",
        "==> importing models:/IrisModel@champion into the BentoML model store",
        f"==> serving {model.json()['tag']} on port {httpx.URL(first.url).port}",
    ]
    assert first.process.returncode == 0
    assert first.log.read_text("utf-8").endswith("everything that was started here has stopped\n")
    assert "Traceback" not in first.log.read_text("utf-8")
    assert len(children) > 3
    assert not [child for child in children if child.is_running()]
    assert spared
    assert (again["version"], again["digest"]) == (1, model.json()["digest"])
    assert "training" not in second.log.read_text("utf-8")


@pytest.mark.parametrize("variable", ["IRIS_PORT", "IRIS_MLFLOW_PORT"])
def test_taken_port(plain_env: dict[str, str], tmp_path: Path, variable: str) -> None:
    """A taken port is one line that names the port and the variable."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {name: str(servers.free_port()) for name in ("IRIS_PORT", "IRIS_MLFLOW_PORT")}
        env = plain_env | ports | {variable: str(port), "BENTOML_HOME": str(tmp_path)}
        done = servers.run("quickstart.py", env=env)

    assert done.returncode == 1
    assert done.stderr == (
        f"error: port {port} is taken; choose another one with {variable}=PORT\n"
    )


def test_port_that_is_no_port(plain_env: dict[str, str]) -> None:
    """A variable that is no port is one line that names it."""
    done = servers.run("quickstart.py", env=plain_env | {"IRIS_PORT": "http"})

    assert done.returncode == 1
    assert done.stderr.startswith("error: IRIS_PORT: ")
    assert done.stderr.count("\n") == 1


def test_port_of_a_service_named_iris(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The address that Kubernetes sets beside a Service named iris is no port, and is ignored."""
    monkeypatch.setenv("IRIS_PORT", "tcp://10.0.0.1:80")
    found = settings.__wrapped__()

    assert found.port == 8000
    assert caplog.messages == [
        "IRIS_PORT=tcp://10.0.0.1:80 is of a service named iris; ignoring it"
    ]


@pytest.mark.thorough
def test_server_that_is_there(
    clone: Path, tracking: Tracking, plain_env: dict[str, str], tmp_path: Path
) -> None:
    """With MLFLOW_TRACKING_URI set, that server is used; what is promoted there is served."""
    client = mlflow.MlflowClient(tracking.url)
    client.copy_model_version("models:/IrisModel/1", "Quickstart")
    client.copy_model_version("models:/IrisModel/1", "Quickstart")
    client.transition_model_version_stage("Quickstart", "1", "Production")
    env = plain_env | {
        "BENTOML_HOME": str(tmp_path / "bentoml"),
        "MLFLOW_TRACKING_URI": tracking.url,
        "IRIS_MODEL_URI": "models:/Quickstart/Production",
    }
    with _quickstart(clone, env, tmp_path / "log") as quickstart:
        shown = quickstart.log.read_text("utf-8")
        url = f"{quickstart.url}/model"
        model = httpx.get(url).json()
        client.transition_model_version_stage(
            "Quickstart", "2", "Production", archive_existing_versions=True
        )
        servers.wait_for(lambda: httpx.get(url).json()["version"] == 2, 60)

    assert model["version"] == 1
    assert model["tracking_uri"] == env["MLFLOW_TRACKING_URI"]
    assert "==> the MLflow server of MLFLOW_TRACKING_URI is used" in shown
    assert not (clone / ".quickstart").exists()

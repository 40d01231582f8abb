"""The folder that the workers share their metrics in: whose it is, and its loss."""

import shutil
from pathlib import Path

import httpx
import pytest
import servers
from scrape import scrape

ROW = {"instances": [[5.1, 3.5, 1.4, 0.2]]}


@pytest.fixture
def env(home: Path, plain_env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Give a store of its own."""
    return plain_env | {"BENTOML_HOME": str(servers.copy_store(home, tmp_path / "home"))}


def test_second_start(env: dict[str, str], tmp_path: Path) -> None:
    """A service that finds its port in use leaves the one that has it what it counted."""
    with servers.bentoml_service(tmp_path / "log", env=env) as first:
        for _ in range(3):
            httpx.post(f"{first.url}/predict", json=ROW)
        before = scrape(first.url)
        port = str(httpx.URL(first.url).port)
        second = servers.run(
            *("-m", "bentoml", "serve", "service:IrisClassifier"),
            *("--host", "127.0.0.1", "--port", port),
            env=env,
        )
        httpx.post(f"{first.url}/predict", json=ROW)
        after = scrape(first.url)

    assert second.returncode != 0
    assert "Address already in use" in second.stdout + second.stderr
    for name in ("iris_predictions_total", "bentoml_service_request_duration_seconds_count"):
        of = {"endpoint": "/predict"} if name.startswith("bentoml") else {}
        assert before.value(name, **of) == 3
        assert after.value(name, **of) == 4


def test_folders_of_ended_services(env: dict[str, str], tmp_path: Path) -> None:
    """What a service counted stays until the next start, and no longer."""
    with servers.bentoml_service(tmp_path / "log", env=env):
        pass
    former = servers.metrics_folder(Path(env["BENTOML_HOME"]))
    left = list(former.glob("*.db"))
    with servers.bentoml_service(tmp_path / "log", env=env):
        own = servers.metrics_folder(Path(env["BENTOML_HOME"]))

    assert left
    assert own != former


def _promote_again(env: dict[str, str]) -> None:
    """Have the service load the active version anew, as after its promotion."""
    (pointer,) = Path(env["BENTOML_HOME"]).glob("models/irismodel/latest")
    pointer.touch()


def test_lost_folder(env: dict[str, str], tmp_path: Path) -> None:
    """Without the folder predictions and promotions go on, and a new worker makes another one."""
    env |= {"IRIS_RELOAD_SECONDS": "0.1"}
    with servers.bentoml_service(tmp_path / "log", env=env) as server:
        folder = servers.metrics_folder(Path(env["BENTOML_HOME"]))
        shutil.rmtree(folder)
        # The long ones are counted in their own thread, before they are answered.
        answers = [
            httpx.post(f"{server.url}/predict", json={"instances": ROW["instances"] * rows})
            for rows in (1, 20_000, 1, 20_000)
        ]
        page = httpx.get(f"{server.url}/metrics")
        _promote_again(env)
        servers.wait_for(lambda: " answers instead of " in server.log.read_text())
        said = server.log.read_text()
        (worker,) = servers.workers(server)
        worker.kill()
        servers.wait_for(lambda: server.log.read_text().count("Completed async startup") == 2)
        httpx.post(f"{server.url}/predict", json=ROW)
        after = scrape(server.url)

    assert [answer.status_code for answer in answers] == [200] * 4
    assert page.status_code == 503
    assert page.json() == {"error": "Service Unavailable"}
    assert said.count(f"the metrics are lost: {folder} is gone; start anew") == 1
    assert said.count("/metrics does not tell of version 1: [Errno 2]") == 1
    assert "not activated" not in said
    assert "Traceback" not in said
    assert '"exception"' not in said
    assert after.value("iris_predictions_total") == 1
    assert server.process.returncode == 0

"""The folder that the workers share their metrics in: whose it is, and its loss."""

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

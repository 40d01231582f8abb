"""The files of the workers' metrics: their folder, its loss, and a full disk."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support import servers
from support.programs import lacks
from support.scrape import scrape

from iris_api.telemetry.worker_files import RESERVED_BYTES

CALLS = ("/predict", "/predict_proba")
ROW = {"instances": [[5.1, 3.5, 1.4, 0.2]]}


@pytest.fixture
def env(home: Path, plain_env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Return the environment of a service of this test's own."""
    return plain_env | {"BENTOML_HOME": str(servers.copy_store(home, tmp_path / "home"))}


def _promote_again(env: dict[str, str]) -> None:
    """Have the service load the active version again, as after a new import of it."""
    (pointer,) = Path(env["BENTOML_HOME"]).glob("models/irismodel/latest")
    (info,) = pointer.parent.glob("*/model.yaml")
    changed = re.sub("estimator: .*", "estimator: Another", info.read_text("utf-8"))
    info.write_text(changed, "utf-8")
    pointer.touch()


@pytest.mark.thorough
def test_second_start(env: dict[str, str], tmp_path: Path) -> None:
    """A second service whose port is in use does not change the metrics of the first."""
    with servers.bentoml_service(tmp_path / "log", env=env) as first:
        for _ in range(3):
            httpx.post(f"{first.url}/predict", json=ROW)
        before = scrape(first.url)
        target = ("service:IrisClassifier", "--host", "127.0.0.1")
        port = str(httpx.URL(first.url).port)
        second = servers.run("-m", "bentoml", "serve", *target, "--port", port, env=env)
        httpx.post(f"{first.url}/predict", json=ROW)
        after = scrape(first.url)

    assert second.returncode != 0
    assert "Address already in use" in second.stdout + second.stderr
    for name in ("iris_predictions_total", "bentoml_service_request_duration_seconds_count"):
        of = {"endpoint": "/predict"} if name.startswith("bentoml") else {}
        assert before.value(name, **of) == 3
        assert after.value(name, **of) == 4


@pytest.mark.thorough
def test_folders_of_ended_services(env: dict[str, str], tmp_path: Path) -> None:
    """The metrics of an ended service stay until the next start."""
    with servers.bentoml_service(tmp_path / "log", env=env):
        pass
    former = servers.metrics_folder(Path(env["BENTOML_HOME"]))
    left = list(former.glob("*.db"))
    with servers.bentoml_service(tmp_path / "log", env=env):
        own = servers.metrics_folder(Path(env["BENTOML_HOME"]))

    assert left
    assert own != former


@pytest.mark.thorough
def test_lost_folder(env: dict[str, str], tmp_path: Path) -> None:
    """Without the folder predictions and promotions go on, and a new worker creates it."""
    env |= {"IRIS_RELOAD_SECONDS": "0.1"}
    with servers.bentoml_service(tmp_path / "log", env=env) as server:
        folder = servers.metrics_folder(Path(env["BENTOML_HOME"]))
        shutil.rmtree(folder)
        # Long bodies are counted in their own thread, before they are answered.
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
        servers.wait_for_starts(server, 2)
        httpx.post(f"{server.url}/predict", json=ROW)
        after = scrape(server.url)

    assert [answer.status_code for answer in answers] == [200] * 4
    assert page.status_code == 503
    assert page.json() == {"error": "Service Unavailable"}
    assert said.count(f"the metrics are lost: {folder} is gone; restart the service") == 1
    assert said.count("/metrics does not show version 1: [Errno 2]") == 1
    assert "not activated" not in said
    assert "Traceback" not in said
    assert '"exception"' not in said
    assert after.value("iris_predictions_total") == 1
    assert server.process.returncode == 0


@pytest.fixture
def small_disk(env: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """Put the store on a disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        lacks("this user may not mount a file system")
    try:
        env["BENTOML_HOME"] = str(servers.copy_store(Path(env["BENTOML_HOME"]), folder / "home"))
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(disk: Path, *, left: int) -> None:
    """Fill a disk, except for some bytes."""
    with (disk / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - left)


@pytest.mark.thorough
def test_disk_fills_up(env: dict[str, str], small_disk: Path, tmp_path: Path) -> None:
    """When the disk is full, a worker answers, counts, and loads a promoted version."""
    env |= {"IRIS_RELOAD_SECONDS": "0.1"}
    with servers.bentoml_service(tmp_path / "log", env=env) as server:
        files = list(servers.metrics_folder(Path(env["BENTOML_HOME"])).glob("*.db"))
        reserved = [(path.name, path.stat().st_blocks * 512) for path in files]
        _fill(small_disk, left=0)
        first = [httpx.post(f"{server.url}{path}", json=ROW) for path in CALLS]
        httpx.get(f"{server.url}/nowhere")
        _promote_again(env)
        servers.wait_for(lambda: " answers instead of " in server.log.read_text())
        second = [httpx.post(f"{server.url}{path}", json=ROW) for path in CALLS]
        page = scrape(server.url)

    assert len(reserved) == len(files) == 4
    assert min(size for _, size in reserved) >= RESERVED_BYTES
    assert [answer.status_code for answer in first + second] == [200] * 4
    assert page.value("iris_predictions_total") == 4
    assert page.value("bentoml_service_request_in_progress", endpoint="/predict") == 0
    log = server.log.read_text()
    assert "a worker died" not in log
    assert "not activated" not in log
    assert log.count("/metrics does not show version 1: [Errno 28]") == 1


def test_start_on_a_full_disk(env: dict[str, str], small_disk: Path) -> None:
    """A worker without space for its metrics ends with a line that says why, not by a signal."""
    # Where the first dead worker ends the service.
    env |= {"BENTOML_CONTAINERIZED": "true", "IRIS_WORKERS": "1"}
    _fill(small_disk, left=2 * RESERVED_BYTES)
    said = servers.fails_to_start(env=env)

    folder = servers.metrics_folder(Path(env["BENTOML_HOME"]))
    assert (
        f"{folder}: No space left on device; free some space, or set BENTOML_HOME to another folder"
    ) in said
    assert '"exception"' not in said

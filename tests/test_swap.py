"""The hot swap: a version is activated while the service answers, and no request is lost."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest
from conftest import Tracking
from sklearn.linear_model import LogisticRegression
from support import registered, servers, warm
from support.scrape import scrape

from benchmarks.traffic import Ask, asking
from iris_api.home import lock
from iris_api.vetting.training_profile import FILE_NAME, TrainingProfile

NAME = "Rivals"
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5], [6.5, 3.0, 5.8, 2.2]]
EXPECTED = {
    "1": ["setosa", "versicolor", "virginica"],
    "2": ["versicolor", "virginica", "setosa"],
}
"""The labels of the rows by version; version 2 was trained with the next species' name."""

URI = f"models:/{NAME}@champion"

RETRY_SOON = """
import sys
from importlib.machinery import PathFinder
class Soon:
    @staticmethod
    def find_spec(name, path, target=None):
        if name != "iris_api.serving.hot_swap": return None
        spec = PathFinder.find_spec(name, path)
        load = spec.loader.exec_module
        def execute(module):
            load(module)
            module.RETRY_SECONDS = 0.5
        spec.loader.exec_module = execute
        return spec
sys.meta_path.insert(0, Soon)
"""
"""A sitecustomize that shortens the minute between two attempts to load a version."""


@dataclass(frozen=True)
class Rivals:
    """Two registered versions that disagree on every row, both imported, the first one active."""

    client: mlflow.MlflowClient
    env: dict[str, str]  # of an import
    home: Path
    plain: dict[str, str]  # the environment of a service, without a tracking server

    def promote(self, version: int) -> None:
        """Move the alias and import the version, as a watch does."""
        self.client.set_registered_model_alias(NAME, "champion", str(version))
        done = warm.run(self.home.parent, env=self.env | {"BENTOML_HOME": str(self.home)})
        assert done.status == 0, done.stderr

    def entry(self, version: int) -> Path:
        """Return the folder of a version in the store."""
        (found,) = (self.home / "models/rivals").glob(f"v{version}-*")
        return found

    def point(self, **files: str | bytes) -> None:
        """Replace the files `previous` and `latest`, as an activation does."""
        for name, content in sorted(files.items(), reverse=True):
            written = self.home / name
            written.write_bytes(content if isinstance(content, bytes) else content.encode())
            written.replace(self.home / "models/rivals" / name)

    @contextlib.contextmanager
    def served(self, **env: str) -> Iterator[servers.Server]:
        """Run a service, which knows no tracking server."""
        env = self.plain | {"BENTOML_HOME": str(self.home), "IRIS_MODEL_URI": URI} | env
        with servers.bentoml_service(self.home.parent / "log", env=env) as server:
            yield server


@pytest.fixture(scope="module")
def origin(
    tracking: Tracking, plain_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Rivals:
    """Register and import both versions."""
    client = registered.use(tracking.url)
    folder = tmp_path_factory.mktemp("rivals")
    bunch = registered.IRIS
    for shift in (0, 1):
        labels = bunch.target_names[(bunch.target + shift) % 3]
        profile = folder / FILE_NAME
        profile.write_text(TrainingProfile.of(registered.ROWS, labels).model_dump_json())
        registered.log(
            NAME,
            LogisticRegression(max_iter=1000),
            labels=labels,
            extra_files=None if shift else [str(profile)],
        )
    rivals = Rivals(client, tracking.env | {"IRIS_MODEL_URI": URI}, folder / "home", plain_env)
    rivals.promote(2)
    rivals.promote(1)
    return rivals


@pytest.fixture
def rivals(origin: Rivals, tmp_path: Path) -> Rivals:
    """Give each test a store of its own."""
    origin.client.set_registered_model_alias(NAME, "champion", "1")
    return replace(origin, home=servers.copy_store(origin.home, tmp_path / "home"))


@contextlib.contextmanager
def _polling(rivals: Rivals) -> Iterator[servers.Server]:
    with rivals.served(IRIS_RELOAD_SECONDS="0.2", IRIS_WORKERS="2") as server:
        servers.wait_for(lambda: _started(server) == 2)
        yield server


@pytest.fixture
def service(rivals: Rivals) -> Iterator[servers.Server]:
    """Run a service with two workers that poll often."""
    with _polling(rivals) as server:
        yield server


@pytest.fixture(scope="module")
def shared(
    origin: Rivals, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Rivals, servers.Server]]:
    """Run the same service for tests that break nothing."""
    home = servers.copy_store(origin.home, tmp_path_factory.mktemp("shared") / "home")
    rivals = replace(origin, home=home)
    with _polling(rivals) as server:
        yield rivals, server


def _started(server: servers.Server) -> int:
    """Return the number of workers that started, the killed ones included."""
    return server.log.read_text().count("Service iris_api initialized")


def _version(server: servers.Server) -> int:
    """Request the version on a new connection, which any worker may take."""
    return int(httpx.get(f"{server.url}/model").json()["version"])


def _all_answer_with(server: servers.Server, version: int) -> Callable[[], bool]:
    # 20 new connections miss one of two workers once in a million times.
    return lambda: all(_version(server) == version for _ in range(20))


def test_metrics_of_a_swap(shared: tuple[Rivals, servers.Server]) -> None:
    """The former version keeps its counts and loses its gauges; one without a profile has none."""
    rivals, service = shared
    body = {"instances": ROWS}
    first = httpx.post(f"{service.url}/predict", json=body)
    before = scrape(service.url)
    rivals.promote(2)
    servers.wait_for(_all_answer_with(service, 2))
    second = httpx.post(f"{service.url}/predict", json=body)
    after = scrape(service.url)

    assert first.headers["X-Model-Version"] == "1"
    assert second.headers["X-Model-Version"] == "2"
    assert before.value("iris_model_info", model_version="1") == 1
    assert before.value("iris_label_expected_ratio", model_version="1") == pytest.approx(1)
    assert before.value("iris_model_reloads_total") == 0
    for version in ("1", "2"):
        for label in EXPECTED[version]:
            counted = after.value("iris_predictions_total", model_version=version, label=label)
            assert counted == 1
    assert after.labels("iris_model_info", "model_version") == {"2"}
    assert after.labels("iris_model_loaded_timestamp_seconds", "model_version") == {"2"}
    assert after.labels("iris_feature_rows_total", "model_version") == {"1"}
    assert after.series("iris_feature_expected_ratio") == {}
    assert after.series("iris_label_expected_ratio") == {}
    assert after.value("iris_model_reloads_total", result="success") == 2  # one for each worker


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.thorough)])
def test_promotions_under_load(shared: tuple[Rivals, servers.Server], times: int) -> None:
    """Promotions back and forth under 32 requests at once lose none and mix no two versions."""
    rivals, service = shared

    async def run() -> Any:
        async with asking(Ask(service.url, ROWS, EXPECTED), clients=32) as traffic:
            for number in range(times):
                await asyncio.to_thread(rivals.promote, 2 - number % 2)
                served = _all_answer_with(service, 2 - number % 2)
                await asyncio.to_thread(servers.wait_for, served)
        return traffic

    traffic = asyncio.run(run())

    assert traffic.wrong == []
    assert traffic.unanswered == []
    assert traffic.unconnected == traffic.closed == 0
    assert set(traffic.statuses) == {200}
    assert traffic.versions == {"1", "2"}


def test_alias_of_the_active_version(rivals: Rivals, service: servers.Server) -> None:
    """Another alias is part of GET /model, and the model that has it is not loaded again."""
    rivals.client.set_registered_model_alias(NAME, "second", "1")
    rivals.promote(1)
    servers.wait_for(
        lambda: all("second" in httpx.get(f"{service.url}/model").text for _ in range(20))
    )
    rivals.client.delete_registered_model_alias(NAME, "second")

    assert "answers instead of" not in service.log.read_text()
    assert scrape(service.url).value("iris_model_reloads_total", result="success") == 0


@pytest.mark.thorough
def test_killed_worker_comes_back_with_the_active_version(
    rivals: Rivals, service: servers.Server
) -> None:
    """A worker that starts after a promotion loads the version that is active now."""
    rivals.promote(2)
    servers.wait_for(_all_answer_with(service, 2))
    former = {worker.pid for worker in servers.workers(service)}
    servers.workers(service)[0].kill()
    servers.wait_for(
        lambda: (
            len({worker.pid for worker in servers.workers(service)} - former) == 1
            and _started(service) == 3
        )
    )

    assert _all_answer_with(service, 2)()


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("model.onnx", b"another", "model.onnx was changed after the import"),
        pytest.param("model.yaml", b"metadata: [", "cannot be read", marks=pytest.mark.thorough),
    ],
)
def test_bad_entry(
    rivals: Rivals, service: servers.Server, file: str, content: bytes, said: str
) -> None:
    """A version that is not what was imported is not loaded, and that is logged once."""
    entry = rivals.entry(2)
    (entry / file).write_bytes(content)
    rivals.point(previous=rivals.entry(1).name, latest=entry.name)
    # Once for each worker, after its failure was counted.
    servers.wait_for(lambda: service.log.read_text().count("goes on answering") == 2)

    # A worker that starts now falls back to the version of the others.
    servers.workers(service)[0].kill()
    servers.wait_for(lambda: _started(service) == 3)

    assert _all_answer_with(service, 1)()
    assert scrape(service.url).value("iris_model_reloads_total", result="failure") == 2
    health = httpx.get(f"{service.url}/health").json()
    assert health["status"] == "degraded"
    assert said in health["reason"]
    rivals.promote(1)
    servers.wait_for(lambda: httpx.get(f"{service.url}/health").json() == {"status": "ok"})
    assert service.log.read_text().count(said) == 3
    assert "answers instead of" not in service.log.read_text()


@pytest.mark.parametrize(
    "fallback", [2, pytest.param(None, marks=pytest.mark.thorough)], ids=["former", "none"]
)
def test_damage_of_the_active_version(
    rivals: Rivals, service: servers.Server, fallback: int | None
) -> None:
    """All workers answer with one version, also if one started after a damage; others say so.

    Without a former version the worker that has the active one answers all requests.
    """
    model = rivals.entry(1) / "model.onnx"
    content = model.read_bytes()
    model.write_bytes(content[:-1])
    if fallback is None:
        (rivals.home / "models/rivals/previous").unlink()
    servers.workers(service)[0].kill()
    said = "model.onnx was changed after the import"
    servers.wait_for(lambda: said in service.log.read_text())
    servers.wait_for(_all_answer_with(service, fallback or 1))

    health = httpx.get(f"{service.url}/health")
    assert health.status_code == 200
    assert health.json()["status"] == "degraded"
    assert f"{said}; run rm -r " in health.json()["reason"]
    assert httpx.get(f"{service.url}/model").json()["degraded"] == health.json()["reason"]
    page = scrape(service.url)
    assert page.value("iris_model_degraded") == 1
    assert page.labels("iris_model_info", "model_version") == {str(fallback or 1)}

    model.write_bytes(content)
    rivals.point(latest=rivals.entry(1).name)
    servers.wait_for(lambda: httpx.get(f"{service.url}/health").json() == {"status": "ok"})
    servers.wait_for(_all_answer_with(service, 1))
    page = scrape(service.url)
    assert page.value("iris_model_degraded") == 0
    assert page.labels("iris_model_info", "model_version") == {"1"}


@pytest.mark.parametrize(
    "damage",
    [
        b"\0\0",
        pytest.param(b"\xff\xfe", marks=pytest.mark.thorough),
        pytest.param(b"../../x", marks=pytest.mark.thorough),
        pytest.param(b"v9-01234567", marks=pytest.mark.thorough),
    ],
    ids=["zeros", "no text", "path", "gone"],
)
def test_damaged_pointer(rivals: Rivals, service: servers.Server, damage: bytes) -> None:
    """The loaded model goes on answering, and a new worker loads the one that was active before."""
    rivals.point(previous=rivals.entry(1).name, latest=damage)
    servers.wait_for(lambda: service.log.read_text().count("goes on answering") == 2)
    servers.workers(service)[0].kill()
    servers.wait_for(lambda: _started(service) == 3)

    assert _all_answer_with(service, 1)()
    assert (rivals.home / "models/rivals/latest").read_bytes() == damage
    rivals.promote(2)
    servers.wait_for(_all_answer_with(service, 2))
    assert (rivals.home / "models/rivals/previous").read_text() == rivals.entry(1).name


@pytest.mark.thorough
def test_previous_version_of_zeros(rivals: Rivals) -> None:
    """A service with neither a sound version nor the name of the former one starts and says why."""
    (rivals.entry(1) / "model.onnx").unlink()
    (rivals.home / "models/rivals/previous").write_bytes(b"\0\0")  # after a loss of power
    with rivals.served() as server:
        health = httpx.get(f"{server.url}/health")

    assert health.status_code == 503
    assert "model.onnx is missing" in health.json()["reason"]


@pytest.mark.thorough
def test_fault_that_passes(rivals: Rivals, tmp_path: Path) -> None:
    """A service without a model loads the former one while the active one has a fault."""
    model = rivals.entry(1) / "model.onnx"
    content = model.read_bytes()
    model.write_bytes(content[:-1])
    (rivals.home / "models").rename(tmp_path / "aside")
    (tmp_path / "sitecustomize.py").write_text(RETRY_SOON)
    said = f"rivals:{model.parent.name}: model.onnx was changed after the import"
    with rivals.served(IRIS_RELOAD_SECONDS="0.1", PYTHONPATH=str(tmp_path)) as server:
        before = httpx.get(f"{server.url}/health").json()["reason"]
        (tmp_path / "aside").rename(rivals.home / "models")
        servers.wait_for(lambda: server.log.read_text().count(said) > 1)
        reason = httpx.get(f"{server.url}/health").json()["reason"]
        model.write_bytes(content)
        former = httpx.get(f"{server.url}/model").json()["version"]
        servers.wait_for(lambda: httpx.get(f"{server.url}/health").json() == {"status": "ok"})
        tried = server.log.read_text().count(said)
        answer = httpx.post(f"{server.url}/predict", json={"instances": ROWS})
        time.sleep(1)
        page = scrape(server.url)

    assert "is not in the model store" in before
    assert former == 2
    assert answer.json() == {"predictions": EXPECTED["1"]}
    assert answer.headers["X-Model-Version"] == "1"
    assert reason.startswith(said)
    assert page.value("iris_model_reloads_total", result="failure") == tried
    assert page.value("iris_model_reloads_total", result="success") == 1


def test_two_activations_at_once(rivals: Rivals) -> None:
    """An activation that waits for another records that one's version as the previous one."""
    first, second = rivals.entry(1), rivals.entry(2)
    folder = first.parent
    script = (
        "import bentoml; from iris_api.store import active_version, entry;"
        f"first = entry.get(bentoml.Tag('rivals', '{first.name}'));"
        "changed = first.metadata.model_copy(update={'stage': 'Staging'});"
        "active_version.activate(first, changed)"
    )
    env = rivals.env | {"BENTOML_HOME": str(rivals.home)}
    with ThreadPoolExecutor(1) as pool:
        with lock(folder):
            waiting = pool.submit(servers.run, "-c", script, env=env)
            servers.wait_for(lambda: any((rivals.home / "staging").glob("*")))
            time.sleep(0.5)
            (folder / "previous").write_text(first.name)
            (folder / "latest").write_text(second.name)
        done = waiting.result()

    assert done.returncode == 0, done.stderr
    assert (folder / "latest").read_text() == first.name
    assert (folder / "previous").read_text() == second.name


@pytest.mark.thorough
def test_switched_off(rivals: Rivals) -> None:
    """With IRIS_RELOAD_SECONDS=0 a service keeps the version that it started with."""
    with rivals.served(IRIS_RELOAD_SECONDS="0") as server:
        rivals.promote(2)
        # A service that polls swaps many times in this time.
        with pytest.raises(AssertionError, match="not within"):
            servers.wait_for(lambda: _version(server) == 2, seconds=2)

    assert "answers instead of" not in server.log.read_text()

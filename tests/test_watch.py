"""The watch follows the registry through promotions, rejected versions, faults and its own end."""

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import mlflow
import psutil
import pytest
import yaml
from conftest import Tracking
from support import servers, warm
from support.proxies import FILE, Fault, Proxy, delayed, no_fault, on_files, proxy

NAME = "Watched"
URI = f"models:/{NAME}/Production"
LISTING = "/api/2.0/mlflow-artifacts/artifacts?"
"""The beginning of the path of each listing."""

POLL = "/api/2.0/mlflow/registered-models/get-latest-versions?"
"""The beginning of the path of each poll of a stage."""

GOOD = range(1, 6)
REJECTED = 6
"""The versions of the registered model; this one has no model in it."""


@dataclass(frozen=True)
class Registry:
    """A registered model with its versions, behind a proxy that can make faults."""

    proxy: Proxy
    client: mlflow.MlflowClient
    env: dict[str, str]

    def promote(self, version: int) -> None:
        """Move the stage as a person does in MLflow's page."""
        self.client.transition_model_version_stage(
            NAME, str(version), "Production", archive_existing_versions=True
        )

    def wait_for_download(self, watch: "Watch") -> psutil.Process:
        """Wait until a watch fetches a file, and return the process of its import."""
        before = self.asked(FILE)
        watch.until(lambda: self.asked(FILE) > before)
        (child,) = psutil.Process(watch.process.pid).children()
        return child

    def wait_for_polls(self, watch: "Watch", count: int = 3) -> None:
        """Wait until a watch has polled so many times more, and acted on the answers."""
        polls = self.asked(POLL)
        watch.until(lambda: self.asked(POLL) > polls + count)

    def asked(self, begin: str) -> int:
        """Count the requests so far whose path begins so."""
        return sum(path.startswith(begin) for path, _ in self.proxy.asked)


@dataclass(frozen=True)
class Watch:
    """A watch that runs: its process and where its output goes."""

    process: ForkServerProcess
    output: Path
    home: Path

    @property
    def tags(self) -> list[str]:
        """The versions of the tags on standard output."""
        lines = (self.output / "stdout").read_text().splitlines()
        return [line.removeprefix("watched:").partition("-")[0] for line in lines]

    @property
    def log(self) -> list[str]:
        """The lines on standard error."""
        return (self.output / "stderr").read_text().splitlines()

    def until(self, happened: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until something has happened, and show the log where it does not."""
        try:
            servers.wait_for(happened, seconds)
        except AssertionError:
            raise AssertionError("\n".join([*self.tags, *self.log])) from None

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int | None, float]:
        """Send a signal; return the exit status and the seconds that it took."""
        assert self.process.pid
        start = time.monotonic()
        os.kill(self.process.pid, number)
        self.process.join(30)
        return self.process.exitcode, time.monotonic() - start


Start = Callable[..., contextlib.AbstractContextManager[Watch]]
Import = Callable[[int], warm.Done]


@pytest.fixture(scope="module")
def registry(tracking: Tracking) -> Iterator[Registry]:
    """Register the trained model under another name, many times, and once something else."""
    client = mlflow.MlflowClient(tracking.url)
    for _ in GOOD:
        trained = client.copy_model_version("models:/IrisModel/1", NAME)
    assert trained.run_id
    artifacts = client.get_run(trained.run_id).info.artifact_uri
    assert artifacts
    client.create_model_version(NAME, artifacts, trained.run_id)
    with proxy(tracking.url) as between:
        yield Registry(between, client, tracking.env | {"MLFLOW_TRACKING_URI": between.url})


@pytest.fixture
def watch(registry: Registry, tmp_path: Path) -> Iterator[Start]:
    """Return a function that runs a watch of the model's production stage."""

    @contextlib.contextmanager
    def run(
        *options: str, home: Path = tmp_path / "home", uri: str = URI, **env: str
    ) -> Iterator[Watch]:
        output = tmp_path / f"output-{len(list(tmp_path.iterdir()))}"
        output.mkdir()
        env = registry.env | {"BENTOML_HOME": str(home)} | env
        process = warm.start(output, "--watch", "0.2", *options, uri, env=env)
        try:
            servers.wait_for((output / "stderr").exists)
            yield Watch(process, output, home)
        finally:
            process.kill()
            process.join()

    yield run
    registry.proxy.fault = no_fault


def _status(home: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((home / "registry" / "watched.json").read_text())
    return found


def _versions(home: Path) -> set[str]:
    return {path.parent.name.partition("-")[0] for path in home.glob("models/watched/*/model.yaml")}


def _active(home: Path) -> str:
    pointer = home / "models" / "watched" / "latest"
    return pointer.read_text().partition("-")[0] if pointer.exists() else ""


@pytest.fixture
def imported(registry: Registry, tmp_path: Path) -> Import:
    """Return a function that imports a version into the home of the watch."""
    env = registry.env | {"BENTOML_HOME": str(tmp_path / "home")}

    def run(version: int) -> warm.Done:
        done = warm.run(tmp_path / "import", f"models:/{NAME}/{version}", env=env)
        assert done.status == 0, done.stderr
        return done

    return run


@pytest.mark.thorough
def test_promotion_and_back(
    registry: Registry, imported: Import, watch: Start, tmp_path: Path
) -> None:
    """A promotion is imported and activated, and the older version again without a download."""
    imported(1)
    first = _status(tmp_path / "home")
    registry.promote(2)
    with watch() as running:
        running.until(lambda: running.tags == ["v2"])
        active, second = _active(running.home), _status(running.home)
        fetched = registry.asked(FILE)
        registry.promote(1)
        running.until(lambda: running.tags == ["v2", "v1"])
        again = _active(running.home)
        (entry,) = running.home.glob("models/watched/v1-*/model.yaml")
        before = entry.stat().st_mtime
        registry.client.set_registered_model_alias(NAME, "champion", "1")
        pointer = running.home / "models" / "watched" / "latest"
        # Activated anew, so that the service sees it.
        running.until(lambda: pointer.stat().st_mtime > entry.stat().st_mtime > before)
        status, seconds = running.end(signal.SIGINT)

    metadata = yaml.safe_load(entry.read_text())["metadata"]
    assert status == 0
    assert seconds < 1
    assert (active, again) == ("v2", "v1")
    assert registry.asked(FILE) == fetched
    assert (first["version"], second["version"]) == (1, 2)
    assert first["error"] is None
    times = [datetime.fromisoformat(str(status["checked_at"])) for status in (first, second)]
    assert datetime.now(UTC) - timedelta(seconds=120) < times[0] < times[1]
    assert (metadata["stage"], metadata["aliases"]) == ("Production", ["champion"])
    assert running.tags == ["v2", "v1"]
    assert running.log[0] == f"watching {URI}, every 0.2 s"
    assert running.log[-2:] == [f"watched:{entry.parent.name} is active again", "ended by SIGINT"]


NO_MODEL = (
    "the file MLmodel is missing or unreadable; log the model again with mlflow.sklearn.log_model"
)
NO_FILE = (
    "the server lists the file requirements.txt and cannot send it (the connection to URL "
    "broke (Remote end closed connection without response)); "
    "log and register the model again without it, or read the server's log"
)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("version", "fault", "reason"),
    [
        (REJECTED, no_fault, NO_MODEL),
        (
            2,
            on_files(lambda exchange: "requirements.txt" in exchange.path and exchange.hang_up()),
            NO_FILE,
        ),
    ],
    ids=["model", "file"],
)
def test_rejected_version(
    registry: Registry, imported: Import, watch: Start, version: int, fault: Fault, reason: str
) -> None:
    """A version that stays unusable is logged once, not tried again, and the active one stays."""
    tag = imported(1).stdout.strip()
    registry.promote(version)
    registry.proxy.fault = fault
    with watch() as running:
        running.until(lambda: bool([line for line in running.log if line.startswith("error:")]))
        before = registry.asked(LISTING)
        polls = len(registry.proxy.asked)
        running.until(lambda: len(registry.proxy.asked) > polls + 15)
        listed = registry.asked(LISTING) - before
        active = _active(running.home)
        status, _ = running.end()

    (error,) = [line for line in running.log if line.startswith("error:")]
    assert status == 0
    assert listed == 0
    assert active == "v1"
    assert running.tags == []
    assert error.replace(registry.proxy.url, "URL") == (
        f"error: version {version} is not activated: {reason}; {tag} stays active"
    )


@pytest.mark.thorough
def test_name_in_use(registry: Registry, imported: Import, watch: Start, tmp_path: Path) -> None:
    """A name that another model has in the store is logged once, until that is gone."""
    home = tmp_path / "home"
    imported(1)
    registry.promote(1)
    (entry,) = home.glob("models/watched/v1-*/model.yaml")
    entry.write_text(entry.read_text().replace(f"name: {NAME}\n", "name: WATCHED\n"))
    before = len(registry.proxy.asked)
    with watch() as running:
        running.until(lambda: "error:" in str(running.log))
        time.sleep(1)
        asked = len(registry.proxy.asked)
        shutil.rmtree(home / "models/watched")
        running.until(lambda: running.tags == ["v1"])

    (error,) = [line for line in running.log if line.startswith("error:")]
    assert asked == before
    assert error.startswith(f"error: the store has watched:{entry.parent.name} of the registered")


@pytest.mark.thorough
def test_registry_away_and_back(registry: Registry, imported: Import, watch: Start) -> None:
    """A registry that goes away and comes back is two lines, and it is polled less often."""
    imported(1)
    imported(2)
    registry.promote(2)
    # As a load balancer does that has no server behind it, so that no request is repeated.
    registry.proxy.fault = lambda exchange: exchange.answer(404, b"no such host")
    before = len(registry.proxy.asked)
    with watch() as running:
        running.until(lambda: len(registry.proxy.asked) >= before + 3)
        time.sleep(3)
        polls = len(registry.proxy.asked) - before
        away = _status(running.home)
        registry.promote(1)
        registry.proxy.fault = no_fault
        running.until(lambda: running.tags == ["v1"])
        back = _status(running.home)

    assert polls <= 8  # where it would be more than 15 without growing pauses
    assert str(away["error"]).startswith(f"{registry.proxy.url} answers HTTP 404")
    assert away["version"] == 2
    assert (back["error"], back["version"]) == (None, 1)
    assert [line.partition(":")[0] for line in running.log[1:3]] == [
        "the registry is away",
        "the registry is back",
    ]
    assert running.log[3].endswith("is active again")


@pytest.mark.thorough
def test_alias_that_is_gone_and_back(registry: Registry, imported: Import, watch: Start) -> None:
    """The end of a trouble is logged as well as its beginning, and what stays active meanwhile."""
    tag = imported(1).stdout.strip()
    uri = f"models:/{NAME}@steady"
    registry.client.set_registered_model_alias(NAME, "steady", "1")
    with watch(uri=uri) as running:
        running.until(lambda: _status(running.home)["version"] == 1)
        registry.client.delete_registered_model_alias(NAME, "steady")
        running.until(lambda: _status(running.home)["version"] is None)
        gone = _status(running.home)
        registry.client.set_registered_model_alias(NAME, "steady", "1")
        running.until(lambda: "again" in running.log[-1])
        back = _status(running.home)

    problem = (
        f"{uri} is not in the registry of {registry.proxy.url}: "
        "Registered model alias steady not found."
    )
    assert gone["problem"] == problem
    assert (gone["error"], back["problem"]) == (None, None)
    assert running.log[1:] == [
        f"error: {problem}; {tag} stays active",
        f"{uri} is version 1 again, which is active",
    ]


@pytest.mark.thorough
def test_import_by_hand_beside_a_watch(
    registry: Registry, imported: Import, watch: Start, tmp_path: Path
) -> None:
    """The same version under another name is activated neither by the import nor by the watch."""
    imported(1)
    registry.promote(1)
    registry.client.set_registered_model_alias(NAME, "steady", "1")
    with watch() as running:
        pointer = running.home / "models" / "watched" / "latest"
        registry.wait_for_polls(running)
        before = pointer.stat().st_mtime_ns
        env = registry.env | {"BENTOML_HOME": str(running.home)}
        done = warm.run(tmp_path / "import", f"models:/{NAME}@steady", env=env)
        registry.wait_for_polls(running)
        after = pointer.stat().st_mtime_ns

    assert done.status == 0, done.stderr
    assert after == before


@pytest.mark.thorough
def test_registry_that_hangs(registry: Registry, imported: Import, watch: Start) -> None:
    """A registry that accepts requests and does not answer is reported within some 15 s."""
    tag = imported(1).stdout.strip()
    registry.proxy.fault = delayed(60)
    with watch() as running:
        running.until(lambda: "the registry is away" in str(running.log), seconds=15)

    (line,) = running.log[1:]
    assert line == (
        f"the registry is away: {registry.proxy.url} did not answer in time; is it overloaded? "
        f"MLFLOW_HTTP_REQUEST_TIMEOUT sets the seconds to wait; {tag} stays active"
    )


@pytest.mark.thorough
def test_killed_import(registry: Registry, watch: Start) -> None:
    """An import that is killed is one line, and is tried again."""
    registry.promote(3)
    registry.proxy.fault = on_files(delayed(30))
    with watch() as running:
        registry.wait_for_download(running).kill()
        registry.proxy.fault = no_fault
        running.until(lambda: running.tags == ["v3"])

    (error,) = [line for line in running.log if line.startswith("error:")]
    assert error == (
        "error: version 3 is not activated yet: "
        "its process was killed by SIGKILL; is the memory full?; no version is active"
    )
    assert _active(running.home) == "v3"


@pytest.mark.thorough
def test_ended_in_an_import(registry: Registry, watch: Start) -> None:
    """A signal ends the watch and its import within a second, and the store is as it was."""
    registry.promote(4)
    registry.proxy.fault = on_files(delayed(30))
    with watch() as running:
        child = registry.wait_for_download(running)
        status, seconds = running.end()

    assert status == 0
    assert seconds < 1
    assert running.log[-1] == "ended by SIGTERM"
    assert not child.is_running()
    assert list(running.home.glob("staging/*")) == []
    assert _versions(running.home) == set()
    assert running.tags == []


def test_retention(registry: Registry, imported: Import, watch: Start, tmp_path: Path) -> None:
    """The newest stays, the active one, and the one before it; other models' are left alone."""
    home = tmp_path / "home"
    for version in (1, 2, 3, 4, 3):
        imported(version)
    env = registry.env | {"BENTOML_HOME": str(home)}
    assert warm.run(tmp_path / "import", "models:/IrisModel/1", env=env).status == 0
    registry.promote(2)
    (home / "bentos/broken/1").mkdir(parents=True)
    (home / "bentos/broken/1/bento.yaml").write_bytes(b"\xff\xfe")
    with watch(IRIS_KEEP_VERSIONS="1") as running:
        running.until(lambda: running.tags == ["v2"])
        running.until(lambda: "IRIS_KEEP_VERSIONS is 1" in str(running.log))
        status, _ = running.end()

    assert status == 0
    assert _active(home) == "v2"
    assert _versions(home) == {"v2", "v3", "v4"}
    assert len(list(home.glob("models/irismodel/v1-*/model.yaml"))) == 1
    assert sum("IRIS_KEEP_VERSIONS is 1" in line for line in running.log) == 1


@pytest.mark.thorough
def test_two_watches(registry: Registry, watch: Start) -> None:
    """Two watches of one store both follow, and the store stays whole."""
    registry.promote(1)
    with watch(IRIS_KEEP_VERSIONS="1") as one, watch(IRIS_KEEP_VERSIONS="1") as other:
        for version in (1, 2, 3):
            registry.promote(version)
            one.until(lambda version=version: _active(one.home) == f"v{version}")  # type: ignore[misc]
        one.until(lambda: _versions(one.home) == {"v2", "v3"})
        ended = [running.end()[0] for running in (one, other)]

    assert ended == [0, 0]
    assert not [line for line in one.log + other.log if "Traceback" in line]
    assert list(one.home.glob("staging/*")) == []
    warm.check(one.home, one.output)


@pytest.mark.thorough
def test_killed_watch(registry: Registry, imported: Import, watch: Start, tmp_path: Path) -> None:
    """A watch that is killed in an import leaves a store that the next one brings up to date."""
    home = tmp_path / "home"
    imported(1)
    registry.promote(5)
    registry.proxy.fault = on_files(delayed(1))
    with watch() as running:
        child = registry.wait_for_download(running)
        status, _ = running.end(signal.SIGKILL)
        found = _active(home)
        registry.proxy.fault = no_fault
    with watch() as running:
        running.until(lambda: _active(home) == "v5")
        psutil.wait_procs([child], 30)
        running.end()

    assert status == -signal.SIGKILL
    assert found == "v1"
    assert _versions(home) == {"v1", "v5"}
    assert list(home.glob("staging/*")) == []
    warm.check(home, running.output)


def test_state_that_cannot_be_written(imported: Import, tmp_path: Path) -> None:
    """A registry status that cannot be written is logged, and the import goes on."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "registry").write_text("a file where a folder should be")
    done = imported(1)

    assert done.stdout.startswith("watched:v1-")
    assert done.stderr.splitlines()[1] == (
        f"the answer of the registry cannot be recorded: {home}/registry: File exists"
    )


def test_watch_of_nothing(fails: warm.Fails) -> None:
    """Without a tracking server there is nothing to wait for."""
    done = fails("--watch", "5", MLFLOW_TRACKING_URI="")

    assert done.error == "MLFLOW_TRACKING_URI is not set; set it to http://HOST:5000"

"""A promotion and a rollback each end with the right version answering."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import mlflow
import pytest
from conftest import Tracking
from support import servers, warm
from support.scrape import scrape

NAME = "Reverted"
STAGE = f"models:/{NAME}/Production"
ALIAS = f"models:/{NAME}@champion"


@dataclass(frozen=True)
class Followed:
    """A registered model with two versions, and a service of it."""

    client: mlflow.MlflowClient
    service: servers.Server
    env: dict[str, str]
    folder: Path

    def run(self, *arguments: str) -> warm.Done:
        """Run the command line to its end."""
        return warm.run(self.folder / "command", *arguments, env=self.env)

    def answers_with(self, version: int) -> Callable[[], bool]:
        """Return whether the service answers with a version."""
        return lambda: bool(httpx.get(f"{self.service.url}/model").json()["version"] == version)

    def stages(self) -> list[str | None]:
        """Return the stage of each version."""
        return [self.client.get_model_version(NAME, str(n)).current_stage for n in (1, 2)]

    @contextlib.contextmanager
    def watched(self, uri: str) -> Iterator[Path]:
        """Run a watch of a URI, and return its log."""
        output = self.folder / "watch"
        output.mkdir(exist_ok=True)
        process = warm.start(output, "--watch", "0.2", uri, env=self.env)
        try:
            yield output / "stderr"
        finally:
            os.kill(process.pid or 0, signal.SIGTERM)
            process.join()


@pytest.fixture(scope="module")
def followed(
    tracking: Tracking, plain_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Followed]:
    """Register two versions, import the first, and serve it."""
    client = mlflow.MlflowClient(tracking.url)
    for _ in range(2):
        client.copy_model_version("models:/IrisModel/1", NAME)
    folder = tmp_path_factory.mktemp("promotion")
    store = {"BENTOML_HOME": str(folder / "home"), "IRIS_MODEL_URI": STAGE}
    env = tracking.env | store
    for version in (2, 1):
        assert warm.run(folder / "import", f"models:/{NAME}/{version}", env=env).status == 0
    options = {"IRIS_RELOAD_SECONDS": "0.2"}
    with servers.bentoml_service(folder / "log", env=plain_env | store | options) as service:
        yield Followed(client, service, env, folder)


def test_rollback_by_command(followed: Followed) -> None:
    """Stage and alias move together, and both commands wait until the service has followed."""
    options = ("--service", followed.service.url, "--timeout", "60")
    with followed.watched(STAGE):
        first = followed.run("promote", f"models:/{NAME}/1", *options)
        promoted = followed.run("promote", f"models:/{NAME}/2", *options)
        second, of_second = followed.answers_with(2)(), followed.stages()
        back = followed.run("rollback", *options)
        third, of_third = followed.answers_with(1)(), followed.stages()
        none = followed.run("rollback", *options)

    assert first.stdout == f"no version -> models:/{NAME}/1\n"
    assert promoted.stdout == f"models:/{NAME}/1 -> models:/{NAME}/2\n"
    assert back.stdout == f"models:/{NAME}/2 -> models:/{NAME}/1\n"
    assert second
    assert third
    assert of_second == ["Archived", "Production"]
    assert of_third == ["Production", "Archived"]
    assert followed.client.get_model_version_by_alias(NAME, "champion").version == "1"
    assert back.stderr.splitlines()[0] == (
        f"version 1 of {NAME} is in stage Production and has the alias champion"
    )
    assert f"{followed.service.url} answers with version 1, after" in back.last
    assert none.error == (
        f"no version of {NAME} below 1 was in stage Production; "
        f"name one: python import_model.py promote models:/{NAME}/VERSION"
    )


@pytest.mark.thorough
@pytest.mark.parametrize("uri", [ALIAS, STAGE], ids=["alias", "stage"])
def test_rollback_in_the_registry(followed: Followed, uri: str) -> None:
    """The older version answers after its alias, or its stage, was moved with MLflow's client."""

    def move(version: str) -> None:
        if uri == ALIAS:
            followed.client.set_registered_model_alias(NAME, "champion", version)
        else:
            followed.client.transition_model_version_stage(
                NAME, version, "Production", archive_existing_versions=True
            )

    with followed.watched(uri):
        for version in (2, 1):
            move(str(version))
            servers.wait_for(followed.answers_with(version), 60)


def test_two_versions_in_the_stage(followed: Followed) -> None:
    """The former version that is left in the stage is said once, shown and archived by a command.

    MLflow's dialog leaves it there unless its box is ticked, and the highest version is meant.
    """
    url = followed.service.url
    for version in ("2", "1"):
        followed.client.transition_model_version_stage(NAME, version, "Production")
    with followed.watched(STAGE) as log:
        servers.wait_for(followed.answers_with(2), 60)
        shown = httpx.get(f"{url}/model").json()["registry"]
        page = scrape(url)
        back = followed.run("rollback", "--service", url)
        archived = httpx.get(f"{url}/model").json()["registry"]["in_stage"]
        lines = log.read_text().splitlines()

    assert (shown["version"], shown["in_stage"]) == (2, [2, 1])
    assert page.value("iris_registry_stage_versions") == 2
    (line,) = [line for line in lines if "are in stage" in line]
    assert line == (
        f"2 versions of {NAME} are in stage Production, and the highest, 2, is meant; to archive "
        f"the others, run python import_model.py promote models:/{NAME}/VERSION"
    )
    assert back.stdout == f"models:/{NAME}/2 -> models:/{NAME}/1\n"
    assert archived == [1]


def test_service_that_does_not_follow(followed: Followed) -> None:
    """A service that keeps its version, or has another model, ends the command with a line."""
    url = followed.service.url
    followed.client.set_registered_model_alias(NAME, "champion", "1")
    kept = followed.run("promote", f"models:/{NAME}/2", "--service", url, "--timeout", "1")
    other = followed.run("promote", "models:/IrisModel/1", "--service", f"{url}/")
    away = followed.run("promote", f"models:/{NAME}/1", "--service", "http://127.0.0.1:9")
    no_uri = followed.run("promote", NAME)

    assert kept.error == (
        f"version 2 is promoted, and {url} still answers with version 1 after 1 s; "
        "does it follow the registry? its log says more"
    )
    assert other.error == (
        f"{url} serves {NAME}, and not IrisModel; set --service to the address of the right service"
    )
    assert away.error.startswith("http://127.0.0.1:9 does not answer (")
    assert no_uri.status == 2

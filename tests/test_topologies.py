"""Imports from a separate registry, from a server of artifacts alone, and from a workspace."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import mlflow
import pytest
from conftest import Tracking
from support import proxies, registered, servers
from support.proxies import Proxy
from support.warm import Fails, Run, metadata

pytestmark = pytest.mark.thorough

TOKEN = "hidden-token"


@dataclass(frozen=True)
class Distant:
    """A tracking server whose artifacts are at another host, behind a proxy.

    Attributes:
        artifacts: The proxy of the artifacts' host, which may ask for a token.
        server: The address of the host behind it.
        host: The host and port of the proxy, as they are in the versions' locations.
    """

    artifacts: Proxy
    server: str
    host: str


@pytest.fixture(scope="module")
def distant(
    tracking: Tracking, plain_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Distant]:
    """Register a model with a server of artifacts alone, as MLflow's documentation describes."""
    folder, database = tmp_path_factory.mktemp("distant"), tracking.folder / "mlflow.db"
    only = servers.mlflow_server(folder, "--artifacts-only", env=plain_env, database=database)
    with only as artifacts, proxies.proxy(artifacts.url) as between:
        behind, host = (url.removeprefix("http://") for url in (artifacts.url, between.url))
        root = f"mlflow-artifacts://{behind}/distant"
        options = ("--no-serve-artifacts", "--default-artifact-root", root)
        with servers.mlflow_server(folder, *options, env=plain_env, database=database) as server:
            registered.use(server.url)
            mlflow.set_experiment("distant")
            registered.log("Distant")
        # MLflow's upload goes to the server itself, and the import through the proxy.
        with sqlite3.connect(database, timeout=30) as connection:
            connection.execute(
                "UPDATE model_versions SET storage_location ="
                " replace(storage_location, ?, ?) WHERE name = 'Distant'",
                (behind, host),
            )
        yield Distant(between, artifacts.url, host)


URI = "models:/Distant/1"


def test_host_that_is_not_allowed(fails: Fails, distant: Distant) -> None:
    """No request is sent to a host that the operator has not named."""
    distant.artifacts.asked.clear()
    done = fails(URI)

    assert distant.artifacts.asked == []
    assert done.error == (
        f"the version's files are at another host, {distant.host!r}; if you trust it, set "
        f"IRIS_ARTIFACT_HOSTS={distant.host}, and IRIS_ARTIFACT_USERNAME and "
        "IRIS_ARTIFACT_PASSWORD, or IRIS_ARTIFACT_TOKEN, if it asks for a login"
    )


def test_allowed_host_gets_no_login(run: Run, distant: Distant) -> None:
    """The tracking server's logins are not sent to an allowed host."""
    distant.artifacts.asked.clear()
    login = {"MLFLOW_TRACKING_TOKEN": TOKEN, "MLFLOW_TRACKING_USERNAME": "ann"}
    login["MLFLOW_TRACKING_PASSWORD"] = TOKEN
    done = run(URI, IRIS_ARTIFACT_HOSTS=f"other.example, {distant.host}", **login)

    assert done.status == 0, done.stderr
    assert done.stdout.startswith("distant:v1-")
    assert f" bytes, through {distant.artifacts.url}\n" in done.stderr
    assert len(distant.artifacts.asked) > 5
    assert not [1 for _, headers in distant.artifacts.asked if "Authorization" in headers]


def test_login_of_the_host(
    run: Run, fails: Fails, distant: Distant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host of artifacts has login variables of its own, which its messages name."""
    monkeypatch.setattr(distant.artifacts, "authorization", f"Bearer {TOKEN}")
    hosts = {"IRIS_ARTIFACT_HOSTS": distant.host}
    without = fails(URI, **hosts, MLFLOW_TRACKING_TOKEN=TOKEN)
    done = run("--dry-run", URI, **hosts, IRIS_ARTIFACT_TOKEN=TOKEN)

    assert without.error == (
        f"{distant.artifacts.url} asks for a login (HTTP 401); set IRIS_ARTIFACT_USERNAME and "
        "IRIS_ARTIFACT_PASSWORD, or IRIS_ARTIFACT_TOKEN"
    )
    assert done.status == 0, done.stderr
    assert "hidden" not in done.stdout + done.stderr


def test_server_of_artifacts_as_the_tracking_server(fails: Fails, distant: Distant) -> None:
    """A server that has no registry says so at once."""
    done = fails(URI, MLFLOW_TRACKING_URI=distant.server)

    assert "again" not in done.stderr
    assert done.error == (
        f"{distant.server} was started with --artifacts-only and has no registry; set "
        "MLFLOW_TRACKING_URI to the tracking server, and IRIS_ARTIFACT_HOSTS to this host"
    )


@pytest.mark.parametrize(
    ("hosts", "got"),
    [("https://a.example", ", got 'https://a.example'"), ("ann:hidden@a.example", "")],
)
def test_host_that_is_none(fails: Fails, hosts: str, got: str) -> None:
    """A list of hosts with more than hosts in it is wrong usage, and a login in it stays secret."""
    done = fails(URI, status=2, IRIS_ARTIFACT_HOSTS=hosts)

    line = "IRIS_ARTIFACT_HOSTS: must be HOST or HOST:PORT, separated by commas"
    assert done.error == line + got


@pytest.fixture(scope="module")
def registry(
    tracking: Tracking, plain_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Run a registry of its own over the runs of the tracking server, with two workspaces.

    Each has its version 1 of IrisModel.
    """
    folder = tmp_path_factory.mktemp("registry")
    store = f"sqlite:///{folder / 'registry.db'}"
    options = ("--serve-artifacts", "--enable-workspaces", "--registry-store-uri", store)
    database = tracking.folder / "mlflow.db"
    with servers.mlflow_server(folder, *options, env=plain_env, database=database) as server:
        registered.use(server.url)
        registered.log("IrisModel")
        mlflow.create_workspace("team")
        try:
            mlflow.set_workspace("team")
            mlflow.set_experiment("of the team")
            registered.log("IrisModel")
        finally:
            mlflow.set_workspace(None)
        yield server.url


def test_registry_at_another_address(
    run: Run, tracking: Tracking, registry: str, store: Path
) -> None:
    """The registry says which version it is, and the tracking server has its files."""
    here = run("models:/IrisModel/1")
    done = run("models:/IrisModel/1", MLFLOW_REGISTRY_URI=registry)

    assert done.status == 0, done.stderr
    assert here.stdout != done.stdout
    assert f" bytes, through {tracking.url}\n" in done.stderr
    found = metadata(store, done.stdout)
    assert (found["tracking_uri"], found["registry_uri"]) == (tracking.url, registry)
    assert "registry_uri" not in metadata(store, here.stdout)


def test_registry_that_is_none(fails: Fails) -> None:
    """Messages about the registry name its variable."""
    url = f"http://127.0.0.1:{servers.free_port()}"
    refused = fails(MLFLOW_REGISTRY_URI=url)
    local = fails(MLFLOW_REGISTRY_URI="sqlite:///registry.db")

    assert refused.error == (
        f"{url} refuses the connection; is the server running, and MLFLOW_REGISTRY_URI right?"
    )
    assert local.error.startswith("MLFLOW_REGISTRY_URI is 'sqlite:///registry.db' and must be ")


def test_workspace(run: Run, registry: str, store: Path) -> None:
    """The workspace is part of what a version is, and is listed."""
    env = {"MLFLOW_TRACKING_URI": registry}
    default = run("models:/IrisModel/1", **env)
    done = run("models:/IrisModel/1", **env, MLFLOW_WORKSPACE="team")
    listed = run("--list")
    missing = run("models:/IrisModel/7", **env, MLFLOW_WORKSPACE="team")

    assert (default.status, done.status) == (0, 0), default.stderr + done.stderr
    assert "workspace" not in metadata(store, default.stdout)
    assert metadata(store, done.stdout)["workspace"] == "team"
    (line,) = [line for line in listed.stdout.splitlines() if done.stdout.strip() in line]
    assert " team " in line
    assert missing.error.startswith(
        f"models:/IrisModel/7 is not in workspace team of the registry of {registry}: "
    )


def test_served(
    run: Run, registry: str, store: Path, plain_env: dict[str, str], tmp_path: Path
) -> None:
    """GET /model has the workspace, and the address of a registry that is another server."""
    run("models:/IrisModel/1", MLFLOW_TRACKING_URI=registry, MLFLOW_WORKSPACE="team")
    env = plain_env | {"BENTOML_HOME": str(store), "IRIS_RELOAD_SECONDS": "0.1"}
    with servers.bentoml_service(tmp_path / "log", env=env) as server:
        of_team = httpx.get(f"{server.url}/model").json()
        run("models:/IrisModel/1", MLFLOW_REGISTRY_URI=registry)
        servers.wait_for(lambda: httpx.get(f"{server.url}/model").json()["workspace"] is None)
        other = httpx.get(f"{server.url}/model").json()

    assert (of_team["workspace"], of_team["registry_uri"]) == ("team", None)
    assert other["registry_uri"] == registry


def test_server_without_workspaces(fails: Fails, tracking: Tracking) -> None:
    """A workspace is an error where there are none, and no reason to try again."""
    done = fails(MLFLOW_WORKSPACE="team")

    assert "again" not in done.stderr
    assert done.error == f"{tracking.url} has no workspaces; unset MLFLOW_WORKSPACE"

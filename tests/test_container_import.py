"""The image without a model: its containers import one before they are ready, or end."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import Tracking
from support import containers, proxies, servers
from support.guarded import ADMIN, guarded_server

pytestmark = pytest.mark.thorough

PASSWORD = "hidden-pass-0123456789"
TOKEN = "hidden-token-0123456789"
IMAGE = f"iris-api:test-{os.getpid()}-without-model"
PLAIN, LOCKED, _, POINTED, _ = containers.documented_commands("docker run")
_, MAKE = containers.documented_commands("make container")
BODY = {"instances": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5]]}


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Require an engine for this file, before a server is started for it."""
    containers.require_engine()


@pytest.fixture(scope="module", autouse=True)
def built(plain_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Build the image, from an empty store."""
    home = tmp_path_factory.mktemp("bento")
    try:
        containers.make(MAKE, IMAGE, plain_env | {"BENTOML_HOME": str(home)})
        yield
    finally:
        subprocess.run(["docker", "rmi", IMAGE], capture_output=True, check=False)


@pytest.fixture(scope="module")
def registry(
    tracking: Tracking, plain_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    """Run a tracking server with a login, where containers can reach it."""
    with guarded_server(
        tmp_path_factory.mktemp("guarded"),
        PASSWORD,
        env=plain_env,
        database=tracking.folder / "mlflow.db",
        host=containers.gateway(),
    ) as server:
        yield server


def _imports(url: str, *options: str, env: dict[str, str], tag: str) -> None:
    """Run a container by the documented command, and check that it serves this model.

    Args:
        url: address of the tracking server.
        options: further options of docker run.
        env: environment with the login.
        tag: tag of the model.
    """
    command = POINTED.replace("http://HOST:5000", url)
    with containers.running(command, IMAGE, *options, env=env) as container:
        container.wait_until_ready()
        predicted = httpx.post(f"{container.url}/predict", json=BODY)
        model = httpx.get(f"{container.url}/model").json()
        metrics = httpx.get(f"{container.url}/metrics").text
        log = container.logs()

    assert predicted.json() == {"predictions": ["setosa", "versicolor"]}
    assert predicted.headers["X-Model-Version"] == "1"
    assert (model["tag"], model["origin"]) == (tag, "store")
    assert model["registry"]["error"] is None
    assert "iris_registry_up 1.0" in metrics
    assert f"{tag} is stored" in log
    assert "Traceback" not in log
    assert "hidden" not in log


@pytest.fixture
def tag(home: Path) -> str:
    """Give the tag of version 1, which is the same in any store."""
    (entry,) = (home / "models/irismodel").glob("v1-*")
    return f"irismodel:{entry.name}"


def test_login(registry: servers.Server, plain_env: dict[str, str], tag: str) -> None:
    """With a username and a password, the model is imported before the container is ready."""
    login = {"MLFLOW_TRACKING_USERNAME": ADMIN, "MLFLOW_TRACKING_PASSWORD": PASSWORD}
    _imports(registry.url, env=plain_env | login, tag=tag)


def test_token_and_self_signed_certificate(
    tracking: Tracking, plain_env: dict[str, str], tag: str, tmp_path: Path
) -> None:
    """The same, locked down, with a token and without verifying the certificate."""
    options = (
        *LOCKED.split()[4:-1],  # what is between the port and the image
        "-eMLFLOW_TRACKING_TOKEN",
        "-eMLFLOW_TRACKING_INSECURE_TLS=true",
    )
    with proxies.proxy(
        tracking.url,
        tls=proxies.server_tls(proxies.make_certificate(tmp_path, "server")),
        authorization=f"Bearer {TOKEN}",
        host=containers.gateway(),
    ) as front:
        _imports(front.url, *options, env=plain_env | {"MLFLOW_TRACKING_TOKEN": TOKEN}, tag=tag)


def test_stop_during_the_import(plain_env: dict[str, str]) -> None:
    """A stop does not wait for a registry that does not answer."""
    with socket.create_server((containers.gateway(), 0)) as silent:
        url = "http://{}:{}".format(*silent.getsockname())
        option = f"-eMLFLOW_TRACKING_URI={url}"
        with containers.running(PLAIN, IMAGE, option, env=plain_env) as container:
            silent.settimeout(60)
            connection, _ = silent.accept()
            with connection:
                container.stop()
            status = container.inspect("{{.State.ExitCode}}")

    assert status == "0"  # 137 if it had to be killed after 10 s


@pytest.mark.parametrize(
    ("options", "last"),
    [
        pytest.param([], "there is no model: set MLFLOW_TRACKING_URI to a ", id="no registry"),
        pytest.param(
            ["-eMLFLOW_TRACKING_URI=http://127.0.0.1:9"],
            "error: http://127.0.0.1:9 refuses the connection",
            id="unreachable",
        ),
    ],
)
def test_no_model(plain_env: dict[str, str], options: list[str], last: str) -> None:
    """Without a model in the image or from a registry, it ends and says why in one line."""
    with containers.running(PLAIN, IMAGE, *options, env=plain_env) as container:
        status = container.wait_until_ended()
        log = container.logs()

    assert status == 1
    assert len([line for line in log.splitlines() if last in line]) == 1
    assert "there is no model" in log.splitlines()[-1]
    assert "Traceback" not in log


def test_labels() -> None:
    """No label names a model."""
    found = containers.labels(IMAGE)

    assert found["org.opencontainers.image.title"] == "iris-api"
    assert not [name for name in found if "model" in name]

"""The image is small, harmless and without a secret; containers start, fail and stop as told."""

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Iterator

import containers
import httpx
import pytest
import servers
from containers import Container

from benchmarks.traffic import Ask, Traffic, asking

ADMIN = "keeper"
PASSWORD = "hidden-pass-0123456789"
"""Of the tracking server; in the environment of the build and of a container, and nowhere else."""

LOGIN = {"MLFLOW_TRACKING_USERNAME": ADMIN, "MLFLOW_TRACKING_PASSWORD": PASSWORD}
IMAGE = f"iris-api:test-{os.getpid()}"
WITHOUT_MODEL = f"iris-api:test-{os.getpid()}-without-model"
MEGABYTE = 1_000_000
BODY = {"instances": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5]]}
ANSWER = {"predictions": ["setosa", "versicolor"]}
BAKED, POINTED = containers.documented_commands("docker run")
NOBODY = "-eMLFLOW_TRACKING_URI=http://127.0.0.1:9"


@pytest.fixture(scope="module", autouse=True)
def engine() -> None:
    """Need an engine for all of this file."""
    containers.require_engine()


@pytest.fixture(scope="module")
def registry(
    engine: None, plain_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Run a tracking server that asks for a login; give the variables to reach it."""
    del engine
    folder = tmp_path_factory.mktemp("guarded")
    settings = folder / "auth.ini"
    settings.write_text(
        "[mlflow]\n"
        "default_permission = NO_PERMISSIONS\n"
        f"database_uri = sqlite:///{folder / 'auth.db'}\n"
        f"admin_username = {ADMIN}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    env = plain_env | {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test",
    }
    options = ("--serve-artifacts", "--app-name", "basic-auth")
    with servers.mlflow_server(folder, *options, env=env, host=containers.gateway()) as server:
        variables = {"MLFLOW_TRACKING_URI": server.url, **LOGIN}
        done = servers.run("train_model.py", env=plain_env | variables)
        assert done.returncode == 0, done.stderr
        yield variables


@pytest.fixture(scope="module")
def built(
    registry: dict[str, str],
    plain_env: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """Make both images, with the logins in the environment; give the tag of the model in one."""
    home = tmp_path_factory.mktemp("bentoml")
    env = plain_env | registry | {"BENTOML_HOME": str(home)}
    imported = servers.run("import_model.py", env=env)
    assert imported.returncode == 0, imported.stderr
    make = containers.documented_commands("make container")
    try:
        for command, image in zip(make, (IMAGE, WITHOUT_MODEL), strict=True):
            done = subprocess.run(
                [*command.split(), f"IMAGE={image}"],
                cwd=servers.ROOT,
                env=env,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        yield imported.stdout.strip()
    finally:
        for image in (IMAGE, WITHOUT_MODEL):
            subprocess.run(["docker", "rmi", image], capture_output=True, check=False)


@pytest.fixture(scope="module")
def baked(built: str, plain_env: dict[str, str]) -> Iterator[Container]:
    """Run the model of the image, locked down as documented, with one worker."""
    del built
    with containers.running(BAKED, IMAGE, "-eIRIS_WORKERS=1", env=plain_env) as container:
        container.wait_until_ready()
        yield container


def test_size(built: str) -> None:
    """The image takes less than 450 MB besides its base."""
    del built
    sizes = [
        int(containers.docker("image", "inspect", "-f", "{{.Size}}", image))
        for image in (IMAGE, "python:3.11-slim")
    ]

    assert sizes[0] - sizes[1] < 450 * MEGABYTE


def test_labels(built: str) -> None:
    """The labels name the model of an image, and none in an image without a model."""
    with_model, without = (
        json.loads(containers.docker("image", "inspect", "-f", "{{json .Config.Labels}}", image))
        for image in (IMAGE, WITHOUT_MODEL)
    )

    assert with_model["iris-api.model.tag"] == built
    assert with_model["iris-api.model.name"] == "IrisModel"
    assert with_model["iris-api.model.version"] == "1"
    assert with_model["iris-api.model.digest"].startswith(built.rpartition("-")[2])
    assert with_model["org.opencontainers.image.title"] == "iris-api"
    assert with_model["org.opencontainers.image.version"]
    assert not [name for name in without if name.startswith("iris-api.model")]


def test_no_secret(built: str) -> None:
    """A login that the build had in its environment is in no layer, command or variable."""
    del built
    history = containers.docker("history", "--no-trunc", IMAGE)
    described = containers.docker("inspect", IMAGE)
    with subprocess.Popen(["docker", "save", IMAGE], stdout=subprocess.PIPE) as saved:
        assert saved.stdout
        length, found, tail = 0, False, b""
        while chunk := saved.stdout.read(16 * 1024**2):
            length += len(chunk)
            found = found or PASSWORD.encode() in tail + chunk
            tail = chunk[-len(PASSWORD) :]

    assert saved.returncode == 0
    assert length > 400 * MEGABYTE
    assert not found
    assert PASSWORD not in history
    assert PASSWORD not in described


def test_answers(baked: Container, built: str) -> None:
    """It predicts, tells its model and counts its requests."""
    predicted = httpx.post(f"{baked.url}/predict", json=BODY)
    model = httpx.get(f"{baked.url}/model")
    metrics = httpx.get(f"{baked.url}/metrics")

    assert (predicted.status_code, predicted.json()) == (200, ANSWER)
    assert predicted.headers["X-Model-Version"] == "1"
    assert (model.status_code, model.json()["tag"]) == (200, built)
    assert metrics.status_code == 200
    assert 'bentoml_service_request_total{endpoint="/predict"' in metrics.text


def test_locked_down(baked: Container) -> None:
    """Its process is no root, has no capability, and writes below /tmp only."""
    status = baked.execute("cat", "/proc/1/status").stdout
    written = baked.execute("sh", "-c", "touch /home/bentoml/file")
    scratch = baked.execute("touch", "/tmp/file")  # noqa: S108 (the container's)

    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["1034"] * 4
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    assert "Read-only file system" in written.stderr
    assert scratch.returncode == 0


def test_nothing_more_inside(baked: Container) -> None:
    """No compiler, no MLflow server, no pandas and no test of a package is in the image."""
    compilers = baked.execute("sh", "-c", "command -v cc gcc g++ clang git make uvx")
    packages = baked.execute("ls", "/app/.venv/lib/python3.11/site-packages").stdout.split()
    tests = baked.execute("find", "/app/.venv", "-type", "d", "-name", "tests")

    assert compilers.stdout == ""
    assert "mlflow" in packages
    assert not {"flask", "sqlalchemy", "alembic", "gunicorn", "pandas", "pip", "uv"} & {*packages}
    assert tests.stdout == ""


def test_memory(baked: Container) -> None:
    """With one worker that has answered, it takes less than 250 MB."""
    for _ in range(50):
        assert httpx.post(f"{baked.url}/predict", json=BODY).status_code == 200
    used = baked.execute(
        "sh",
        "-c",
        "cat /sys/fs/cgroup/memory.current 2> /dev/null || "
        "cat /sys/fs/cgroup/memory/memory.usage_in_bytes",
    )

    assert 0 < int(used.stdout) < 250 * MEGABYTE


def test_import_at_start(registry: dict[str, str], built: str, plain_env: dict[str, str]) -> None:
    """Pointed at a registry that asks for a login, it serves that model, and keeps the secret."""
    command = POINTED.replace("http://HOST:5000", registry["MLFLOW_TRACKING_URI"])
    with containers.running(command, WITHOUT_MODEL, env=plain_env | registry) as container:
        container.wait_until_ready()
        predicted = httpx.post(f"{container.url}/predict", json=BODY)
        model = httpx.get(f"{container.url}/model").json()
        log = container.logs()

    assert predicted.json() == ANSWER
    assert model["tag"] == built
    assert built in log
    assert PASSWORD not in log


def test_registry_is_down(built: str, plain_env: dict[str, str]) -> None:
    """With a registry that does not answer, it serves the model of the image, and says so."""
    with containers.running(BAKED, IMAGE, NOBODY, env=plain_env) as container:
        container.wait_until_ready()
        predicted = httpx.post(f"{container.url}/predict", json=BODY)
        model = httpx.get(f"{container.url}/model").json()
        metrics = httpx.get(f"{container.url}/metrics").text
        log = container.logs()

    assert predicted.json() == ANSWER
    assert model["tag"] == built
    assert "error: http://127.0.0.1:9 refuses the connection" in log
    assert "http://127.0.0.1:9 refuses the connection" in model["registry"]["error"]
    assert "iris_registry_up 0.0" in metrics


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param([], "there is no model: set MLFLOW_TRACKING_URI", id="not pointed"),
        pytest.param(
            [NOBODY], "error: http://127.0.0.1:9 refuses the connection", id="nobody there"
        ),
    ],
)
def test_no_model(built: str, plain_env: dict[str, str], options: list[str], reason: str) -> None:
    """Without a model in the image and from a registry, it ends and says why in one line."""
    del built
    with containers.running(BAKED, WITHOUT_MODEL, *options, env=plain_env) as container:
        status = container.wait_until_ended()
        log = container.logs()

    assert status == 1
    assert len([line for line in log.splitlines() if reason in line]) == 1
    assert "Traceback" not in log


def test_stop_under_load(baked: Container) -> None:
    """It stops within 2 s, with status 0 and an answer to each request that it accepted."""
    # Not through the published port, whose proxy lets connections in for a container that is gone.
    address = baked.inspect("{{.NetworkSettings.IPAddress}}")
    ask = Ask(f"http://{address}:8000", BODY["instances"], {"1": ANSWER["predictions"]})

    async def run() -> tuple[Traffic, float]:
        async with asking(ask, clients=8) as traffic:
            await asyncio.sleep(0.5)
            began = time.monotonic()
            await asyncio.to_thread(containers.docker, "stop", baked.id)
        return traffic, time.monotonic() - began

    traffic, seconds = asyncio.run(run())

    assert set(traffic.statuses) == {200}
    assert traffic.wrong == traffic.unanswered == []
    assert traffic.closed == 0
    assert seconds < 2
    assert baked.inspect("{{.State.ExitCode}}") == "0"


def test_worker_dies(built: str, plain_env: dict[str, str]) -> None:
    """A dead worker ends the container with a status of 1, in seconds and without a traceback."""
    del built
    find = "import os, psutil; os.kill(psutil.Process(1).children()[0].pid, 9)"
    with containers.running(BAKED, IMAGE, env=plain_env) as container:
        seconds = container.wait_until_ready()
        container.execute("python", "-c", find)
        status = container.wait_until_ended()
        log = container.logs()

    assert status == 1
    assert "a worker died" in log
    assert "Traceback" not in log
    assert seconds < 5

"""The chain of fixtures: tracking server, trained model, model store, service, client."""

import contextlib
import functools
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from httpx._transports import default as transport
from support import servers

if TYPE_CHECKING:
    from support.saved_models import Copy
    from support.warm import Fails, Run

# As many processes compute at once as there are cores; more threads would only wait for each other.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")


@functools.cache
def _ssl_context(_file: str | None, **options: Any) -> ssl.SSLContext:
    return httpx.create_ssl_context(**options)


# Without a client, httpx reads the certificates for each request, which takes longer than that.
transport.create_ssl_context = lambda **options: (  # type: ignore[attr-defined]
    _ssl_context(os.environ.get("SSL_CERT_FILE"), **options)
)


LONGEST = (
    *("commands", "compat", "stop", "swap", "container", "compose", "quickstart", "prometheus"),
    *(
        "benchmarks",
        "killed",
        "hostile",
        "container_import",
        "import",
        "metrics",
        "overload",
        "browser",
    ),
    *("api_keys", "watch", "failures", "logins", "fuzz", "parity", "engines"),
)
"""The slowest test files. They start first, so that both processes end at about the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of the slowest files first."""
    first = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(item.path.name, len(first)))


@dataclass(frozen=True)
class Tracking:
    """A tracking server with IrisModel registered, and the environment that points to it."""

    url: str
    folder: Path
    env: dict[str, str]


@pytest.fixture(scope="session")
def plain_env() -> dict[str, str]:
    """Return the environment without the settings of MLflow, BentoML and this project."""
    foreign = ("MLFLOW_", "BENTOML_", "BENTO_", "IRIS_", "MAKE", "MFLAGS", "OTEL_", "PROMETHEUS_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    return kept | {"BENTOML_DO_NOT_TRACK": "True"}


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one saved model for each serialization format."""
    from support import saved_models  # noqa: PLC0415 (seconds, and most tests need none of it)

    folder = tmp_path_factory.mktemp("saved")
    saved_models.save(folder)
    return folder


@pytest.fixture(scope="session")
def model_files(saved: Path) -> dict[str, bytes]:
    """Return a logistic regression as mlflow.sklearn saves it: file contents by file name."""
    return {path.name: path.read_bytes() for path in (saved / "skops").iterdir()}


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> "Copy":
    """Return a function that copies a saved model and changes its MLmodel or its model file."""
    from support import saved_models  # noqa: PLC0415

    return saved_models.copier(saved, tmp_path)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a copy of the project and its environment in a folder with another name."""
    folder = tmp_path / "another name"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=servers.ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.rstrip("\0").split("\0"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(servers.ROOT / name, folder / name)
    environment = Path(sys.prefix)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / ".installed").touch()  # so that make installs nothing
    for part in (*environment.iterdir(), *environment.glob("bin/*")):
        link = folder / ".venv" / part.relative_to(environment)
        if not link.exists():
            link.symlink_to(part)
    return folder


@contextlib.contextmanager
def _tracking(folder: Path, env: dict[str, str]) -> Iterator[Tracking]:
    with servers.mlflow_server(folder, env=env) as server:
        yield Tracking(server.url, folder, env | {"MLFLOW_TRACKING_URI": server.url})


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, plain_env: dict[str, str]
) -> Iterator[tuple[Path, Tracking | None]]:
    """Train and import IrisModel in one process of the tests, for all of them.

    Return the data of its tracking server with the model store in its folder `home`, and in that
    process the server itself.
    """
    from support import warm  # noqa: PLC0415 (seconds, and most tests need none of it)

    from iris_api.home import lock  # noqa: PLC0415 (the same)

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with contextlib.ExitStack() as stack:
        server = None
        with lock(shared):
            if not (shared / "trained").exists():
                folder = tmp_path_factory.mktemp("mlflow")
                server = stack.enter_context(_tracking(folder, plain_env))
                env = server.env | {"BENTOML_HOME": str(folder / "home")}
                for command in (warm.train, warm.run):
                    done = command(folder / "output", env=env)
                    assert done.status == 0, done.stderr
                shutil.copytree(folder, shared / "trained")
        yield shared / "trained", server


@pytest.fixture(scope="session")
def tracking(
    trained: tuple[Path, Tracking | None],
    tmp_path_factory: pytest.TempPathFactory,
    plain_env: dict[str, str],
) -> Iterator[Tracking]:
    """Run a tracking server where version 1 of IrisModel, a logistic regression, is promoted."""
    data, server = trained
    if server:
        yield server
        return
    folder = Path(shutil.copytree(data, tmp_path_factory.mktemp("mlflow") / "copy"))
    with _tracking(folder, plain_env) as server:
        yield server


@pytest.fixture(scope="session")
def home(trained: tuple[Path, Tracking | None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a BENTOML_HOME with version 1 imported. Tests must not write to it."""
    return servers.copy_store(trained[0] / "home", tmp_path_factory.mktemp("bentoml"))


@pytest.fixture(scope="session")
def estimator(home: Path) -> Any:
    """Return the imported estimator, opened with scikit-learn."""
    import skops.io  # noqa: PLC0415 (seconds, as above)

    (path,) = home.glob("models/irismodel/*/mlflow_model/model.skops")
    estimator = skops.io.load(path, trusted=[])
    del estimator.feature_names_in_  # the rows of the tests are arrays
    return estimator


@pytest.fixture
def store(home: Path, tmp_path: Path) -> Path:
    """Return a writable copy of the BENTOML_HOME with version 1 imported."""
    return Path(shutil.copytree(home, tmp_path / "bentoml"))


@pytest.fixture
def run(tracking: Tracking, store: Path, tmp_path: Path) -> "Run":
    """Return a function that runs `import_model.py` against the test servers."""
    from support import warm  # noqa: PLC0415 (seconds, and most tests need none of it)

    return warm.runner(tmp_path / "output", tracking.env | {"BENTOML_HOME": str(store)})


@pytest.fixture
def fails(run: "Run", store: Path) -> "Fails":
    """Return a function that runs a failing import and checks what every failure promises."""
    from support import warm  # noqa: PLC0415

    return warm.failing(run, store)


@pytest.fixture(scope="session")
def service(
    home: Path, plain_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    """Run the service with version 1, one worker and no tracking server."""
    log = tmp_path_factory.mktemp("service") / "service.log"
    env = plain_env | {"BENTOML_HOME": str(home)}
    with servers.bentoml_service(log, env=env) as server:
        yield server


@pytest.fixture(scope="session")
def serve(
    home: Path, plain_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> servers.Serve:
    """Return a function that runs a service with options and variables, and a copy of the store.

    The copy is the folder `home` beside the log.
    """

    @contextlib.contextmanager
    def run(*options: str, **variables: str) -> Iterator[servers.Server]:
        folder = tmp_path_factory.mktemp("service")
        env = plain_env | {"BENTOML_HOME": str(servers.copy_store(home, folder / "home"))}
        with servers.bentoml_service(folder / "log", *options, env=env | variables) as server:
            yield server

    return run


@pytest.fixture(scope="session")
def client(service: servers.Server) -> Iterator[httpx.Client]:
    """Return an HTTP client of the service."""
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client

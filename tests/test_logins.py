"""Every login that MLflow knows works, and none is ever shown or stored."""

import base64
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import mlflow
import pytest
from conftest import Tracking
from support import proxies, registered, servers
from support.guarded import ADMIN, guarded_server
from support.warm import Done, Fails, Run, failing, runner, snapshot

pytestmark = pytest.mark.thorough

PASSWORD = "hidden-pass/word@1 %"
"""A password with characters that have a meaning in an address."""

IN_AN_ADDRESS = "hidden-pass%2Fword%401%20%25"
TOKEN = "hidden-token-0123456789"
SET_A_LOGIN = (
    "(HTTP 401); set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
    "or MLFLOW_TRACKING_TOKEN"
)


@pytest.fixture(scope="module")
def guarded(
    tracking: Tracking, plain_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    """Run a tracking server with --app-name basic-auth and the models of the other one."""
    folder = tmp_path_factory.mktemp("guarded")
    database = tracking.folder / "mlflow.db"
    with guarded_server(folder, PASSWORD, env=plain_env, database=database) as server:
        made = httpx.post(
            f"{server.url}/api/2.0/mlflow/users/create",
            json={"username": "stranger", "password": PASSWORD},
            auth=(ADMIN, PASSWORD),
        )
        assert made.is_success, made.text
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return the path of a BENTOML_HOME that does not exist."""
    return tmp_path / "bentoml"


@pytest.fixture
def run(plain_env: dict[str, str], store: Path, tmp_path: Path) -> Run:
    """Return a function that runs the command line with that store and without a login."""
    env = plain_env | {"BENTOML_HOME": str(store), "HOME": str(tmp_path)}
    return runner(tmp_path / "output", env)


@pytest.fixture
def fails(run: Run, store: Path) -> Fails:
    """Return a function that runs a failing import, which shows no secret and makes no store."""
    fail = failing(run, store)

    def fail_in_secret(*arguments: str, **env: str) -> Done:
        done = fail(*arguments, **env)
        assert "hidden" not in done.stderr
        assert not (store / "models").exists()
        return done

    return fail_in_secret


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a self-signed certificate of the server."""
    return proxies.make_certificate(tmp_path_factory.mktemp("tls"), "server")


@pytest.fixture(scope="module")
def secure(tracking: Tracking, certificate: Path) -> Iterator[proxies.Proxy]:
    """Run the tracking server behind TLS with the self-signed certificate."""
    with proxies.proxy(tracking.url, tls=proxies.server_tls(certificate)) as proxy:
        yield proxy


def test_username_and_password(run: Run, guarded: servers.Server) -> None:
    """The two variables are a login."""
    done = run(
        MLFLOW_TRACKING_URI=guarded.url,
        MLFLOW_TRACKING_USERNAME=ADMIN,
        MLFLOW_TRACKING_PASSWORD=PASSWORD,
    )

    assert done.status == 0, done.stderr
    assert done.stdout.startswith("irismodel:v1-")


def test_file_of_credentials(
    run: Run, fails: Fails, guarded: servers.Server, tmp_path: Path
) -> None:
    """MLflow's own file is read, and a broken one is not quoted."""
    path = tmp_path / ".mlflow" / "credentials"
    path.parent.mkdir()
    password = PASSWORD.replace("%", "%%")
    path.write_text(
        f"[mlflow]\nmlflow_tracking_username = {ADMIN}\nmlflow_tracking_password = {password}\n"
    )
    read = run("--dry-run", MLFLOW_TRACKING_URI=guarded.url)
    path.write_text(f"[mlflow]\nmlflow_tracking_password {PASSWORD}\n")
    broken = fails(MLFLOW_TRACKING_URI=guarded.url)

    assert read.status == 0, read.stderr
    assert broken.error == "~/.mlflow/credentials cannot be read; fix or remove it"


@pytest.mark.parametrize(
    ("username", "password", "line"),
    [
        ("", "", f"asks for a login {SET_A_LOGIN}"),
        (ADMIN, "hidden-guess", f"rejects the login {SET_A_LOGIN}"),
        (
            "stranger",
            PASSWORD,
            (
                "denies this login the access (HTTP 403); "
                "ask for READ permission on the registered model and its experiment"
            ),
        ),
    ],
    ids=["no login", "wrong password", "no permission"],
)
def test_denied(
    fails: Fails, guarded: servers.Server, username: str, password: str, line: str
) -> None:
    """A login that is missing, wrong or does not suffice is reported at once."""
    login = {"MLFLOW_TRACKING_USERNAME": username, "MLFLOW_TRACKING_PASSWORD": password}
    done = fails(
        MLFLOW_TRACKING_URI=guarded.url, **{key: text for key, text in login.items() if text}
    )

    assert done.stderr.splitlines() == [
        "importing models:/IrisModel/Production",
        f"error: {guarded.url} {line}",
    ]


def _grant(server: servers.Server, kind: str, which: str) -> None:
    """Give the reader the permission READ."""
    what = {"resource_type": kind, "resource_id": which, "permission": "READ"}
    granted = httpx.post(
        f"{server.url}/api/3.0/mlflow/users/permissions/grant",
        json={"username": "reader", **what},
        auth=(ADMIN, PASSWORD),
    )
    assert granted.is_success, granted.text


def test_files_that_are_denied(
    run: Run, fails: Fails, tracking: Tracking, guarded: servers.Server
) -> None:
    """The permission that is missing is named: of the experiment, or of no experiment at all."""
    client = registered.use(tracking.url)
    other = client.create_experiment("custom", artifact_location="mlflow-artifacts:/custom")
    mlflow.set_experiment("custom")
    registered.log("Custom")
    user = {"username": "reader", "password": PASSWORD}
    url = f"{guarded.url}/api/2.0/mlflow/users/create"
    assert httpx.post(url, json=user, auth=(ADMIN, PASSWORD)).is_success
    env = {
        "MLFLOW_TRACKING_URI": guarded.url,
        "MLFLOW_TRACKING_USERNAME": "reader",
        "MLFLOW_TRACKING_PASSWORD": PASSWORD,
    }
    for name in ("IrisModel", "Custom"):
        _grant(guarded, "registered_model", name)
    denied = fails("models:/IrisModel/1", **env)
    location = client.get_model_version_download_uri("IrisModel", "1")
    experiment = location.removeprefix("mlflow-artifacts:/").partition("/")[0]
    for number in (experiment, other):
        _grant(guarded, "experiment", number)
    allowed = run("--dry-run", "models:/IrisModel/1", **env)
    custom = fails("models:/Custom/1", **env)

    assert denied.error.startswith(f"{guarded.url} denies this login the files in {experiment}/")
    assert denied.error.endswith(
        " (HTTP 403), and not the registered model; "
        f"ask for READ permission on experiment {experiment}"
    )
    assert allowed.status == 0, allowed.stderr
    assert custom.error.startswith(f"{guarded.url} denies this login the files in custom/")
    assert custom.error.endswith(
        "; its path names no experiment, so only the server's default permission or an "
        "administrator opens it; log and register the model again in an experiment without an "
        "artifact location of its own"
    )


def test_token(run: Run, fails: Fails, tracking: Tracking) -> None:
    """A token is sent with each request, and another one is rejected."""
    with proxies.proxy(tracking.url, authorization=f"Bearer {TOKEN}") as proxy:
        other = fails(MLFLOW_TRACKING_URI=proxy.url, MLFLOW_TRACKING_TOKEN="hidden-other")
        done = run("--dry-run", MLFLOW_TRACKING_URI=proxy.url, MLFLOW_TRACKING_TOKEN=TOKEN)

    assert other.error == f"{proxy.url} rejects the login {SET_A_LOGIN}"
    assert done.status == 0, done.stderr
    assert "hidden" not in done.stdout + done.stderr


@pytest.mark.parametrize("token", ["hidden\ntoken", "hidden€token"])
def test_token_that_no_header_can_carry(fails: Fails, tracking: Tracking, token: str) -> None:
    """A line break at the end of a copied token is reported, without the token."""
    done = fails(MLFLOW_TRACKING_URI=tracking.url, MLFLOW_TRACKING_TOKEN=token)

    assert done.error == (
        "the login has characters that no HTTP header can carry, such as a line break; "
        "check MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD and MLFLOW_TRACKING_TOKEN"
    )


def test_self_signed_certificate(fails: Fails, secure: proxies.Proxy) -> None:
    """An untrusted certificate is rejected at once, and both variables are named."""
    done = fails(MLFLOW_TRACKING_URI=secure.url, MLFLOW_TRACKING_TOKEN=TOKEN)

    assert done.error == (
        f"the certificate of {secure.url} is not trusted (self-signed certificate); "
        "set MLFLOW_TRACKING_SERVER_CERT_PATH to the authority that signed it, "
        "or MLFLOW_TRACKING_INSECURE_TLS=true to skip the check"
    )
    assert "again" not in done.stderr
    assert secure.asked == []


@pytest.mark.parametrize("skip", [False, True], ids=["authority", "skip the check"])
def test_server_certificate(run: Run, secure: proxies.Proxy, certificate: Path, skip: bool) -> None:
    """The certificate of the server's authority is trusted, and the check can be skipped."""
    trust = {"MLFLOW_TRACKING_SERVER_CERT_PATH": str(certificate)}
    if skip:
        trust = {"MLFLOW_TRACKING_INSECURE_TLS": "true"}
    done = run("--dry-run", MLFLOW_TRACKING_URI=secure.url, **trust)

    assert done.status == 0, done.stderr
    assert "warning" not in done.stderr.lower()


def test_wrong_certificates(
    fails: Fails, secure: proxies.Proxy, certificate: Path, tmp_path: Path
) -> None:
    """Variables that contradict each other, a file that does not exist, and one that is no PEM."""
    url, path = secure.url, tmp_path / "text.pem"
    both = fails(
        MLFLOW_TRACKING_URI=url,
        MLFLOW_TRACKING_INSECURE_TLS="true",
        MLFLOW_TRACKING_SERVER_CERT_PATH=str(certificate),
    )
    missing = fails(MLFLOW_TRACKING_URI=url, MLFLOW_TRACKING_SERVER_CERT_PATH=str(path))
    path.write_text("text")
    text = fails(MLFLOW_TRACKING_URI=url, MLFLOW_TRACKING_SERVER_CERT_PATH=str(path))

    assert both.error == (
        "MLFLOW_TRACKING_INSECURE_TLS and MLFLOW_TRACKING_SERVER_CERT_PATH contradict each "
        "other; unset one of them"
    )
    assert missing.error == (
        f"MLFLOW_TRACKING_SERVER_CERT_PATH names a file that does not exist: {path}"
    )
    assert text.error.startswith(f"no TLS connection to {url} (")
    assert text.error.endswith("MLFLOW_TRACKING_CLIENT_CERT_PATH name PEM files?")


def test_https_of_a_server_that_speaks_http(fails: Fails, tracking: Tracking) -> None:
    """The address, and no certificate, is to blame."""
    done = fails(MLFLOW_TRACKING_URI=tracking.url.replace("http:", "https:"))

    assert done.error == f"the server speaks plain HTTP at this address; try {tracking.url}"


def test_client_certificate(
    run: Run, fails: Fails, tracking: Tracking, certificate: Path, tmp_path: Path
) -> None:
    """A server that asks for a client certificate gets it; without one, the variable is named."""
    own = proxies.make_certificate(tmp_path, "client")
    tls = proxies.server_tls(certificate, client=own)
    with proxies.proxy(tracking.url, tls=tls) as proxy:
        env = {
            "MLFLOW_TRACKING_URI": proxy.url,
            "MLFLOW_TRACKING_SERVER_CERT_PATH": str(certificate),
        }
        without = fails(**env)
        done = run("--dry-run", **env, MLFLOW_TRACKING_CLIENT_CERT_PATH=str(own))

    assert done.status == 0, done.stderr
    assert without.error == (
        f"{proxy.url} asks for a client certificate, or broke the connection; "
        "set MLFLOW_TRACKING_CLIENT_CERT_PATH to a file with the certificate and its key"
    )


def test_no_secret_anywhere(
    guarded: servers.Server, plain_env: dict[str, str], tmp_path: Path
) -> None:
    """A login in the address is in no output, file, metadata or process list."""
    home, temporary = tmp_path / "bentoml", tmp_path / "tmp"
    temporary.mkdir()
    env = plain_env | {
        "BENTOML_HOME": str(home),
        "TMPDIR": str(temporary),
        "MLFLOW_TRACKING_URI": guarded.url.replace("://", f"://{ADMIN}:{IN_AN_ADDRESS}@"),
    }
    processes: set[bytes] = set()
    with subprocess.Popen(
        [sys.executable, "import_model.py"],
        cwd=servers.ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        while process.poll() is None:
            processes |= _command_lines()
            time.sleep(0.1)
        out, err = process.communicate()

    assert process.returncode == 0, err
    assert any(b"import_model.py" in line for line in processes)
    assert f"through {guarded.url}\n".encode() in err
    contents = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(contents) > 8
    encoded = base64.b64encode(f"{ADMIN}:{PASSWORD}".encode())
    for secret in (PASSWORD.encode(), IN_AN_ADDRESS.encode(), encoded, b"hidden"):
        for place in (out, err, guarded.log.read_bytes(), *processes, *contents):
            assert secret not in place


def test_no_secret_in_a_failure(
    run: Run, fails: Fails, guarded: servers.Server, store: Path, tmp_path: Path
) -> None:
    """No error repeats the login of the address, whether the server answers or not."""
    url = guarded.url.replace("://", f"://{ADMIN}:{IN_AN_ADDRESS}@")
    for address in (
        f"http://{ADMIN}:{IN_AN_ADDRESS}@127.0.0.1:{servers.free_port()}",
        guarded.url.replace("://", f"://{ADMIN}:hidden-guess@"),
        url.replace("http:", "https:"),
        url.replace("http:", "ftp:"),
    ):
        fails(MLFLOW_TRACKING_URI=address)
    fails(MLFLOW_TRACKING_URI=url, MLFLOW_TRACKING_CLIENT_CERT_PATH=str(tmp_path / "none"))
    answered = run("models:/Nobody/1", MLFLOW_TRACKING_URI=url)

    assert answered.status == 1
    assert "hidden" not in answered.stdout + answered.stderr
    assert snapshot(store) == {}


def _command_lines() -> set[bytes]:
    """Return the arguments of all processes that this user may see."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended
            found.add(path.read_bytes())
    return found

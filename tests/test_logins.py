"""Every login that MLflow knows works, and none is ever to be seen."""

import base64
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import Tracking
from support import proxies, servers
from support.guarded import ADMIN, guarded_server
from support.inprocess import Run, runner, snapshot
from support.proxies import Certificate

pytestmark = pytest.mark.thorough

PASSWORD = "hidden-pass/word@1 %"
"""With characters that have a meaning in an address."""

IN_AN_ADDRESS = "hidden-pass%2Fword%401%20%25"
TOKEN = "hidden-token-0123456789"


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
    """Give the path of an empty BENTOML_HOME."""
    return tmp_path / "bentoml"


@pytest.fixture
def run(
    plain_env: dict[str, str],
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Give the command line, in this process, with a store of its own and no login."""
    env = plain_env | {"BENTOML_HOME": str(store), "HOME": str(tmp_path)}
    return runner(env, monkeypatch, capsys)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Give a self-signed certificate of the server."""
    return proxies.make_certificate(tmp_path_factory.mktemp("tls"), "server")


@pytest.fixture(scope="module")
def client_certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Give a certificate of a client."""
    return proxies.make_certificate(tmp_path_factory.mktemp("tls"), "client")


@pytest.fixture(scope="module")
def secure(tracking: Tracking, certificate: Certificate) -> Iterator[proxies.Proxy]:
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

    assert done.status == 0, done.err
    assert done.out.startswith("irismodel:v1-")


def test_file_of_credentials(run: Run, guarded: servers.Server, tmp_path: Path) -> None:
    """MLflow's own file is read, and a broken one is not quoted."""
    path = tmp_path / ".mlflow" / "credentials"
    path.parent.mkdir()
    password = PASSWORD.replace("%", "%%")
    path.write_text(
        f"[mlflow]\nmlflow_tracking_username = {ADMIN}\nmlflow_tracking_password = {password}\n"
    )
    read = run("--dry-run", MLFLOW_TRACKING_URI=guarded.url)
    path.write_text(f"[mlflow]\nmlflow_tracking_password {PASSWORD}\n")
    broken = run(MLFLOW_TRACKING_URI=guarded.url)

    assert read.status == 0, read.err
    assert broken.status == 1
    assert broken.last == "error: ~/.mlflow/credentials cannot be read; mend or remove it"
    assert "hidden" not in broken.err


def test_no_login(run: Run, guarded: servers.Server, store: Path) -> None:
    """A server that asks for a login names the variables."""
    done = run(MLFLOW_TRACKING_URI=guarded.url)

    assert done.status == 1
    assert done.out == ""
    assert done.last == (
        f"error: {guarded.url} asks for a login (HTTP 401); set MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    )
    assert not store.exists()


def test_wrong_password(run: Run, guarded: servers.Server, store: Path) -> None:
    """A refused login is not tried again."""
    done = run(
        MLFLOW_TRACKING_URI=guarded.url,
        MLFLOW_TRACKING_USERNAME=ADMIN,
        MLFLOW_TRACKING_PASSWORD="hidden-guess",
    )

    assert done.status == 1
    assert done.out == ""
    assert done.err.splitlines() == [
        "importing models:/IrisModel/Production",
        (
            f"error: {guarded.url} refuses the login (HTTP 401); set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        ),
    ]
    assert not store.exists()


def test_no_permission(run: Run, guarded: servers.Server, store: Path) -> None:
    """A user who may not read the model."""
    done = run(
        MLFLOW_TRACKING_URI=guarded.url,
        MLFLOW_TRACKING_USERNAME="stranger",
        MLFLOW_TRACKING_PASSWORD=PASSWORD,
    )

    assert done.status == 1
    assert done.out == ""
    assert done.last == (
        f"error: {guarded.url} denies this login the access (HTTP 403); "
        "ask for READ permission on the registered model and its experiment"
    )
    assert not store.exists()


def test_token(run: Run, tracking: Tracking) -> None:
    """A token is sent with each request, and another one is refused."""
    with proxies.proxy(tracking.url, authorization=f"Bearer {TOKEN}") as proxy:
        done = run("--dry-run", MLFLOW_TRACKING_URI=proxy.url, MLFLOW_TRACKING_TOKEN=TOKEN)
        other = run(MLFLOW_TRACKING_URI=proxy.url, MLFLOW_TRACKING_TOKEN="hidden-other")

    assert done.status == 0, done.err
    assert other.status == 1
    assert other.last.startswith(f"error: {proxy.url} refuses the login (HTTP 401); set ")
    assert "hidden" not in done.out + done.err + other.err


@pytest.mark.parametrize("token", ["hidden\ntoken", "hidden€token"])
def test_token_that_no_header_can_carry(run: Run, tracking: Tracking, token: str) -> None:
    """A line break at the end of a copied token is told, without the token."""
    done = run(MLFLOW_TRACKING_URI=tracking.url, MLFLOW_TRACKING_TOKEN=token)

    assert done.status == 1
    assert done.last == (
        "error: the login has characters that no HTTP header can carry, such as a line break; "
        "look at MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD and MLFLOW_TRACKING_TOKEN"
    )
    assert "hidden" not in done.err


def test_self_signed_certificate(run: Run, secure: proxies.Proxy, store: Path) -> None:
    """A certificate that nobody vouches for is refused at once, and both variables are named."""
    done = run(MLFLOW_TRACKING_URI=secure.url, MLFLOW_TRACKING_TOKEN=TOKEN)

    assert done.status == 1
    assert done.out == ""
    assert done.last == (
        f"error: the certificate of {secure.url} is not trusted (self-signed certificate); "
        "set MLFLOW_TRACKING_SERVER_CERT_PATH to the authority that signed it, "
        "or MLFLOW_TRACKING_INSECURE_TLS=true to skip the check"
    )
    assert "again" not in done.err
    assert secure.asked == []
    assert not store.exists()


def test_server_certificate(run: Run, secure: proxies.Proxy, certificate: Certificate) -> None:
    """The certificate of the server's authority is trusted."""
    done = run(
        "--dry-run",
        MLFLOW_TRACKING_URI=secure.url,
        MLFLOW_TRACKING_SERVER_CERT_PATH=str(certificate.certificate),
    )

    assert done.status == 0, done.err


def test_insecure_tls(run: Run, secure: proxies.Proxy) -> None:
    """The check can be skipped."""
    done = run("--dry-run", MLFLOW_TRACKING_URI=secure.url, MLFLOW_TRACKING_INSECURE_TLS="true")

    assert done.status == 0, done.err
    assert "warning" not in done.err.lower()


def test_variables_that_cannot_be(
    run: Run, secure: proxies.Proxy, certificate: Certificate, tmp_path: Path
) -> None:
    """Certificates that contradict, are not there, or are none."""
    both = run(
        MLFLOW_TRACKING_URI=secure.url,
        MLFLOW_TRACKING_INSECURE_TLS="true",
        MLFLOW_TRACKING_SERVER_CERT_PATH=str(certificate.certificate),
    )
    missing = run(
        MLFLOW_TRACKING_URI=secure.url, MLFLOW_TRACKING_SERVER_CERT_PATH=f"{tmp_path}/none.pem"
    )
    (tmp_path / "text.pem").write_text("text")
    text = run(
        MLFLOW_TRACKING_URI=secure.url, MLFLOW_TRACKING_SERVER_CERT_PATH=f"{tmp_path}/text.pem"
    )

    assert [done.status for done in (both, missing, text)] == [1, 1, 1]
    assert both.last == (
        "error: MLFLOW_TRACKING_INSECURE_TLS and MLFLOW_TRACKING_SERVER_CERT_PATH contradict each "
        "other; unset one of them"
    )
    assert missing.last == (
        "error: MLFLOW_TRACKING_SERVER_CERT_PATH names a file that is not there: "
        f"{tmp_path}/none.pem"
    )
    assert text.last.startswith(f"error: no TLS connection to {secure.url} (")
    assert text.last.endswith("MLFLOW_TRACKING_CLIENT_CERT_PATH name PEM files?")


def test_https_of_a_server_that_speaks_http(run: Run, tracking: Tracking) -> None:
    """No certificate is to blame where there is none."""
    url = tracking.url.replace("http:", "https:")
    done = run(MLFLOW_TRACKING_URI=url)

    assert done.status == 1
    assert done.last == (f"error: the server speaks plain HTTP at this address; try {tracking.url}")


def test_client_certificate(
    run: Run, tracking: Tracking, certificate: Certificate, client_certificate: Certificate
) -> None:
    """A server that asks for a client certificate gets it, and without it the variable is named."""
    tls = proxies.server_tls(certificate, client=client_certificate)
    with proxies.proxy(tracking.url, tls=tls) as proxy:
        env = {
            "MLFLOW_TRACKING_URI": proxy.url,
            "MLFLOW_TRACKING_SERVER_CERT_PATH": str(certificate.certificate),
        }
        done = run(
            "--dry-run", **env, MLFLOW_TRACKING_CLIENT_CERT_PATH=str(client_certificate.both)
        )
        without = run(**env)

    assert done.status == 0, done.err
    assert without.status == 1
    assert without.last == (
        f"error: {proxy.url} asks for a client certificate, or broke the connection; "
        "set MLFLOW_TRACKING_CLIENT_CERT_PATH to a file with the certificate and its key"
    )


def test_no_secret_anywhere(
    guarded: servers.Server, plain_env: dict[str, str], tmp_path: Path
) -> None:
    """A login in the address is in no output, file, metadata or process list."""
    home, temporary = tmp_path / "bentoml", tmp_path / "tmp"
    temporary.mkdir()
    url = guarded.url.replace("://", f"://{ADMIN}:{IN_AN_ADDRESS}@")
    env = plain_env | {
        "BENTOML_HOME": str(home),
        "TMPDIR": str(temporary),
        "MLFLOW_TRACKING_URI": url,
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
    run: Run, guarded: servers.Server, store: Path, tmp_path: Path
) -> None:
    """No error repeats the login of the address, whether the server answers or not."""
    closed = f"http://{ADMIN}:{IN_AN_ADDRESS}@127.0.0.1:{servers.free_port()}"
    other = guarded.url.replace("://", f"://{ADMIN}:hidden-guess@")
    url = guarded.url.replace("://", f"://{ADMIN}:{IN_AN_ADDRESS}@")
    failures = [
        run(MLFLOW_TRACKING_URI=closed),
        run(MLFLOW_TRACKING_URI=other),
        run("models:/Nobody/1", MLFLOW_TRACKING_URI=url),
        run(MLFLOW_TRACKING_URI=url.replace("http:", "https:")),
        run(MLFLOW_TRACKING_URI=url.replace("http:", "ftp:")),
        run(MLFLOW_TRACKING_URI=url, MLFLOW_TRACKING_CLIENT_CERT_PATH=str(tmp_path / "none")),
    ]

    assert [done.status for done in failures] == [1] * 6
    assert all("hidden" not in done.out + done.err for done in failures)
    assert snapshot(store) == {}


def _command_lines() -> set[bytes]:
    """Return the arguments of all processes that this user may see."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended
            found.add(path.read_bytes())
    return found

"""TLS by BentoML's own settings, in the two ways that docs/security.md shows."""

import re
import shlex
from pathlib import Path

import httpx
import pytest
from support import documentation, servers
from support.proxies import make_certificate

SECURITY = documentation.PAGES["docs/security.md"]
ROW = {"instances": [[5.1, 3.5, 1.4, 0.2]]}


def _shown(way: str, own: Path) -> tuple[list[str], dict[str, str]]:
    """Read the options or the variable of docs/security.md, with the paths of a certificate."""
    text = re.sub("/tls/(cert|key).pem", str(own), SECURITY)
    if way == "options":
        (line,) = re.findall(r"\nbentoml serve service:IrisClassifier (--ssl.*)\n", text)
        return shlex.split(line), {}
    (value,) = re.findall(r"\nBENTOML_CONFIG_OPTIONS='(.*ssl.*)'\n", text)
    return [], {"BENTOML_CONFIG_OPTIONS": value}


@pytest.mark.parametrize("way", ["options", pytest.param("variable", marks=pytest.mark.thorough)])
def test_tls(
    home: Path,
    plain_env: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    """Clients that trust the certificate get answers over TLS, and others get none."""
    own = make_certificate(tmp_path, "service")
    monkeypatch.setenv("SSL_CERT_FILE", str(own))
    options, variables = _shown(way, own)
    env = plain_env | variables
    env |= {
        "BENTOML_HOME": str(servers.copy_store(home, tmp_path / "home")),
        "IRIS_WORKERS": "2",  # which share the connections
    }
    with servers.bentoml_service(tmp_path / "log", *options, env=env, scheme="https") as server:
        answer = httpx.post(f"{server.url}/predict", json=ROW)
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(server.url.replace("https", "http") + "/health")
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(server.url)

    assert "exception" not in server.log.read_text()
    assert answer.status_code == 200
    assert answer.json() == {"predictions": ["setosa"]}
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"

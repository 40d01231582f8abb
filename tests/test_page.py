"""The pages, which load nothing from other hosts, and the headers of every answer."""

import re

import httpx
import pytest
from support import servers

HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Headers from OWASP's cheat sheet for REST; the test asserts the others one by one."""


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_from_here_only(client: httpx.Client, path: str) -> None:
    """Each page loads by relative paths, and browsers reject whatever is on other hosts."""
    page = client.get(path)
    assets = re.findall(r'(?:src|href)="(\./.*?)"', page.text)
    policy = page.headers["Content-Security-Policy"]
    directives = dict(part.split(" ", 1) for part in re.split("[;,] ", policy))

    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert {client.get(asset).status_code for asset in assets} == {200}
    assert len(assets) >= 4
    assert not re.search(r'(?:src|href)="(?!\./|data:)', page.text)
    assert directives == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "script-src": "'self'",
        "img-src": "'self' data:",
        "style-src": "'self' 'unsafe-inline'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_document_names_no_host(client: httpx.Client) -> None:
    """The console asks the service that it comes from, and no validator."""
    document = client.get("/docs.json")

    assert document.json()["servers"] == [{"url": "."}]
    assert "//" not in document.text
    assert 'url: "./docs.json"' in (script := client.get("/page/docs.js").text)
    assert "validatorUrl: null" in script


GET_PATHS = ("/page.json", "/page/page.js", "/docs", "/docs.json", "/health", "/model")


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        *(("GET", path, "", 200) for path in (*GET_PATHS, "/", "/metrics", "/livez", "/readyz")),
        ("POST", "/predict", '{"instances":[[5.1,3.5,1.4,0.2]]}', 200),
        ("POST", "/predict", "{", 400),
        ("GET", "/nothing", "", 404),
        ("GET", "/predict", "", 405),
        ("POST", "/health", "", 405),
        ("POST", "/predict", " " * 17_000_000, 413),
    ],
)
def test_headers(client: httpx.Client, method: str, path: str, content: str, status: int) -> None:
    """Every answer has the headers of a security scan, and none that names the server."""
    answer = client.request(method, path, content=content)

    assert answer.status_code == status
    for name, value in HEADERS.items():
        assert answer.headers.get_list(name) == [value]
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert "Content-Type" in answer.headers
    assert "Strict-Transport-Security" not in answer.headers  # there is no TLS
    assert not {"server", "x-powered-by"} & answer.headers.keys()


def test_headers_of_what_is_not_http(service: servers.Server) -> None:
    """The answer to a request that is not HTTP has them too, and a body of JSON."""
    with servers.connect(service) as connection:
        connection.sendall(b"\x16\x03\x01\r\n\r\n")
        head, _, body = servers.read(connection).partition(b"\r\n\r\n")

    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 400 Bad Request"
    assert {f"{name}: {value}" for name, value in HEADERS.items()} <= set(lines)
    assert {"connection: close", "content-type: application/json"} <= set(lines)
    assert body == b'{"error":"Invalid HTTP request received."}'

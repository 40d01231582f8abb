"""The page at /, which asks no other host, and the headers that every answer has."""

import re
import socket
from html.parser import HTMLParser

import httpx
import pytest
from support import servers

HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Of OWASP's cheat sheet for REST, beside those that are asserted below."""


class Assets(HTMLParser):
    """What a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the addresses of a tag."""
        del tag
        self.found += [value or "" for name, value in attrs if name in {"src", "href"}]


def test_page_loads_from_here_only(client: httpx.Client) -> None:
    """Each asset of the page is there, on this host, and what is ours names no other."""
    page = client.get("/")
    assets = Assets()
    assets.feed(page.text)
    answers = {asset: client.get(asset) for asset in assets.found}

    assert page.status_code == 200
    assert len(answers) == 4
    assert all(asset.startswith("./") for asset in answers)
    assert {answer.status_code for answer in answers.values()} == {200}
    script, styles = answers["./index.js"].text, answers["./static_content/swagger-ui.css"].text
    assert 'url: "./docs.json"' in script
    assert "validatorUrl: null" in script
    assert not re.search(r"//\w", page.text + script)
    assert not re.search(r"@import|url\((?!['\"]?data:)", styles)


def test_browsers_load_from_here_only(client: httpx.Client) -> None:
    """Whatever Swagger's script would ask elsewhere, browsers are told not to."""
    policy = client.get("/").headers["Content-Security-Policy"]
    directives = dict(part.split(" ", 1) for part in re.split("[;,] ", policy))

    assert directives == {
        "default-src": "'self'",
        "img-src": "'self' data:",
        "style-src": "'self' 'unsafe-inline'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_document_is_about_this_host(client: httpx.Client) -> None:
    """The OpenAPI document names no server but the one it comes from."""
    document = client.get("/docs.json")

    assert document.json()["servers"] == [{"url": "."}]
    assert "//" not in document.text


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/", "", 200),
        ("GET", "/index.js", "", 200),
        ("GET", "/static_content/swagger-ui.css", "", 200),
        ("GET", "/docs.json", "", 200),
        ("GET", "/health", "", 200),
        ("GET", "/model", "", 200),
        ("GET", "/metrics", "", 200),
        ("GET", "/livez", "", 200),
        ("GET", "/readyz", "", 200),
        ("POST", "/predict", '{"instances":[[5.1,3.5,1.4,0.2]]}', 200),
        ("POST", "/predict", "{", 400),
        ("GET", "/nothing", "", 404),
        ("GET", "/predict", "", 405),
        ("POST", "/health", "", 405),
        ("POST", "/predict", " " * 17_000_000, 413),
    ],
)
def test_headers(client: httpx.Client, method: str, path: str, content: str, status: int) -> None:
    """Every answer has the headers of a security scan, and does not tell what serves it."""
    answer = client.request(method, path, content=content)

    assert answer.status_code == status
    for name, value in HEADERS.items():
        assert answer.headers.get_list(name) == [value]
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert "Content-Type" in answer.headers
    assert "Strict-Transport-Security" not in answer.headers  # there is no TLS
    assert not {"server", "x-powered-by"} & answer.headers.keys()


def test_headers_of_what_is_not_http(service: servers.Server) -> None:
    """So has the answer to what is not HTTP, whose body is JSON as well."""
    address = httpx.URL(service.url)
    with socket.create_connection((address.host, address.port), timeout=30) as connection:
        connection.sendall(b"\x16\x03\x01\r\n\r\n")
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")

    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 400 Bad Request"
    assert {f"{name}: {value}" for name, value in HEADERS.items()} <= set(lines)
    assert {"connection: close", "content-type: application/json"} <= set(lines)
    assert body == b'{"error":"Invalid HTTP request received."}'

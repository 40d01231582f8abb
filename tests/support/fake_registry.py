"""A tracking server that says whatever a test wants, and a host that nobody should ever call."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

API = "/api/2.0/mlflow/"
PROXY = "/api/2.0/mlflow-artifacts/artifacts"
ROOT = "1/models/m-0123/artifacts"

VERSION = {
    "name": "IrisModel",
    "version": "1",
    "current_stage": "Production",
    "aliases": ["champion"],
    "run_id": "0" * 32,
    "source": "models:/m-0123",
    "status": "READY",
}

MISSING = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No such thing here"}

Handler = BaseHTTPRequestHandler
Answer = Callable[[Handler], None]


class FakeRegistry:
    """The few endpoints that an import asks, over a dictionary of files.

    Attributes:
        url: of the server.
        files: what the proxy serves, by the path below the model's folder.
        answers: what is said in the place of the usual answer, by what is asked: an endpoint such
            as `model-versions/get`, `list/FOLDER` or `file/PATH`; bytes, a JSON value, or a
            function that writes the answer itself.
        delay: seconds before each answer.
        seen: path and Authorization header of each request.
    """

    def __init__(self, url: str, files: Mapping[str, bytes]) -> None:
        self.url = url
        self.files = dict(files)
        self.answers: dict[str, Any] = {}
        self.delay = 0.0
        self.seen: list[tuple[str, str | None]] = []

    def answer(self, handler: Handler) -> None:
        """Answer one request."""
        self.seen.append((handler.path, handler.headers["Authorization"]))
        time.sleep(self.delay)
        asked, usual = self._find(handler)
        answer = self.answers.get(asked, usual)
        if callable(answer):
            answer(handler)
        elif answer is None:
            send(handler, json.dumps(MISSING).encode(), status=404)
        else:
            send(handler, answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def _find(self, handler: Handler) -> tuple[str, Any]:
        parts = urlsplit(handler.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path == PROXY:
            below = query["path"].removeprefix(ROOT).strip("/")
            return f"list/{below}", self._listing(below)
        if parts.path.startswith(PROXY):
            path = unquote(parts.path).removeprefix(f"{PROXY}/{ROOT}/")
            return f"file/{path}", self.files.get(path)
        endpoint = parts.path.removeprefix(API)
        version = VERSION | {key: query[key] for key in ("name", "version") if key in query}
        return endpoint, {
            "model-versions/get": {"model_version": version},
            "registered-models/alias": {"model_version": version},
            "registered-models/get-latest-versions": {"model_versions": [version]},
            "model-versions/get-download-uri": {"artifact_uri": f"mlflow-artifacts:/{ROOT}"},
            "runs/get": {"run": {"data": {"metrics": [{"key": "accuracy", "value": 0.97}]}}},
        }.get(endpoint)

    def _listing(self, below: str) -> dict[str, Any]:
        start = f"{below}/" if below else ""
        found: dict[str, Any] = {}
        for path, content in self.files.items():
            if path.startswith(start):
                name, *deeper = path.removeprefix(start).split("/")
                found[name] = (
                    {"path": name, "is_dir": True}
                    if deeper
                    else {"path": name, "is_dir": False, "file_size": len(content)}
                )
        return {"files": list(found.values())}


def send(handler: Handler, body: bytes, status: int = 200, **headers: str) -> None:
    """Send a whole answer."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def endless(piece: bytes, status: int = 200, pause: float = 0) -> Answer:
    """Make an answer whose body never ends."""

    def answer(handler: Handler) -> None:
        handler.send_response(status)
        handler.end_headers()
        while True:
            handler.wfile.write(piece)
            time.sleep(pause)

    return answer


def cut_off(piece: bytes, status: int = 200) -> Answer:
    """Make an answer that ends before the length that it promises."""

    def answer(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(piece) + 1000))
        handler.end_headers()
        handler.wfile.write(piece)

    return answer


def redirect(url: str, status: int = 302) -> Answer:
    """Make an answer that sends the client elsewhere."""
    return lambda handler: send(handler, b"", status, Location=url)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing: that a client hangs up in the middle is what these tests are for."""


@contextlib.contextmanager
def fake_registry(files: Mapping[str, bytes]) -> Iterator[FakeRegistry]:
    """Run a tracking server in a thread."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.answer(self)

        do_POST = do_HEAD = do_PUT = do_GET  # noqa: N815 (http.server's names)

        def log_message(self, *_: object) -> None:
            pass

    with _Server(("127.0.0.1", 0), Answering) as server:
        registry = FakeRegistry(f"http://127.0.0.1:{server.server_port}", files)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()

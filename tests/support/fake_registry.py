"""A tracking server that answers whatever a test wants."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from support.http_server import QuietHandler, http_server

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

Answer = Callable[[QuietHandler], None]


class FakeRegistry:
    """The endpoints that an import calls, over a dictionary of files.

    Attributes:
        url: The address of the server.
        files: The content of each file, by its path below the model's folder.
        answers: Answers that replace the usual ones, by the request: an endpoint such as
            `model-versions/get`, `list/FOLDER` or `file/PATH`. An answer is bytes, a JSON value,
            or a function that writes it.
        delay: Seconds before each answer.
        seen: Path and Authorization header of each request.
    """

    def __init__(self, url: str, files: Mapping[str, bytes]) -> None:
        self.url = url
        self.files = dict(files)
        self.answers: dict[str, Any] = {}
        self.delay = 0.0
        self.seen: list[tuple[str, str | None]] = []

    def answer(self, handler: QuietHandler) -> None:
        """Answer one request."""
        self.seen.append((handler.path, handler.headers["Authorization"]))
        time.sleep(self.delay)
        asked, usual = self._find(handler)
        answer = self.answers.get(asked, usual)
        if callable(answer):
            answer(handler)
        elif answer is None:
            handler.send(json.dumps(MISSING).encode(), 404)
        else:
            handler.send(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def _find(self, handler: QuietHandler) -> tuple[str, Any]:
        parts = urlsplit(handler.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path == PROXY:
            below = query["path"].removeprefix(ROOT).strip("/")
            return f"list/{below}", self.listing(below)
        if parts.path.startswith(PROXY):
            path = unquote(parts.path).removeprefix(f"{PROXY}/{ROOT}/")
            return f"file/{path}", self.files.get(path)
        endpoint = parts.path.removeprefix(API)
        version = VERSION | {key: query[key] for key in ("name", "version") if key in query}
        return endpoint, {
            "model-versions/get": {"model_version": version},
            "registered-models/alias": {"model_version": version},
            "registered-models/get-latest-versions": {"model_versions": [version]},
            "model-versions/search": {"model_versions": [version]},
            "model-versions/get-download-uri": {"artifact_uri": f"mlflow-artifacts:/{ROOT}"},
            "runs/get": {"run": {"data": {"metrics": [{"key": "accuracy", "value": 0.97}]}}},
        }.get(endpoint)

    def listing(self, below: str = "") -> dict[str, Any]:
        """Return what the proxy lists in a folder."""
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


def endless(piece: bytes, status: int = 200, pause: float = 0) -> Answer:
    """Make an answer whose body never ends."""

    def answer(handler: QuietHandler) -> None:
        handler.send_response(status)
        handler.end_headers()
        while True:
            handler.wfile.write(piece)
            time.sleep(pause)

    return answer


def cut_off(piece: bytes) -> Answer:
    """Make an answer that ends before the length that it promises."""
    return lambda handler: handler.send(piece, Content_Length=str(len(piece) + 1000))


@contextlib.contextmanager
def fake_registry(files: Mapping[str, bytes]) -> Iterator[FakeRegistry]:
    """Run a tracking server in a thread."""

    class Answering(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 (http.server's name)
            registry.answer(self)

        do_POST = do_HEAD = do_PUT = do_GET  # noqa: N815 (http.server's names)

    with http_server(Answering) as url:
        registry = FakeRegistry(url, files)
        yield registry

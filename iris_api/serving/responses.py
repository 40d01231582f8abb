"""Responses: JSON for every answer and every error, and the headers that each of them has."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from iris_api.protocols.problems import Problem, error_body

CLOSE = {"Connection": "close"}
"""The header of an answer before the end of a body, whose rest is not read."""

SECURITY = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]
"""The headers of every answer, from OWASP's cheat sheet for REST."""

STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000")
"""The header with TLS: browsers use nothing else for a year."""


class JSONResponse(Response):
    """A response with a body that is already written: JSON, if no other media type is given.

    Starlette's own way to write the headers takes three times as long.
    """

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Write the headers."""
        self.raw_headers = [
            *((name.lower().encode(), value.encode()) for name, value in (headers or {}).items()),
            (b"content-length", b"%d" % len(self.body)),
            (b"content-type", (self.media_type or "application/json").encode()),
        ]


def json_response(
    content: Any, headers: Mapping[str, str] | None = None, *, status: int = 200
) -> Response:
    """Answer with JSON."""
    return JSONResponse(orjson.dumps(content), status, headers)


def error_response(
    status: int,
    message: str,
    detail: Sequence[Problem] = (),
    headers: Mapping[str, str] | None = None,
    *,
    path: str = "",
) -> Response:
    """Answer with an error in the shape of the protocol that a path belongs to."""
    return json_response(error_body(path, status, message, detail), headers, status=status)


async def error_page(request: Request, error: Exception) -> Response:
    """Answer the errors of routing with JSON; starlette answers with plain text."""
    if not isinstance(error, HTTPException):
        raise error
    headers = None
    text = HTTPStatus(error.status_code).phrase
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        headers = {"Allow": allowed}
        text = f"{request.method} is not possible here; use {allowed}"
    elif error.status_code == HTTPStatus.NOT_FOUND:
        text = "there is nothing at this path; GET /docs.json lists what there is"
    return error_response(error.status_code, text, headers=headers, path=request.scope["path"])


async def server_error(request: Request, _error: Exception) -> Response:
    """Answer an unexpected error; starlette raises it again, into the log."""
    text = "the service failed; its log says why"
    return error_response(500, text, path=request.scope["path"])

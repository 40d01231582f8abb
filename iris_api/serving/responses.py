"""HTTP as the contract has it: what a prediction call may send, and JSON for every error."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from bentoml import IODescriptor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from iris_api.protocols.messages import InvalidRequestError
from iris_api.settings import settings

NOT_JSON = "send JSON, with Content-Type: application/json"


class ClientLeftError(InvalidRequestError):
    """A body without its end, because the client closed the connection."""


CLOSE = {"Connection": "close"}
"""Of an answer that comes before the end of a body, whose rest the server would read otherwise."""

Headers = list[tuple[bytes, bytes]]


class PredictRequest(IODescriptor):
    """The keyword arguments of BentoML's clients: one flower by name, or instances."""

    # BentoML hands what from_http_request returns to the method: here the request itself, whose
    # body is parsed once, by `parsing.parse_rows`.
    __root_input__ = True

    instances: list[Any] | None = None
    sepal_length: float | None = None
    sepal_width: float | None = None
    petal_length: float | None = None
    petal_width: float | None = None

    @classmethod
    async def from_http_request(cls, request: Request, _serde: Any) -> Request:
        """Leave the body alone."""
        return request

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Describe keyword arguments, where BentoML would have its clients send one positional."""
        schema: dict[str, Any] = super().model_json_schema(*args, **kwargs)
        schema.pop("root_input", None)
        return schema


async def read_json(request: Request, kept: Callable[[int], None] | None = None) -> bytes:
    """Read the body of a request that says it is JSON, or does not say.

    Args:
        request: whose body has not been read.
        kept: is told the bytes of each part that came.

    Raises:
        InvalidRequestError: it says that it is something else, or it is too large, in which case
            the rest is not read.
        ClientLeftError: the client left.
    """
    limit = settings().max_body_bytes
    # The raw list, because an object for the headers costs as much as reading the body.
    for name, value in request.scope["headers"]:
        if name == b"content-type" and not _is_json(value):
            raise InvalidRequestError(NOT_JSON, status=415)
        if name == b"content-length" and int(value) > limit:
            raise _too_large(limit)
    body = bytearray()
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError("the client left before the end of its body")
        part = message["body"]
        body += part
        if len(body) > limit:
            raise _too_large(limit)
        if kept:
            kept(len(part))
        more = message["more_body"]
    return bytes(body)


def _too_large(limit: int) -> InvalidRequestError:
    return InvalidRequestError(f"the body has more than {limit} bytes; send several", status=413)


def _is_json(media_type: bytes) -> bool:
    return media_type.partition(b";")[0].strip().lower() == b"application/json"


class _JSON(Response):
    """Starlette's response, whose general way to its headers takes three times as long."""

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Write the headers of an answer that has a body, and is JSON."""
        self.raw_headers = [
            *((name.lower().encode(), value.encode()) for name, value in (headers or {}).items()),
            (b"content-length", b"%d" % len(self.body)),
            (b"content-type", b"application/json"),
        ]


def json_response(
    content: Any, headers: dict[str, str] | None = None, *, status: int = 200
) -> Response:
    """Answer with JSON; numpy arrays are written without a Python object for each number."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return _JSON(body, status, headers)


def invalid_request(error: InvalidRequestError) -> Response:
    """Answer a request that breaks the contract."""
    too_large = error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return error_response(error.status, str(error), error.detail, CLOSE if too_large else None)


def error_response(
    status: int, message: str, detail: Sequence[Any] = (), headers: dict[str, str] | None = None
) -> Response:
    """Answer with the one shape that all errors have."""
    content = {"error": message} | ({"detail": detail} if detail else {})
    return json_response(content, headers, status=status)


def security_headers(*, tls: bool) -> Headers:
    """Return the headers of every answer, which OWASP's cheat sheet for REST asks for.

    Args:
        tls: whether the service speaks it, and browsers shall stay with it for a year.
    """
    headers = [
        (b"cache-control", b"no-store"),
        (b"content-security-policy", b"frame-ancestors 'none'"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
    ]
    return [*headers, (b"strict-transport-security", b"max-age=31536000")] if tls else headers


def to_bytes(response: Response, headers: Headers) -> bytes:
    """Write a response as it goes over a connection, with more headers."""
    status = HTTPStatus(response.status_code)
    lines = [f"HTTP/1.1 {status} {status.phrase}".encode()]
    lines += [name + b": " + value for name, value in (*headers, *response.raw_headers)]
    return b"\r\n".join((*lines, b"", bytes(response.body)))


async def error_page(request: Request, error: Exception) -> Response:
    """Give the errors of routing, which are plain text, our shape."""
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        text = f"{request.method} is not possible here; use {allowed}"
        return error_response(error.status_code, text, headers={"Allow": allowed})
    if error.status_code == HTTPStatus.NOT_FOUND:
        text = "there is nothing at this path; GET /docs.json lists what there is"
        return error_response(error.status_code, text)
    return error_response(error.status_code, HTTPStatus(error.status_code).phrase)


async def server_error(_request: Request, _error: Exception) -> Response:
    """Answer for a fault of ours; Starlette raises it on, into the log."""
    return error_response(500, "the service failed; its log says why")

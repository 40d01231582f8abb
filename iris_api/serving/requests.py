"""Requests of prediction calls: what they may send, and their body, read within limits."""

from collections.abc import Callable
from typing import Any

from bentoml import IODescriptor
from starlette.requests import ClientDisconnect, Request

from iris_api.protocols.problems import InvalidRequestError


class PredictRequest(IODescriptor):
    """The keyword arguments of BentoML's clients: one flower by name, or instances."""

    # BentoML passes what from_http_request returns to the method: here the request itself, whose
    # body the protocol parses.
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
        """Describe keyword arguments; BentoML would have its clients send one positional."""
        schema: dict[str, Any] = super().model_json_schema(*args, **kwargs)
        schema.pop("root_input", None)
        return schema


async def read_json(
    request: Request, max_bytes: int, received: Callable[[int], None] | None = None
) -> bytes:
    """Read the body of a request whose content type is JSON, or is missing.

    Args:
        request: its body has not been read.
        max_bytes: maximum size of the body.
        received: called with the size of each part.

    Raises:
        InvalidRequestError: the content type is another one, or the body is too large, in which
            case the rest of it is not read.
        ClientDisconnect: the client closed the connection before the end of the body.
    """
    # The raw list: starlette's object for the headers takes as long as reading the body.
    for name, value in request.scope["headers"]:
        if name == b"content-type" and not _is_json(value):
            text = "send JSON, with Content-Type: application/json"
            raise InvalidRequestError(text, status=415)
        if name == b"content-length" and int(value) > max_bytes:
            raise _too_large(max_bytes)
    body = bytearray()
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message["body"]
        body += part
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        if received:
            received(len(part))
        more = message["more_body"]
    return bytes(body)


def _too_large(limit: int) -> InvalidRequestError:
    return InvalidRequestError(f"the body has more than {limit} bytes; send several", status=413)


def _is_json(media_type: bytes) -> bool:
    return media_type.partition(b";")[0].strip().lower() == b"application/json"

"""Handlers of prediction calls: a request comes in, its response goes out."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from time import perf_counter

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from iris_api.model.loaded_model import Model
from iris_api.protocols import native
from iris_api.protocols.problems import InvalidRequestError
from iris_api.serving.admission import WHOLE_BODY, Admission, OverloadedError
from iris_api.serving.api_keys import ApiKeys
from iris_api.serving.hot_swap import HotSwap
from iris_api.serving.responses import CLOSE, RETRY, JSONResponse, error_response
from iris_api.settings import Settings
from iris_api.telemetry.instruments import Reason
from iris_api.telemetry.recording import Metrics
from iris_api.telemetry.traces import Tracing

REASONS: dict[int, Reason] = {
    HTTPStatus.BAD_REQUEST: "invalid_body",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
}
"""Labels of the metric of rejected calls, by the status of an invalid request."""

LONG_BODY_BYTES = 16 * 1024
"""Minimum size of a body, about 700 rows, that is computed in a thread.

A forest of 100 trees takes 2 ms for so many rows, in which the event loop would answer no other
request. The change to a thread takes 0.1 ms.
"""

UNAUTHORIZED = "send the header Authorization: Bearer, with one of the keys of this service"


class Handlers:
    """Answers prediction calls with the model that the worker serves when a request comes.

    Attributes:
        admission: the limits of this worker.
    """

    def __init__(self, models: HotSwap, metrics: Metrics, settings: Settings) -> None:
        self._models = models
        self._metrics = metrics
        self._max_body_bytes = settings.max_body_bytes
        self._max_rows = settings.max_rows
        self._timeout_seconds = settings.timeout_seconds
        self.admission = Admission(settings.max_concurrency, settings.max_body_bytes)
        self._keys = ApiKeys(settings.api_keys_file) if settings.api_keys_file else None
        self._tracing = Tracing(enabled=bool(settings.otlp_endpoint))
        self._parse = self._tracing.step("parse", native.parse_rows)
        self._infer = self._tracing.step("inference", Model.answer)
        self._write = self._tracing.step("serialize", native.write_answer)

    async def predict(self, request: Request) -> Response:
        """Answer with the label of each row."""
        return await self._answer(request, probabilities=False)

    async def predict_proba(self, request: Request) -> Response:
        """Answer with each class's probability for each row."""
        return await self._answer(request, probabilities=True)

    async def _answer(self, request: Request, *, probabilities: bool) -> Response:
        if self._keys is not None and not self._keys.allow(request.scope["headers"]):
            self._metrics.reject("unauthorized")
            return error_response(401, UNAUTHORIZED, headers={"WWW-Authenticate": "Bearer"})
        model = self._models.model
        if model is None:
            self._metrics.reject("no_model")
            return error_response(503, self._models.reason)
        if probabilities and not model.has_probabilities:
            self._metrics.reject("no_probabilities")
            return error_response(404, "this model gives no probabilities; use POST /predict")
        self._tracing.note_version(model.version)
        try:
            return await self._within_limits(model, request, probabilities)
        except InvalidRequestError as error:
            self._metrics.reject(REASONS[error.status])
            headers = CLOSE if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else None
            return error_response(error.status, str(error), error.detail, headers)
        except ClientDisconnect:
            self._metrics.reject("disconnected")
            return error_response(400, "the client left before the end of its body")
        except OverloadedError as error:
            self._metrics.reject("overloaded")
            return error_response(429, str(error), headers=RETRY | CLOSE)
        except TimeoutError:
            self._metrics.reject("timeout")
            whole = WHOLE_BODY in request.scope
            what = "answer was not computed" if whole else "body was not received"
            text = f"the {what} within {self._timeout_seconds:g} s"
            return error_response(504, text, headers=CLOSE)

    async def _within_limits(self, model: Model, request: Request, probabilities: bool) -> Response:
        if is_received := WHOLE_BODY in request.scope:
            body = await _read_json(request, self._max_body_bytes)
            if len(body) <= LONG_BODY_BYTES:
                # Without a timer, which would never expire.
                return self._compute(model, body, probabilities)
        async with asyncio.timeout(self._timeout_seconds):
            if not is_received:
                async with self.admission.uploading(request.scope) as received:
                    body = await _read_json(request, self._max_body_bytes, received)
                if len(body) <= LONG_BODY_BYTES:
                    return self._compute(model, body, probabilities)
            return await self.admission.compute(self._compute, model, body, probabilities)

    def _compute(self, model: Model, body: bytes, probabilities: bool) -> Response:
        rows = self._parse(body, self._max_rows)
        start = perf_counter()
        answer = self._infer(model, rows, probabilities=probabilities)
        self._metrics.observe(model, rows, answer, perf_counter() - start)
        content = self._write(model, answer, probabilities=probabilities)
        return JSONResponse(content, headers={"X-Model-Version": str(model.version)})


async def _read_json(
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

"""Handlers of prediction calls: a request comes in, its response goes out."""

import asyncio
from collections.abc import Callable
from time import perf_counter

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from iris_api.model.loaded_model import Model
from iris_api.protocols.native import NativeProtocol, write_answer
from iris_api.protocols.problems import InvalidRequestError
from iris_api.serving.admission import RETRY, WHOLE_BODY, Admission, OverloadedError
from iris_api.serving.api_keys import ApiKeys
from iris_api.serving.hot_swap import HotSwap, Served
from iris_api.serving.responses import CLOSE, JSONResponse, error_response
from iris_api.settings import Settings
from iris_api.telemetry.instruments import Reason
from iris_api.telemetry.recording import Metrics
from iris_api.telemetry.traces import Tracing

REASON_OF_STATUS: dict[int, Reason] = {
    400: "invalid_body",
    413: "too_large",
    415: "unsupported_media_type",
}
"""Labels of the metric of rejected calls, by the status of an invalid request."""

JSON = b"application/json"

LONG_BODY_BYTES = 16 * 1024
"""Minimum size of a body, about 700 rows, that is computed in a thread. The change takes 0.1 ms; a
forest of 100 trees takes 2 ms, in which the event loop would answer no other request."""


class Handlers:
    """Answers prediction calls with the model that the worker serves when a request comes."""

    def __init__(self, models: HotSwap, metrics: Metrics, settings: Settings) -> None:
        self._models = models
        self._metrics = metrics
        self._settings = settings
        self.admission = Admission(settings.max_concurrency, settings.max_body_bytes)
        self._keys = ApiKeys(settings.api_keys_file) if settings.api_keys_file else None
        self._tracing = Tracing()
        self._parse = self._tracing.step("parse", NativeProtocol.parse_rows)
        self._infer = self._tracing.step("inference", Model.answer)
        self._write = self._tracing.step("serialize", write_answer)

    async def answer(self, request: Request, *, probabilities: bool) -> Response:
        """Answer with the label of each row, or with each class's probability."""
        if self._keys is not None and not self._keys.allow(request.scope["headers"]):
            self._metrics.reject("unauthorized")
            text = "send the header Authorization: Bearer, with one of the keys of this service"
            return error_response(401, text, headers={"WWW-Authenticate": "Bearer"})
        served = self._models.served
        if served is None:
            self._metrics.reject("no_model")
            return error_response(503, self._models.reason)
        model = served.model
        if probabilities and not model.has_probabilities:
            self._metrics.reject("no_probabilities")
            return error_response(404, "this model gives no probabilities; use POST /predict")
        self._tracing.note_version(model.version)
        try:
            return await self._within_limits(served, request, probabilities)
        except InvalidRequestError as error:
            self._metrics.reject(REASON_OF_STATUS[error.status])
            return error_response(error.status, str(error), error.detail)
        except ClientDisconnect:
            self._metrics.reject("disconnected")
            return error_response(400, "the client left before the end of its body")
        except OverloadedError as error:
            self._metrics.reject("overloaded")
            return error_response(429, str(error), headers=RETRY | _close(request))
        except TimeoutError:
            self._metrics.reject("timeout")
            whole = WHOLE_BODY in request.scope
            what = "answer was not computed" if whole else "body was not received"
            text = f"the {what} within {self._settings.timeout_seconds:g} s"
            return error_response(504, text, headers=_close(request))

    async def _within_limits(
        self, served: Served, request: Request, probabilities: bool
    ) -> Response:
        # Only uploads and long bodies need a timer, which takes time itself.
        until = asyncio.get_running_loop().time() + self._settings.timeout_seconds
        if WHOLE_BODY in request.scope:
            body = await self._read_json(request)
        else:
            uploading = self.admission.uploading(request.scope)
            async with asyncio.timeout_at(until), uploading as received:
                body = await self._read_json(request, received)
        if len(body) <= LONG_BODY_BYTES:
            return self._compute(served, body, probabilities)
        async with asyncio.timeout_at(until):
            return await self.admission.compute(self._compute, served, body, probabilities)

    def _compute(self, served: Served, body: bytes, probabilities: bool) -> Response:
        model = served.model
        rows = self._parse(served.native, body)
        start = perf_counter()
        answer = self._infer(model, rows, probabilities=probabilities)
        self._metrics.observe(model, rows, answer, perf_counter() - start)
        content = self._write(model, answer, probabilities=probabilities)
        return JSONResponse(content, headers={"X-Model-Version": str(model.version)})

    async def _read_json(
        self, request: Request, received: Callable[[int], None] | None = None
    ) -> bytes:
        """Read the body of a request whose content type is JSON, or is missing.

        Raises:
            InvalidRequestError: The content type is another one, or the body is too large, in
                which case the rest of it is not read.
            ClientDisconnect: The client closed the connection before the end of the body.
        """
        # The raw list: starlette's object for the headers takes as long as reading the body.
        for name, value in request.scope["headers"]:
            if name == b"content-type" and value.partition(b";")[0].strip().lower() != JSON:
                text = "send JSON, with Content-Type: application/json"
                raise InvalidRequestError(text, status=415)
            if name == b"content-length":
                self._check_size(int(value))
        body = bytearray()
        more = True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message["body"]
            self._check_size(len(body))
            if received:
                received(len(message["body"]))
            more = message["more_body"]
        return bytes(body)

    def _check_size(self, size: int) -> None:
        if size > (limit := self._settings.max_body_bytes):
            text = f"the body has more than {limit} bytes; send several"
            raise InvalidRequestError(text, status=413)


def _close(request: Request) -> dict[str, str]:
    """Return the header for a client that is still sending its body, which is no longer read."""
    return {} if WHOLE_BODY in request.scope else CLOSE

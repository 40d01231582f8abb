"""Handlers of prediction calls: a request comes in, its response goes out."""

import asyncio
import math
from collections.abc import Callable
from functools import partial
from time import perf_counter

import numpy as np
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Scope

from iris_api.model.engines import Answer, RowsError
from iris_api.model.loaded_model import Model
from iris_api.protocols.calls import Call, Headers, header
from iris_api.protocols.problems import InvalidRequestError, UnknownEncodingError
from iris_api.serving.admission import RETRY, WHOLE_BODY, Admission, OverloadedError
from iris_api.serving.api_keys import ApiKeys
from iris_api.serving.compression import PACKED, SHORT_BYTES, accepts, pack, unpack
from iris_api.serving.hot_swap import KINDS, HotSwap
from iris_api.serving.openapi import V2_VERSION
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

LONG_BODY_BYTES = 16 * 1024
"""Minimum size of a body, about 700 rows, that is computed in a thread. The change takes 0.1 ms; a
forest of 100 trees takes 2 ms, in which the event loop would answer no other request."""


class Handlers:
    """Answers prediction calls with the model that the worker serves when a request comes."""

    def __init__(self, models: HotSwap, metrics: Metrics, settings: Settings) -> None:
        self.models = models
        # The paths that need no router: all but the one with a version, which must be compared.
        direct = {path: kind for path, kind in KINDS.items() if path != V2_VERSION}
        self.kinds = {path.replace("{name}", models.name): direct[path] for path in direct}
        self._metrics = metrics
        self._settings = settings
        self.short_bytes = min(LONG_BODY_BYTES, settings.max_body_bytes)
        self.admission = Admission(settings.max_concurrency, settings.max_body_bytes)
        self._keys = ApiKeys(settings.api_keys_file) if settings.api_keys_file else None
        self._tracing = Tracing()
        self._parse = self._tracing.step("parse", lambda call, *request: call.parse(*request))
        self._infer = self._tracing.step("inference", Model.answer)
        self._write = self._tracing.step("serialize", lambda call, *found: call.write(*found))

    async def answer_route(self, request: Request, path: str) -> Response:
        """Answer a prediction call that came by the router to one of `KINDS`."""
        return await self.answer(request, KINDS[path])

    def answer_whole(self, scope: Scope, kind: type[Call], body: bytes) -> Response | None:
        """Answer a prediction call whose body is complete and short, at once.

        None means that it may take long: the body is compressed, or may have many missing cells.
        """
        call = self._admit(scope, kind)
        if isinstance(call, Response):
            return call
        headers = scope["headers"]
        try:
            packed = self._check_head(headers, call)
            is_quick = not packed and call.native.is_quick(body)
            return self._compute(call, body, headers) if is_quick else None
        except InvalidRequestError as wrong:
            return self._reject_body(scope, wrong)

    async def answer(self, request: Request, kind: type[Call]) -> Response:
        """Answer a prediction call whose body may still be uploading, or be long."""
        call = self._admit(request.scope, kind)
        if isinstance(call, Response):
            return call
        error = partial(error_response, path=request.scope["path"])
        try:
            return await self._within_limits(call, request)
        except InvalidRequestError as wrong:
            return self._reject_body(request.scope, wrong)
        except ClientDisconnect:
            self._metrics.reject("disconnected")
            return error(400, "the client left before the end of its body")
        except OverloadedError as overload:
            self._metrics.reject("overloaded")
            return error(429, str(overload), headers=RETRY | _close(request))
        except TimeoutError:
            self._metrics.reject("timeout")
            whole = WHOLE_BODY in request.scope
            what = "answer was not computed" if whole else "body was not received"
            text = f"the {what} within {self._settings.timeout_seconds:g} s"
            return error(504, text, headers=_close(request))

    def _admit(self, scope: Scope, kind: type[Call]) -> Call | Response:
        """Return the call to the model that answers now, or the rejection of the request."""
        error = partial(error_response, path=scope["path"])
        if self._keys is not None and not self._keys.allow(scope["headers"]):
            self._metrics.reject("unauthorized")
            text = "send the header Authorization: Bearer, with one of the keys of this service"
            return error(401, text, headers={"WWW-Authenticate": "Bearer"})
        served = self.models.served
        if served is None:
            self._metrics.reject("no_model")
            return error(503, self.models.reason)
        place = scope.get("path_params")
        if place and (reason := self.models.lacks(**place)):
            self._metrics.reject("unknown_model")
            return error(404, reason)
        if kind.needs_probabilities and not served.model.has_probabilities:
            self._metrics.reject("no_probabilities")
            what = "model" if served.model.classes else "regressor"
            return error(404, f"this {what} gives no probabilities; use POST /predict")
        self._tracing.note_version(served.model.version)
        return served.calls[kind]

    def _reject_body(self, scope: Scope, wrong: InvalidRequestError) -> Response:
        self._metrics.reject(REASON_OF_STATUS[wrong.status])
        return error_response(
            wrong.status, str(wrong), wrong.detail, wrong.headers, path=scope["path"]
        )

    async def _within_limits(self, call: Call, request: Request) -> Response:
        # Only uploads and long bodies need a timer, which takes time itself.
        until = asyncio.get_running_loop().time() + self._settings.timeout_seconds
        if WHOLE_BODY in request.scope:
            body, packed = await self._read(request, call)
        else:
            uploading = self.admission.uploading(request.scope)
            async with asyncio.timeout_at(until), uploading as received:
                body, packed = await self._read(request, call, received)
        headers = request.scope["headers"]
        if len(body) <= LONG_BODY_BYTES and not packed and call.native.is_quick(body):
            return self._compute(call, body, headers)
        compute = self._unpack_and_compute if packed else self._compute
        async with asyncio.timeout_at(until):
            return await self.admission.compute(compute, call, body, headers)

    def _unpack_and_compute(self, call: Call, body: bytes, headers: Headers) -> Response:
        return self._compute(call, unpack(body, self._settings.max_body_bytes), headers)

    def _compute(self, call: Call, body: bytes, headers: Headers) -> Response:
        model = call.model
        query = self._parse(call, body, headers)
        start = perf_counter()
        try:
            answer = self._infer(model, query.rows, probabilities=query.probabilities)
        except RowsError as error:
            raise InvalidRequestError(str(error)) from error
        _check_finite(answer)
        self._metrics.observe(model, query.rows, answer, perf_counter() - start)
        reply = self._write(call, query, answer)
        content, more = reply.content, {"X-Model-Version": str(model.version), **reply.headers}
        if len(content) > SHORT_BYTES and accepts(header(headers, b"accept-encoding") or b""):
            content, more = pack(content), more | PACKED
        return JSONResponse(content, 200, more, reply.media_type)

    async def _read(
        self, request: Request, call: Call, received: Callable[[int], None] | None = None
    ) -> tuple[bytes, bool]:
        """Read the body of a request.

        Returns:
            The body as it was sent, and whether it is compressed with gzip.

        Raises:
            InvalidRequestError: The head is wrong, or the body is too large. Its rest is not read.
            ClientDisconnect: The client closed the connection before the end of the body.
        """
        packed = self._check_head(request.scope["headers"], call)
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
        return bytes(body), packed

    def _check_head(self, headers: Headers, call: Call) -> bool:
        """Return whether a body is compressed, or raise an InvalidRequestError.

        It rejects media types and encodings that the call does not accept, and too many bytes.
        """
        packed = False
        # The raw list: starlette's object for the headers takes as long as reading the body.
        for name, value in headers:
            if name == b"content-type":
                if value.partition(b";")[0].strip().lower() not in call.media_types:
                    raise InvalidRequestError(call.media_types_text, status=415)
            elif name == b"content-length":
                self._check_size(int(value))
            elif name == b"content-encoding":
                packed = value.lower() == b"gzip"
                if not packed and value.lower() != b"identity":
                    raise UnknownEncodingError
        return packed

    def _check_size(self, size: int) -> None:
        if size > (limit := self._settings.max_body_bytes):
            text = f"the body has more than {limit} bytes; send several"
            raise InvalidRequestError(text, status=413)


def _check_finite(answer: Answer) -> None:
    """Reject rows for which the model overflows, because JSON has finite numbers alone."""
    numbers = answer.values if answer.probabilities is None else answer.probabilities
    # The sum of squares is found fastest, in 1 µs. It may overflow where no number does.
    if numbers.dtype.kind == "f" and not math.isfinite(np.vdot(numbers, numbers)):
        unsound = ~np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1)
        if unsound.any():
            raise InvalidRequestError(
                f"the model gives no finite number for row {unsound.argmax()}, counted from 0; "
                "is it far outside of the training data?"
            )


def _close(request: Request) -> dict[str, str]:
    """Return the header for a client that is still sending its body, which is no longer read."""
    return {} if WHOLE_BODY in request.scope else CLOSE

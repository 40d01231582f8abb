"""Prediction calls: a request in, its response out."""

import asyncio
from http import HTTPStatus
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from iris_api.model.loaded import Answer, Classifier
from iris_api.protocols.messages import InvalidRequestError
from iris_api.protocols.native import parse_rows
from iris_api.serving.admission import RETRY, WHOLE_BODY, Admission, OverloadedError
from iris_api.serving.api_keys import ApiKeys
from iris_api.serving.hot_swap import HotSwap
from iris_api.serving.responses import (
    CLOSE,
    ClientLeftError,
    error_response,
    invalid_request,
    json_response,
    read_json,
)
from iris_api.settings import settings
from iris_api.telemetry import traces
from iris_api.telemetry.instruments import Reason
from iris_api.telemetry.recording import Metrics
from iris_api.telemetry.traces import spanned

REASONS: dict[int, Reason] = {
    HTTPStatus.BAD_REQUEST: "invalid_body",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
}
"""What a call that breaks the contract is counted as, by the status of its answer."""

LONG_BODY_BYTES = 16 * 1024
"""Longer ones, some 700 rows, leave the event loop: a forest of 100 trees takes 2 ms for them.

Other requests would wait that long; handing the body to a thread costs 0.1 ms.
"""


UNAUTHORIZED = "send the header Authorization: Bearer, with one of the keys of this service"


class Handlers:
    """Answers with whatever model is the worker's when a request comes."""

    def __init__(self, models: HotSwap, metrics: Metrics) -> None:
        self._models = models
        self._metrics = metrics
        self._note_version = traces.version_noter()
        self.admission = Admission()
        keys_file = settings().api_keys_file
        self._keys = ApiKeys(keys_file) if keys_file else None

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
        self._note_version(model.version)
        try:
            return await self._in_time(model, request, probabilities)
        except InvalidRequestError as error:
            left = isinstance(error, ClientLeftError)
            self._metrics.reject("disconnected" if left else REASONS[error.status])
            return invalid_request(error)
        except OverloadedError as error:
            self._metrics.reject("overloaded")
            return error_response(429, str(error), headers=RETRY | CLOSE)
        except TimeoutError:
            self._metrics.reject("timeout")
            whole = WHOLE_BODY in request.scope
            what = "answer was not computed" if whole else "body was not received"
            text = f"the {what} within {settings().timeout_seconds:g} s"
            return error_response(504, text, headers=CLOSE)

    async def _in_time(self, model: Classifier, request: Request, probabilities: bool) -> Response:
        if came_whole := WHOLE_BODY in request.scope:
            body = await read_json(request)
            if len(body) <= LONG_BODY_BYTES:
                # Done before any timer would be.
                return self._compute(model, body, probabilities)
        async with asyncio.timeout(settings().timeout_seconds):
            if not came_whole:
                async with self.admission.waiting():
                    body = await read_json(request, self.admission.keeping(request.scope))
                if len(body) <= LONG_BODY_BYTES:
                    return self._compute(model, body, probabilities)
            return await self.admission.compute(self._compute, model, body, probabilities)

    def _compute(self, model: Classifier, body: bytes, probabilities: bool) -> Response:
        rows = _parse(body)
        start = perf_counter()
        answer = _infer(model, rows, probabilities)
        self._metrics.observe(model, rows, answer, perf_counter() - start)
        return _serialize(model, answer, probabilities)


@spanned("parse")
def _parse(body: bytes) -> NDArray[np.float64]:
    return parse_rows(body, settings().max_rows)


@spanned("inference")
def _infer(model: Classifier, rows: NDArray[np.float64], probabilities: bool) -> Answer:
    return model.answer(rows, probabilities=probabilities)


@spanned("serialize")
def _serialize(model: Classifier, answer: Answer, probabilities: bool) -> Response:
    content = (
        {"classes": model.classes, "probabilities": answer.probabilities}
        if probabilities
        else {"predictions": model.names(answer.labels)}
    )
    return json_response(content, {"X-Model-Version": str(model.version)})

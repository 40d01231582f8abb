"""Prediction calls: a request in, its response out."""

from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from iris_api.classifier import Classifier
from iris_api.contract import InvalidRequestError
from iris_api.http import error_response, invalid_request, json_response, read_json
from iris_api.parsing import parse_rows
from iris_api.reloader import Reloader
from iris_api.settings import settings

Render = Callable[[Classifier, NDArray[np.float64]], dict[str, Any]]

LONG_BODY_BYTES = 16 * 1024
"""Longer ones, some 700 rows, leave the event loop: a forest of 100 trees takes 2 ms for them.

So long other requests would wait, and the hand-over to a thread costs 0.1 ms.
"""


class Answers:
    """Answers with whatever model is the worker's when a request comes."""

    def __init__(self, models: Reloader) -> None:
        self._models = models
        # Long bodies wait for each other: workers are the unit that scales.
        self._one_at_a_time = anyio.CapacityLimiter(1)

    async def predict(self, request: Request) -> Response:
        """Answer with the label of each row."""
        return await self._answer(request, _predictions)

    async def predict_proba(self, request: Request) -> Response:
        """Answer with each class's probability for each row."""
        model = self._models.model
        if model is not None and not model.has_probabilities:
            return error_response(404, "this model gives no probabilities; use POST /predict")
        return await self._answer(request, _probabilities)

    async def _answer(self, request: Request, render: Render) -> Response:
        model = self._models.model
        if model is None:
            return error_response(503, self._models.reason)
        try:
            body = await read_json(request)
            if len(body) <= LONG_BODY_BYTES:
                return _compute(model, body, render)
            return await anyio.to_thread.run_sync(
                _compute, model, body, render, limiter=self._one_at_a_time
            )
        except InvalidRequestError as error:
            return invalid_request(error)


def _compute(model: Classifier, body: bytes, render: Render) -> Response:
    rows = parse_rows(body, settings().max_rows)
    return json_response(render(model, rows), {"X-Model-Version": str(model.version)})


def _predictions(model: Classifier, rows: NDArray[np.float64]) -> dict[str, Any]:
    return {"predictions": model.labels(rows)}


def _probabilities(model: Classifier, rows: NDArray[np.float64]) -> dict[str, Any]:
    return {"classes": model.classes, "probabilities": model.probabilities(rows)}

"""The BentoML service: predictions, health and provenance of the active model."""

import gc
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

import anyio
import anyio.to_thread
import bentoml
import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from iris_api import IrisError, __version__, contract, openapi, store
from iris_api.classifier import Classifier
from iris_api.http import (
    PredictRequest,
    error_page,
    error_response,
    invalid_request,
    json_response,
    read_json,
)
from iris_api.lean import LeanService
from iris_api.model_uri import ModelURI
from iris_api.settings import bentoml_config, settings

Render = Callable[[Classifier, NDArray[np.float64]], dict[str, Any]]

LONG_BODY_BYTES = 16 * 1024
"""Longer ones, some 700 rows, leave the event loop: a forest of 100 trees takes 2 ms for them.

So long other requests would wait, and the hand-over to a thread costs 0.1 ms.
"""

logger = logging.getLogger("bentoml.service")


def _page(method: str) -> Callable[[Request], Awaitable[Response]]:
    """Make an endpoint of a method of the service that runs in this worker."""

    async def endpoint(_request: Request) -> Response:
        response: Response = getattr(bentoml.get_current_service(), method)()
        return response

    return endpoint


# BentoML's own routes are POST only, and others come from a mounted application. FastAPI would
# take 0.4 s and 10 MB in each process for it.
pages = Starlette(
    routes=[
        Route("/health", _page("health"), methods=["GET"]),
        Route("/model", _page("provenance"), methods=["GET"]),
        Route("/docs.json", _page("docs"), methods=["GET"]),
    ],
    exception_handlers={HTTPException: error_page},
)


@bentoml.service(name="iris_api", service_class=LeanService, **bentoml_config())
@bentoml.asgi_app(pages)
class IrisClassifier:
    """Classifies irises with the active version of a registered scikit-learn model."""

    def __init__(self) -> None:
        self.model: Classifier | None = None
        self.reason = ""
        # Long bodies wait for each other: workers are the unit that scales.
        self._one_at_a_time = anyio.CapacityLimiter(1)
        try:
            self.model = Classifier.load(_find_entry())
        except IrisError as error:
            # The process stays up and says why, to an orchestrator and to a person.
            self.reason = str(error)
            logger.error("no model can answer: %s", error)  # noqa: TRY400 (one line is enough)
        # What is loaded by now stays. Left to the collector, each full run would go through its
        # 170 000 objects, for 85 to 143 ms in which no request is answered.
        gc.collect()
        gc.freeze()

    @bentoml.api(input_spec=PredictRequest, output_spec=contract.Predictions)
    async def predict(self, request: Request) -> Response:
        """Predict the label of each row."""
        return await self._answer(request, _predictions)

    @bentoml.api(input_spec=PredictRequest, output_spec=contract.Probabilities)
    async def predict_proba(self, request: Request) -> Response:
        """Give each class's probability for each row."""
        if self.model is not None and not self.model.has_probabilities:
            return error_response(404, "this model gives no probabilities; use POST /predict")
        return await self._answer(request, _probabilities)

    async def _answer(self, request: Request, render: Render) -> Response:
        model = self.model
        if model is None:
            return error_response(503, self.reason)
        try:
            body = await read_json(request)
            if len(body) <= LONG_BODY_BYTES:
                return _compute(model, body, render)
            return await anyio.to_thread.run_sync(
                _compute, model, body, render, limiter=self._one_at_a_time
            )
        except contract.InvalidRequestError as error:
            return invalid_request(error)

    def health(self) -> Response:
        """Say whether a model can answer."""
        if self.model is None:
            return json_response({"status": "unavailable", "reason": self.reason}, status=503)
        return json_response({"status": "ok"})

    def provenance(self) -> Response:
        """Tell where the model comes from."""
        if self.model is None:
            return error_response(503, self.reason)
        return json_response(self.model.info)

    def docs(self) -> Response:
        """Describe every route; in the place of the document that BentoML generates."""
        return json_response(openapi.document(__version__))


def _find_entry() -> bentoml.Model:
    """Find the model that a Bento carries, or else the active one of the store."""
    name = ModelURI.parse(settings().model_uri).name
    bento = cast("LeanService", IrisClassifier).bento  # what the decorator made of the class
    carried = [model.tag for model in bento.info.all_models] if bento else []
    return store.get(carried[0]) if carried else store.active(name)


def _compute(model: Classifier, body: bytes, render: Render) -> Response:
    rows = contract.parse_rows(body, settings().max_rows)
    return json_response(render(model, rows), {"X-Model-Version": str(model.version)})


def _predictions(model: Classifier, rows: NDArray[np.float64]) -> dict[str, Any]:
    return {"predictions": model.labels(rows)}


def _probabilities(model: Classifier, rows: NDArray[np.float64]) -> dict[str, Any]:
    return {"classes": model.classes, "probabilities": model.probabilities(rows)}

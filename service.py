"""The BentoML service: predictions, health and provenance of the active model."""

import asyncio
import gc
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import cast

import bentoml
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from iris_api import __version__
from iris_api.bentoml_server.application import LeanService
from iris_api.bentoml_server.image import image
from iris_api.bentoml_server.request_metrics import RequestMetrics
from iris_api.importing.child import follows_registry, import_at_start
from iris_api.model_uri import ModelURI, ModelURIError
from iris_api.protocols import messages
from iris_api.serving import openapi, page
from iris_api.serving.api_keys import KeysError, read_keys
from iris_api.serving.messages import PredictRequest
from iris_api.serving.responses import error_page, error_response, json_response
from iris_api.settings import SettingsError, bentoml_config, settings
from iris_api.store import active_version
from iris_api.store import entry as store
from iris_api.telemetry import logs

try:
    settings()
except SettingsError as error:
    sys.exit(f"error: {error}")  # whoever started it needs no traceback
logs.configure(traced=bool(settings().otlp_endpoint))
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
        *page.ROUTES,
    ],
    exception_handlers={HTTPException: error_page},
)
pages.router.redirect_slashes = False  # as of the application around it


@bentoml.service(name="iris_api", service_class=LeanService, image=image(), **bentoml_config())
@bentoml.asgi_app(pages)
class IrisClassifier:
    """Classifies irises with the active version of a registered scikit-learn model."""

    def __init__(self) -> None:
        # Not at the top: the process that only starts the workers need not load numpy.
        from iris_api.bentoml_server.metrics_client import render_metrics_within  # noqa: PLC0415
        from iris_api.serving.handlers import Handlers  # noqa: PLC0415
        from iris_api.serving.hot_swap import HotSwap  # noqa: PLC0415
        from iris_api.telemetry.recording import Metrics  # noqa: PLC0415

        name, carried = _model_name(), _carried()
        # A Bento answers with what it carries, unless it has a registry: then its model is imported
        # at the start and followed. So is the store where there is nothing to carry.
        follows = carried is None or follows_registry()
        self._reload_seconds = settings().reload_seconds if follows else 0
        self.metrics = Metrics(name, follows=follows)
        render_metrics_within(self.metrics.page.rendering)
        self.models = HotSwap(name, carried=carried, follows=follows, metrics=self.metrics)
        # Where none can be opened, the process stays up and says why, to an orchestrator and to a
        # person.
        self.models.load()
        self._handlers = Handlers(self.models, self.metrics, settings())
        self._tasks: list[asyncio.Task[None]] = []
        # What is loaded by now stays. Left to the collector, each full run would go through its
        # 170 000 objects, for 85 to 143 ms in which no request is answered.
        gc.collect()
        gc.freeze()

    @bentoml.on_deployment
    @staticmethod
    def prepare() -> None:
        """Import the registry's model and have workers looked after; once, before they start."""
        from iris_api.bentoml_server.supervision import supervise  # noqa: PLC0415 (a worker need not load it)

        try:
            name = _model_name()
            if keys_file := settings().api_keys_file:
                read_keys(keys_file)
        except (ModelURIError, KeysError) as error:
            logger.critical("%s", error)
            sys.exit(1)
        supervise()
        if _bento() is None:
            return
        imported = not follows_registry() or import_at_start()
        if _carried() is None and active_version.pointer(name) is None:
            logger.critical(
                "there is no model: set MLFLOW_TRACKING_URI to a reachable tracking server, "
                "or build the Bento with a model"
            )
            sys.exit(1)
        if not imported:
            logger.error("the import failed, as said above; serving the model that is here already")

    @bentoml.on_startup
    async def begin(self) -> None:
        """Begin what goes on beside the requests."""
        # Not at the top: the process that only starts the workers need not load numpy.
        from iris_api.bentoml_server.balancing import balance_connections  # noqa: PLC0415
        from iris_api.bentoml_server.connections import guard_connections  # noqa: PLC0415
        from iris_api.bentoml_server.shutdown import (  # noqa: PLC0415
            drain_on_sigterm,
            end_with_parent,
            running_server,
        )

        if (requests := RequestMetrics.of_worker) is not None:
            requests.begin(self.metrics)
        if (server := running_server()) is not None:
            drain_on_sigterm(server)
            balance_connections(server)
            guard = guard_connections(server, self._handlers.admission, self.metrics)
            self._tasks.append(asyncio.create_task(guard.look()))
        self._tasks.append(asyncio.create_task(end_with_parent()))
        if self._reload_seconds:
            self._tasks.append(asyncio.create_task(self.models.follow(self._reload_seconds)))
        self.metrics.mark_ready()

    @bentoml.on_shutdown
    async def end(self) -> None:
        """End it."""
        for task in self._tasks:
            task.cancel()
        self.metrics.flush()

    @bentoml.api(input_spec=PredictRequest, output_spec=messages.Predictions)
    async def predict(self, request: Request) -> Response:
        """Predict the label of each row."""
        return await self._handlers.predict(request)

    @bentoml.api(input_spec=PredictRequest, output_spec=messages.Probabilities)
    async def predict_proba(self, request: Request) -> Response:
        """Give each class's probability for each row."""
        return await self._handlers.predict_proba(request)

    def __metrics__(self, content: str) -> str:
        """Complete BentoML's page of metrics; BentoML calls this for `GET /metrics`."""
        return self.metrics.page.complete(content)

    def health(self) -> Response:
        """Say whether a model can answer."""
        if self.models.model is None:
            reason = self.models.reason
            return json_response({"status": "unavailable", "reason": reason}, status=503)
        return json_response({"status": "ok"})

    def provenance(self) -> Response:
        """Tell where the model comes from."""
        known = self.models.provenance()
        if known is None:
            return error_response(503, self.models.reason)
        return json_response(known.model_dump(mode="json"))

    def docs(self) -> Response:
        """Describe every route; in the place of the document that BentoML generates."""
        return json_response(openapi.document(__version__))


def _model_name() -> str:
    """Return the name of the registered model that is served."""
    try:
        return ModelURI.parse(settings().model_uri).name
    except ModelURIError as error:
        raise ModelURIError(f"IRIS_MODEL_URI: {error}") from None


def _bento() -> bentoml.Bento | None:
    """Return the Bento that is served, where it is not the source tree."""
    service = cast("LeanService", IrisClassifier)  # what the decorator made of the class
    return cast("bentoml.Bento | None", service.bento)


def _carried() -> store.Entry | None:
    """Return the model that the Bento carries."""
    bento = _bento()
    carried = [model.tag for model in bento.info.all_models] if bento else []
    return store.get_carried(carried[0]) if carried else None

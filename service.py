"""The BentoML service: wires the model, the HTTP handlers and the metrics of a worker together."""

import asyncio
import gc
import logging
from typing import cast

import bentoml
from bentoml.exceptions import BentoMLException
from starlette.requests import Request
from starlette.responses import Response

from iris_api.bentoml_server.application import LeanService
from iris_api.bentoml_server.image import image
from iris_api.errors import IrisError
from iris_api.model_uri import ModelURI, ModelURIError
from iris_api.protocols.native_messages import Predictions, Probabilities
from iris_api.serving import routes
from iris_api.serving.messages import PredictRequest
from iris_api.settings import SettingsError, bentoml_config, settings
from iris_api.telemetry.worker_files import WorkerFiles

logger = logging.getLogger("bentoml.service")

try:
    SETTINGS = settings()
except SettingsError as error:
    raise BentoMLException(str(error)) from None  # bentoml serve prints it without a traceback


@bentoml.service(name="iris_api", service_class=LeanService, image=image(), **bentoml_config())
@bentoml.asgi_app(
    routes.application(
        lambda: bentoml.get_current_service().handlers, has_keys=SETTINGS.api_keys_file is not None
    )
)
class IrisClassifier:
    """Serves the active version of a registered scikit-learn model."""

    # Imports are in the methods where the process that starts the workers does not need them.

    def __init__(self) -> None:
        from iris_api.serving.handlers import Handlers  # noqa: PLC0415
        from iris_api.serving.hot_swap import HotSwap  # noqa: PLC0415
        from iris_api.telemetry.recording import Metrics  # noqa: PLC0415

        name, carried = _model_name(), _service().carried_model()
        # A Bento serves the model that it carries. With a registry it serves, as the source tree
        # does, the active version of the store.
        follows = carried is None or SETTINGS.imports_at_start
        self._reload_seconds = SETTINGS.reload_seconds if follows else 0
        self._metrics = Metrics(name, follows=follows)
        self.models = HotSwap(
            name,
            carried=carried,
            follows=follows,
            metrics=self._metrics,
            max_rows=SETTINGS.max_rows,
        )
        PredictRequest.schema_of = lambda: getattr(self.models.model, "schema", None)
        self.models.load()  # if no version can be opened, GET /health says why
        self.handlers = Handlers(self.models, self._metrics, SETTINGS)
        self._tasks: list[asyncio.Task[None]] = []
        # A full run of the collector would go through 170 000 objects that stay, for 85 to 143 ms
        # in which no request is answered.
        gc.collect()
        gc.freeze()

    @bentoml.on_deployment
    @staticmethod
    def prepare() -> None:
        """Check what the service needs and import its model, before the workers start."""
        from iris_api.bentoml_server import supervision  # noqa: PLC0415

        try:
            supervision.prepare(_service(), _model_name(), SETTINGS)
        except IrisError as error:
            raise BentoMLException(str(error)) from None

    @bentoml.on_startup
    async def begin(self) -> None:
        """Set up the server of this worker, and start its background tasks."""
        from iris_api.bentoml_server import balancing, connections, shutdown  # noqa: PLC0415
        from iris_api.bentoml_server.request_metrics import RequestMetrics  # noqa: PLC0415
        from iris_api.bentoml_server.straight_path import StraightPath  # noqa: PLC0415

        requests = RequestMetrics.of_worker
        tasks = [shutdown.end_with_parent()]
        if (server := shutdown.running_server()) is not None:
            shutdown.drain_on_sigterm(server, SETTINGS.drain_seconds)
            straight_path = None
            if requests is not None and _service().only_counts:
                straight_path = StraightPath(self.handlers, requests)
            guard = connections.Guard(server, self.handlers.admission, straight_path)
            connections.guard_connections(server, guard, SETTINGS.keep_alive_seconds)
            balancing.balance_connections(guard)
            tasks.append(guard.watch())
        if self._reload_seconds:
            tasks.append(self.models.follow(self._reload_seconds))
        self._tasks = [asyncio.create_task(task) for task in tasks]
        for task in self._tasks:
            task.add_done_callback(_log_error)
        await self.models.wait(lambda: server is not None and server.should_exit)
        if requests is not None:
            requests.begin(self._metrics)
        WorkerFiles().mark_ready()

    @bentoml.on_shutdown
    async def end(self) -> None:
        """Stop the background tasks, and count the last requests."""
        for task in self._tasks:
            task.cancel()
        self._metrics.flush()

    @bentoml.api(input_spec=PredictRequest, output_spec=Predictions)
    async def predict(self, request: Request) -> Response:
        """Predict the label or number of each row."""
        return await self.handlers.answer(request, self.handlers.kinds["/predict"])

    @bentoml.api(input_spec=PredictRequest, output_spec=Probabilities)
    async def predict_proba(self, request: Request) -> Response:
        """Return the probability of each class for each row."""
        return await self.handlers.answer(request, self.handlers.kinds["/predict_proba"])

    def __metrics__(self, content: str) -> str:
        """Complete BentoML's page of `GET /metrics`."""
        return self._metrics.page.complete(content)


def _log_error(task: asyncio.Task[None]) -> None:
    """Log why a background task ended, which would be seen at the end of the worker alone."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("a background task of the worker ended", exc_info=error)


def _service() -> LeanService:
    """Return the service that BentoML's decorator made of the class."""
    return cast("LeanService", IrisClassifier)


def _model_name() -> str:
    """Return the name of the registered model to serve."""
    try:
        return ModelURI.parse(SETTINGS.model_uri).name
    except ModelURIError as error:
        raise ModelURIError(f"IRIS_MODEL_URI: {error}") from None

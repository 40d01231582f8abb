"""The routes beside BentoML's: health, provenance, other protocols, documents and pages."""

from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from iris_api import __version__
from iris_api.protocols.open_inference.messages import describe
from iris_api.protocols.problems import INVOCATIONS
from iris_api.serving import openapi
from iris_api.serving.page.routes import page_routes
from iris_api.serving.responses import error_page, error_response, json_response

if TYPE_CHECKING:  # the process that starts the workers must not load numpy
    from iris_api.model.loaded_model import Model
    from iris_api.serving.handlers import Handlers
    from iris_api.serving.hot_swap import HotSwap


def application(handlers: "Callable[[], Handlers]", *, has_keys: bool) -> Starlette:
    """Return the application to mount in BentoML's, whose own routes are POST only.

    Args:
        handlers: Returns the handlers of the worker.
        has_keys: Whether predictions need an API key.

    FastAPI instead of Starlette would take 0.4 s and 10 MB in each process.
    """

    async def health(_request: Request) -> Response:
        if handlers().models.model is None:
            content = {"status": "unavailable", "reason": handlers().models.reason}
            return json_response(content, status=503)
        if reason := handlers().models.degraded:
            return json_response({"status": "degraded", "reason": reason})
        return json_response({"status": "ok"})

    async def provenance(_request: Request) -> Response:
        if (known := handlers().models.provenance()) is None:
            return error_response(503, handlers().models.reason)
        return json_response(known.model_dump(mode="json"))

    async def document(_request: Request) -> Response:
        model = handlers().models.model
        schema, rows = (model.schema, model.examples) if model else (None, [])
        name = handlers().models.name
        return json_response(openapi.document(__version__, name, schema, rows, has_keys=has_keys))

    app = Starlette(
        routes=[
            Route("/health", health),
            Route("/model", provenance),
            Route("/docs.json", document),
            *page_routes(lambda: handlers().models, has_keys=has_keys),
            *_scoring_server(handlers),
            *_kserve(handlers),
        ],
        exception_handlers={HTTPException: error_page},
    )
    app.router.redirect_slashes = False  # as in the application around it
    return app


def _scoring_server(handlers: "Callable[[], Handlers]") -> list[Route]:
    async def ping(_request: Request) -> Response:
        """Answer as MLflow does where a model can; SageMaker accepts 200 alone."""
        if handlers().models.model is None:
            return error_response(503, handlers().models.reason, path=INVOCATIONS)
        return Response("\n", media_type="application/json")

    async def mlflow_version(_request: Request) -> Response:
        return Response(version("mlflow-skinny"), media_type="application/json")

    return [
        Route("/ping", ping),
        Route("/version", mlflow_version),
        _prediction(handlers, INVOCATIONS),
    ]


def _kserve(handlers: "Callable[[], Handlers]") -> list[Route]:
    """Return the routes of KServe's protocol V1, and of the Open Inference Protocol, V2."""

    async def models(_request: Request) -> Response:
        return json_response({"models": [handlers().models.name]})

    async def ready(request: Request) -> Response:
        if error := _missing(handlers().models, request):
            return error
        return json_response({"name": handlers().models.name, "ready": True})

    async def server(_request: Request) -> Response:
        extensions = ["binary_tensor_data"]
        content = {"name": "iris_api", "version": __version__, "extensions": extensions}
        return json_response(content)

    async def live(_request: Request) -> Response:
        return json_response({"live": True})

    async def server_ready(request: Request) -> Response:
        return _missing(handlers().models, request) or json_response({"ready": True})

    async def metadata(request: Request) -> Response:
        model, error = handlers().models.model, _missing(handlers().models, request)
        return error or json_response(describe(cast("Model", model)))

    of_model, of_version = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
    return [
        Route("/v1/models", models),
        _prediction(handlers, openapi.V1),
        Route("/v1/models/{name}", ready),
        Route("/v2", server),
        Route("/v2/", server),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", server_ready),
        *(Route(path, metadata) for path in (of_model, of_version)),
        *(Route(f"{path}/ready", ready) for path in (of_model, of_version)),
        *(_prediction(handlers, path) for path in (openapi.V2, openapi.V2_VERSION)),
    ]


def _missing(models: "HotSwap", request: Request) -> Response | None:
    """Return the error where the model or version of a path does not answer."""
    if text := models.lacks(**request.path_params):
        return error_response(404, text)
    return error_response(503, models.reason) if models.model is None else None


def _prediction(handlers: "Callable[[], Handlers]", path: str) -> Route:
    async def answer(request: Request) -> Response:
        return await handlers().answer_route(request, path)

    return Route(path, answer, methods=["POST"])

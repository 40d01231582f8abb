"""The GET routes: health, provenance, the OpenAPI document, and the pages for people."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from iris_api import __version__
from iris_api.serving import openapi
from iris_api.serving.pages import page_routes
from iris_api.serving.responses import error_page, error_response, json_response

if TYPE_CHECKING:  # the process that starts the workers must not load numpy
    from iris_api.serving.hot_swap import HotSwap


def application(models: "Callable[[], HotSwap]", *, has_keys: bool) -> Starlette:
    """Return the application to mount in BentoML's, whose own routes are POST only.

    Args:
        models: Returns the models of the worker.
        has_keys: Whether predictions need an API key.

    FastAPI instead of Starlette would take 0.4 s and 10 MB in each process.
    """

    async def health(_request: Request) -> Response:
        if models().model is None:
            content = {"status": "unavailable", "reason": models().reason}
            return json_response(content, status=503)
        if reason := models().degraded:
            return json_response({"status": "degraded", "reason": reason})
        return json_response({"status": "ok"})

    async def provenance(_request: Request) -> Response:
        if (known := models().provenance()) is None:
            return error_response(503, models().reason)
        return json_response(known.model_dump(mode="json"))

    async def document(_request: Request) -> Response:
        model = models().model
        schema, rows = (model.schema, model.examples) if model else (None, [])
        return json_response(openapi.document(__version__, schema, rows, has_keys=has_keys))

    app = Starlette(
        routes=[
            Route("/health", health),
            Route("/model", provenance),
            Route("/docs.json", document),
            *page_routes(models, has_keys=has_keys),
        ],
        exception_handlers={HTTPException: error_page},
    )
    app.router.redirect_slashes = False  # as in the application around it
    return app

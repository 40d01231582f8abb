"""The GET routes: health, provenance, the OpenAPI document, and the page to try the API.

The page loads nothing from other hosts: BentoML's own loads a tag manager, and Swagger's usual
script calls a validator.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from iris_api import __version__
from iris_api.serving import openapi
from iris_api.serving.responses import error_page, error_response, json_response

if TYPE_CHECKING:  # the process that starts the workers must not load numpy
    from iris_api.serving.hot_swap import HotSwap

PAGE = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <title>Iris API</title>
    <link rel="stylesheet" href="./static_content/swagger-ui.css">
    <link rel="icon" type="image/png" href="./static_content/favicon-light-32x32.png">
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="./static_content/swagger-ui-bundle.js" charset="utf-8"></script>
    <script src="./index.js"></script>
  </body>
</html>
"""

SCRIPT = """window.ui = SwaggerUIBundle({
  url: "./docs.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null,
});
"""

POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
"""Swagger has inline styles, and icons in its style sheet."""


def application(models: "Callable[[], HotSwap]") -> Starlette:
    """Return the application to mount in BentoML's, whose own routes are POST only.

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
        return json_response(openapi.document(__version__, schema, rows))

    async def page(_request: Request) -> Response:
        return Response(PAGE, headers={"Content-Security-Policy": POLICY}, media_type="text/html")

    async def script(_request: Request) -> Response:
        return Response(SCRIPT, media_type="text/javascript")

    app = Starlette(
        routes=[
            Route("/health", health),
            Route("/model", provenance),
            Route("/docs.json", document),
            Route("/", page),
            Route("/index.js", script),
        ],
        exception_handlers={HTTPException: error_page},
    )
    app.router.redirect_slashes = False  # as in the application around it
    return app

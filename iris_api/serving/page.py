"""The page to try the API in a browser, which loads nothing from other hosts.

BentoML's own page loads a tag manager, and Swagger's usual script asks a validator.
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

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


async def _page(_request: Request) -> Response:
    return Response(PAGE, media_type="text/html", headers={"Content-Security-Policy": POLICY})


async def _script(_request: Request) -> Response:
    return Response(SCRIPT, media_type="text/javascript")


ROUTES = [Route("/", _page, methods=["GET"]), Route("/index.js", _script, methods=["GET"])]

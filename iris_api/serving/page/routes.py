"""The pages for people: the page at / with a form made of the schema, and the console at /docs.

They load nothing from other hosts: BentoML's own console loads a tag manager, and Swagger's usual
script calls a validator.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from iris_api.home import model_store
from iris_api.protocols.native_messages import named_row
from iris_api.serving.responses import error_response, json_response
from iris_api.store import active_version
from iris_api.store.entry import entries, store_name

if TYPE_CHECKING:  # the process that starts the workers must not load numpy
    from iris_api.serving.hot_swap import HotSwap

FOLDER = Path(__file__).parent

STYLES = ("page", "docs")
SCRIPTS = ("page", "form", "answer", "card", "elements", "docs")

FILES = {
    "/": "index.html",
    "/docs": "docs.html",
    **{f"/page/{name}.css": f"{name}.css" for name in STYLES},
    **{f"/page/{name}.js": f"{name}.js" for name in SCRIPTS},
}
"""The file at each path. The files load each other by relative paths, because a proxy may add a
prefix."""

MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}

POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'"
)
"""The content security policy. Swagger has inline styles, and icons in its style sheet."""

VERSION_KEYS = {"version", "estimator", "engine", "imported_at", "metrics"}
"""The metadata of a stored version that the page shows."""


def page_routes(models: "Callable[[], HotSwap]", *, has_keys: bool) -> list[Route]:
    """Return the routes of both pages, and of what they load.

    Args:
        models: Returns the models of the worker.
        has_keys: Whether predictions need an API key.
    """

    async def data(_request: Request) -> Response:
        if (model := models().model) is None:
            return error_response(503, models().reason)
        # In a thread: parsing the YAML of an entry takes 20 ms to 200 ms.
        versions = await anyio.to_thread.run_sync(_versions, model.metadata.name)
        served, known = models().served, models().provenance()
        if served is None or known is None:
            return error_response(503, models().reason)
        model = served.model
        content = {
            "model": known.model_dump(mode="json"),
            "active_since": _active_since(known.name, known.tag),
            "has_probabilities": model.has_probabilities,
            "has_keys": has_keys,
            "examples": [named_row(model.schema, row) for row in model.examples],
            "profile": model.profile and model.profile.model_dump(mode="json"),
            "versions": versions,
        }
        return json_response(content)

    files = [Route(path, partial(_file, name)) for path, name in FILES.items()]
    return [Route("/page.json", data), *files]


async def _file(name: str, _request: Request) -> Response:
    kind = MEDIA_TYPES[Path(name).suffix]
    headers = {"Content-Security-Policy": POLICY} if kind == "text/html" else {}
    return Response(_read(name), headers=headers, media_type=kind)


@cache
def _read(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def _versions(name: str) -> list[dict[str, Any]]:
    """Return the versions in the store, the newest import first."""
    try:
        changed = (model_store() / store_name(name)).stat().st_mtime_ns
    except FileNotFoundError:  # a Bento may have no store beside it
        return []
    return _read_versions(name, changed)


@lru_cache(maxsize=1)
def _read_versions(name: str, _changed: int) -> list[dict[str, Any]]:
    """Return the versions; the folder's time of change makes the cache forget older ones."""
    return [
        {"tag": str(entry.tag)} | entry.metadata.model_dump(mode="json", include=VERSION_KEYS)
        for entry in reversed(entries(name))
    ]


def _active_since(name: str, tag: str) -> str | None:
    """Return when the store made a version the active one; None if it did not."""
    version, changed = active_version.pointer(name) or ("", 0)
    if tag.rpartition(":")[2] != version:
        return None
    return datetime.fromtimestamp(changed / 1e9, UTC).isoformat(timespec="seconds")

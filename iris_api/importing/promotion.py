"""The commands promote and rollback: the registry moves, and a running service follows."""

import logging
import time
from dataclasses import dataclass
from typing import Any

import requests

from iris_api import terminal
from iris_api.errors import IrisError, one_line
from iris_api.model_uri import ModelURI
from iris_api.registry import promotion
from iris_api.registry.servers import Servers
from iris_api.registry.versions import ModelVersion, current, resolve

POLL_SECONDS = 0.5
"""Seconds between two requests to the service while it answers with another version."""

ANSWERS = 20
"""Consecutive answers that must name the version. Each has a new connection, so that one of two
workers is missed once in a million promotions."""

ANSWER_SECONDS = 10

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """A running service, which follows the registry.

    Attributes:
        url: Its address.
        seconds: Time for it to answer with a promoted version.
    """

    url: str
    seconds: float

    def check(self, name: str) -> None:
        """Reject a service of another registered model, before anything is promoted."""
        found = self._read_model()
        if found.get("name", name) != name:
            raise IrisError(
                f"{self.url} serves {one_line(found['name'])}, and not {name}; "
                "set --service to the address of the right service"
            )

    def wait(self, version: ModelVersion) -> None:
        """Wait until all answers name a version."""
        logger.debug("waiting for %s", self.url, extra=terminal.STEP)
        began = time.monotonic()
        same = 0
        while same < ANSWERS:
            found = self._read_model()
            same = same + 1 if found.get("version") == version.version else 0
            rejected = (found.get("registry") or {}).get("rejected") or {}
            if not same and rejected.get("version") == version.version:
                raise IrisError(
                    f"version {version.version} is promoted, and {self.url} does not activate it: "
                    f"{one_line(rejected.get('reason'), 400)}"
                )
            if not same and time.monotonic() - began > self.seconds:
                raise IrisError(
                    f"version {version.version} is promoted, and {self.url} still answers with "
                    f"version {found.get('version')} after {self.seconds:g} s; does it follow the "
                    "registry? its log says more"
                )
            time.sleep(0 if same else POLL_SECONDS)
        took = time.monotonic() - began
        logger.info("%s answers with version %d, after %.1f s", self.url, version.version, took)

    def _read_model(self) -> dict[str, Any]:
        """Return what the service says about its model; nothing while it has none."""
        try:
            answer = requests.get(f"{self.url}/model", timeout=ANSWER_SECONDS)
            found = answer.json()
        except requests.JSONDecodeError:
            found = None
        except requests.RequestException as error:
            raise IrisError(
                f"{self.url} does not answer ({one_line(error)}); is --service right?"
            ) from None
        if not isinstance(found, dict) or answer.status_code not in {200, 503}:
            raise IrisError(f"{self.url} does not answer like this service; is --service right?")
        return found


def promote(
    servers: Servers, uri: ModelURI | None, followed: ModelURI, service: Service | None
) -> str:
    """Promote a version, or roll back if no URI is given; return one line, `former -> new`."""
    name = uri.name if uri else followed.name
    if followed.name != name or followed.version:
        followed = ModelURI.parse(f"models:/{name}/{promotion.STAGE}")
    if service:
        service.check(name)
    present = current(servers, followed)
    if uri is None:
        if present is None:
            raise IrisError(f"{followed.text} means no version; promote one")
        uri = promotion.former_version(servers, followed, present)
    version = resolve(servers, uri)
    promotion.promote(servers, version, followed)
    if service:
        service.wait(version)
    former = f"models:/{name}/{present}" if present else "no version"
    return f"{former} -> models:/{name}/{version.version}"

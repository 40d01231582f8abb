"""The MLflow registry: a model URI becomes one immutable version."""

import math
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from iris_api.errors import IrisError, one_line
from iris_api.model_uri import ModelURI
from iris_api.registry.artifacts import is_plain
from iris_api.registry.client import TrackingServer
from iris_api.registry.error_messages import NotFoundError

API = "/api/2.0/mlflow"

LOG_AGAIN = "log the model again in a new experiment"

OUT_OF_REACH = {
    "runs": (
        "a path of a run, which this registry did not resolve; "
        "register the model again with mlflow.register_model"
    ),
    "file": f"a folder on some machine, which its proxy does not serve; {LOG_AGAIN}",
    "": f"a folder on some machine, which its proxy does not serve; {LOG_AGAIN}",
    "http": f"another server, which gets no login of this one; {LOG_AGAIN}",
    "https": f"another server, which gets no login of this one; {LOG_AGAIN}",
}
"""What a location is that the proxy does not serve, by its scheme, and how to mend it."""

BUCKET = (
    "storage that its proxy does not serve, because the experiment was made without "
    f"--serve-artifacts; {LOG_AGAIN}"
)
"""The same for s3, gs and all others."""


class RegistryError(IrisError):
    """The registry has no such version, or one that cannot be fetched through the proxy."""


@dataclass(frozen=True)
class ModelVersion:
    """One immutable version of a registered model, as the registry told it."""

    name: str
    version: int
    stage: str
    aliases: list[str]
    run_id: str | None
    model_id: str | None
    source: str
    root: str = field(repr=False)
    """Path of the model's directory below the artifact proxy."""

    def provenance(self, server: TrackingServer, uri: ModelURI) -> dict[str, Any]:
        """Say where the version comes from, in the words of an entry's metadata."""
        return {
            "name": self.name,
            "version": self.version,
            "stage": self.stage,
            "aliases": self.aliases,
            "run_id": self.run_id or "",
            "model_id": self.model_id or "",
            "source": self.source,
            "tracking_uri": server.address,
            "model_uri": uri.text,
        }


class Registry:
    """What an import asks of a tracking server."""

    def __init__(self, server: TrackingServer) -> None:
        self._server = server

    def resolve(self, uri: ModelURI) -> ModelVersion:
        """Find the one version that a URI means now.

        Raises:
            RegistryError: there is none, it is not ready, or its files are out of reach.
            TrackingError: the server does not answer.
        """
        try:
            found = self._find(uri)
            number = self._number(found)
            location = self._server.get_json(
                f"{API}/model-versions/get-download-uri", {"name": uri.name, "version": number}
            ).get("artifact_uri")
        except NotFoundError as error:
            raise RegistryError(
                f"{uri.text} is not in the registry of {self._server.address}: {error}"
            ) from None
        if (status := self._text(found, "status", "READY")) != "READY":
            raise RegistryError(
                f"version {number} of {uri.name} is {status}, not READY; "
                "wait for its registration to finish, or register it again"
            )
        aliases = found.get("aliases", [])
        if not isinstance(location, str) or not isinstance(aliases, list):
            raise self._server.unlike_mlflow()
        logged_model = re.fullmatch(r"models:/(m-[0-9a-f]+)", self._text(found, "source"))
        root = self._proxy_path(location)  # before the location is shown or kept anywhere
        return ModelVersion(
            name=uri.name,
            version=number,
            stage=self._text(found, "current_stage") or "None",
            aliases=sorted(one_line(alias) for alias in aliases),
            run_id=self._text(found, "run_id") or None,
            model_id=logged_model and logged_model[1],
            source=location,
            root=root,
        )

    def _number(self, version: dict[str, Any]) -> int:
        text = str(version.get("version"))
        if not re.fullmatch(r"[1-9][0-9]{0,17}", text):
            raise self._server.unlike_mlflow()
        return int(text)

    def _text(self, version: dict[str, Any], key: str, default: str = "") -> str:
        value = version.get(key, default)
        if not isinstance(value, str):
            raise self._server.unlike_mlflow()
        return one_line(value)

    def _find(self, uri: ModelURI) -> dict[str, Any]:
        if uri.version is not None:
            query = {"name": uri.name, "version": uri.version}
            return self._get_version("model-versions/get", query)
        if uri.alias is not None:
            query = {"name": uri.name, "alias": uri.alias}
            return self._get_version("registered-models/alias", query)
        # The same endpoint answers for the stages, which MLflow calls deprecated and keeps.
        found = self._server.get_json(
            f"{API}/registered-models/get-latest-versions",
            {"name": uri.name} | ({"stages": uri.stage} if uri.stage else {}),
        )
        versions = found.get("model_versions", [])
        if not isinstance(versions, list) or not all(isinstance(item, dict) for item in versions):
            raise self._server.unlike_mlflow()
        if not versions:
            place = f"in stage {uri.stage}" if uri.stage else "at all"
            raise RegistryError(
                f"{uri.name} has no version {place} on {self._server.address}; promote one, "
                f"or name a version: models:/{uri.name}/1"
            )
        # By its number, because the newest of each stage come in any order; and asked for once
        # more, because this endpoint leaves out the aliases on some servers.
        query = {"name": uri.name, "version": max(map(self._number, versions))}
        return self._get_version("model-versions/get", query)

    def _get_version(self, endpoint: str, query: dict[str, Any]) -> dict[str, Any]:
        version = self._server.get_json(f"{API}/{endpoint}", query).get("model_version")
        if not isinstance(version, dict):
            raise self._server.unlike_mlflow()
        if query.get("version", self._number(version)) != self._number(version):
            raise self._server.unlike_mlflow()
        return version

    def _proxy_path(self, location: str) -> str:
        """Accept what this server's own proxy serves, and send no login anywhere else."""
        try:
            parts = urlsplit(location)
        except ValueError:
            raise RegistryError(
                f"the version's location is not a plain path; {LOG_AGAIN}"
            ) from None
        host = parts.netloc.rpartition("@")[2]  # what is before it is a login, and not shown
        place = one_line(f"{parts.scheme}://{host}{parts.path}" if host else location)
        if parts.scheme != "mlflow-artifacts":
            raise RegistryError(
                f"the registry says that the files are at {place!r}, "
                f"{OUT_OF_REACH.get(parts.scheme, BUCKET)}"
            )
        if parts.netloc.lower() not in {"", self._server.netloc.lower()}:
            raise RegistryError(
                f"the version's files are at another host, {one_line(host)!r}, which gets "
                "no login of this server; set MLFLOW_TRACKING_URI to that server, "
                f"or {LOG_AGAIN}"
            )
        path = parts.path.strip("/")
        plain = path and all(is_plain(step) for step in path.split("/"))
        if not plain or parts.query or parts.fragment:
            raise RegistryError(
                f"the version's location {place!r} is not a plain path; {LOG_AGAIN}"
            )
        return path

    def metrics(self, version: ModelVersion) -> dict[str, float]:
        """Return the run's finite metrics; none where the run is gone or was never there."""
        if version.run_id is None:
            return {}
        try:
            run = self._server.get_json(f"{API}/runs/get", {"run_id": version.run_id})
        except NotFoundError:
            return {}
        try:
            metrics = run["run"]["data"].get("metrics", [])
            found = {one_line(metric["key"]): float(metric["value"]) for metric in metrics}
        except (AttributeError, LookupError, TypeError, ValueError, OverflowError):
            raise self._server.unlike_mlflow() from None
        # A loss that diverged is NaN, which JSON has no word for.
        return {name: value for name, value in found.items() if math.isfinite(value)}

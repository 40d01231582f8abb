"""The MLflow registry: a model URI becomes one immutable version."""

import math
import re
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import AfterValidator, AliasPath, BaseModel, Field

from iris_api.errors import IrisError, one_line
from iris_api.model_uri import ModelURI
from iris_api.registry.artifacts import Whole, is_plain, is_served
from iris_api.registry.client import TrackingServer, split_login
from iris_api.registry.error_messages import NotFoundError

API = "/api/2.0/mlflow"

LOG_AGAIN = "log the model again in a new experiment"


@dataclass(frozen=True)
class ModelVersion:
    """One immutable version of a registered model, as the registry describes it."""

    name: str
    version: int
    stage: str
    aliases: list[str]
    run_id: str | None
    model_id: str | None
    source: str
    tracking_uri: str
    """Address of the tracking server."""
    model_uri: str
    """The model URI that meant this version when it was resolved."""
    root: str = field(repr=False)
    """Path of the model's folder in the artifact proxy."""


Line = Annotated[str, AfterValidator(one_line)]


class _Version(BaseModel):
    version: Annotated[Whole, Field(ge=1)]
    current_stage: Line = ""
    aliases: list[Annotated[Any, AfterValidator(one_line)]] = []
    run_id: Line = ""
    source: Line = ""
    status: Line = "READY"


class _Metric(BaseModel):
    key: Line
    value: float


class _Run(BaseModel):
    metrics: list[_Metric] = Field(default=[], validation_alias=AliasPath("data", "metrics"))


def has_model(server: TrackingServer, name: str) -> bool:
    """Return whether there is a registered model with this name."""
    try:
        server.get_json(f"{API}/registered-models/get", {"name": name}, "registered_model", object)
    except NotFoundError:
        return False
    return True


def resolve(server: TrackingServer, uri: ModelURI) -> ModelVersion:
    """Find the version that a URI means now.

    Raises:
        IrisError: There is none, it is not ready, or the proxy does not serve its files.
        TrackingError: The server does not answer.
    """
    try:
        found = _find(server, uri)
        query = {"name": uri.name, "version": found.version}
        endpoint = f"{API}/model-versions/get-download-uri"
        location = server.get_json(endpoint, query, "artifact_uri", str)
    except NotFoundError as error:
        raise IrisError(f"{uri.text} is not in the registry of {server.address}: {error}") from None
    if found.status != "READY":
        raise IrisError(
            f"version {found.version} of {uri.name} is {found.status}, not READY; "
            "wait for its registration to finish, or register it again"
        )
    root = _proxy_path(server, location)  # before the location is shown or stored
    logged_model = re.fullmatch(r"models:/(m-[0-9a-f]+)", found.source)
    return ModelVersion(
        name=uri.name,
        version=found.version,
        stage=found.current_stage or "None",
        aliases=sorted(found.aliases),
        run_id=found.run_id or None,
        model_id=logged_model and logged_model[1],
        source=location,
        tracking_uri=server.address,
        model_uri=uri.text,
        root=root,
    )


def _find(server: TrackingServer, uri: ModelURI) -> _Version:
    number = uri.version
    if uri.alias is not None:
        query = {"name": uri.name, "alias": uri.alias}
        return server.get_json(f"{API}/registered-models/alias", query, "model_version", _Version)
    if number is None:
        # The same endpoint answers for the stages, which MLflow calls deprecated and keeps.
        query = {"name": uri.name} | ({"stages": uri.stage} if uri.stage else {})
        endpoint = f"{API}/registered-models/get-latest-versions"
        versions = server.get_json(endpoint, query, "model_versions", list[_Version])
        if not versions:
            place = f"in stage {uri.stage}" if uri.stage else "at all"
            raise IrisError(
                f"{uri.name} has no version {place} on {server.address}; promote one, "
                f"or name a version: models:/{uri.name}/1"
            )
        # The newest of each stage come in any order, and from some servers without aliases.
        number = max(version.version for version in versions)
    endpoint, asked = f"{API}/model-versions/get", {"name": uri.name, "version": number}
    found = server.get_json(endpoint, asked, "model_version", _Version)
    if found.version != number:
        raise server.unlike_mlflow()
    return found


def _proxy_path(server: TrackingServer, location: str) -> str:
    """Return the path in the server's own proxy; no other host gets a request or a login."""
    try:
        parts, login = split_login(location)
    except ValueError:
        raise IrisError(f"the version's location is not a plain path; {LOG_AGAIN}") from None
    host, path = parts.netloc, parts.path.strip("/")
    place = one_line(f"{parts.scheme}://{host}{parts.path}" if host else location)
    if parts.scheme != "mlflow-artifacts":
        raise IrisError(
            f"the registry says that the files are at {place!r}, which its proxy does not serve, "
            f"because the experiment was made without --serve-artifacts; {LOG_AGAIN}"
        )
    if login or host.lower() not in {"", server.host.lower()}:
        raise IrisError(
            f"the version's files are at another host, {one_line(host)!r}, which gets "
            f"no login of this server; set MLFLOW_TRACKING_URI to that server, or {LOG_AGAIN}"
        )
    while path != unquote(path):  # as the proxy does: %20 in it stands for a space
        path = unquote(path)
    plain = all(is_plain(step) for step in path.split("/")) and is_served(path)
    if not plain or parts.query or parts.fragment:
        raise IrisError(f"the version's location {place!r} is not a plain path; {LOG_AGAIN}")
    return path


def read_metrics(server: TrackingServer, version: ModelVersion) -> dict[str, float]:
    """Return the finite metrics of the version's run, which may not exist any more."""
    if version.run_id is None:
        return {}
    try:
        run = server.get_json(f"{API}/runs/get", {"run_id": version.run_id}, "run", _Run)
    except NotFoundError:
        return {}
    # A loss that diverged is NaN, which JSON cannot express.
    return {metric.key: metric.value for metric in run.metrics if math.isfinite(metric.value)}

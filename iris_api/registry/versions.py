"""The MLflow registry: a model URI becomes one immutable version."""

import logging
import math
import re
from collections import defaultdict
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, AliasPath, BaseModel, Field

from iris_api.errors import IrisError, one_line
from iris_api.model_uri import ModelURI
from iris_api.registry.artifacts import Whole
from iris_api.registry.client import MlflowServer
from iris_api.registry.error_messages import DeniedError, NoEndpointError, NotFoundError
from iris_api.registry.servers import Servers

API = "/api/2.0/mlflow"

MAXIMUM_LISTED = 1000
"""Most versions of a registered model that are listed; each takes about 1 kB."""

logger = logging.getLogger(__name__)


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
    registry_uri: str | None
    """Address of the registry, where that is another server."""
    workspace: str | None
    """Workspace of the registry, if one was named."""
    model_uri: str
    """The model URI that meant this version when it was resolved."""
    in_stage: list[int]
    """The versions in the stage that the URI names, the highest first; none of another URI."""
    host: str = field(repr=False)
    """Host of the files; empty for the tracking server."""
    root: str = field(repr=False)
    """Path of the model's folder in the artifact proxy."""


class Place(NamedTuple):
    """The stage and the aliases that a version has now."""

    stage: str
    aliases: list[str]


class NoVersionError(IrisError):
    """A stage without a version, or a registered model without any."""


Line = Annotated[str, AfterValidator(one_line)]


class _Version(BaseModel):
    version: Annotated[Whole, Field(ge=1)]
    stage: Annotated[Line, Field(validation_alias="current_stage")] = ""
    aliases: list[Annotated[Any, AfterValidator(one_line)]] = []
    run_id: Line = ""
    source: Line = ""
    status: Line = "READY"


class _Alias(BaseModel):
    alias: Line
    version: Annotated[Whole, Field(ge=1)]


class _Model(BaseModel):
    aliases: list[_Alias] = []


class _Metric(BaseModel):
    key: Line
    value: float


class _Run(BaseModel):
    metrics: list[_Metric] = Field(default=[], validation_alias=AliasPath("data", "metrics"))


def has_model(server: MlflowServer, name: str) -> bool:
    """Return whether there is a registered model with this name."""
    try:
        server.get_json(f"{API}/registered-models/get", {"name": name}, "registered_model", object)
    except NotFoundError:
        return False
    return True


def resolve(servers: Servers, uri: ModelURI) -> ModelVersion:
    """Find the version that a URI means now.

    Raises:
        IrisError: There is none, it is not ready, or no server may be asked for its files.
        TrackingError: The registry does not answer.
    """
    registry = servers.registry
    try:
        found = _find(registry, uri)
        query = {"name": uri.name, "version": found.version}
        endpoint = f"{API}/model-versions/get-download-uri"
        location = registry.get_json(endpoint, query, "artifact_uri", str)
    except NotFoundError as error:
        place = f"workspace {servers.workspace} of " if servers.workspace else ""
        raise IrisError(
            f"{uri.text} is not in {place}the registry of {registry.address}: {error}"
        ) from None
    if found.status != "READY":
        raise IrisError(
            f"version {found.version} of {uri.name} is {found.status}, not READY; "
            "wait for its registration to finish, or register it again"
        )
    host, root = servers.locate(location)  # before the location is shown or stored
    in_stage = versions_in(registry, uri.name, {uri.stage}) if uri.stage else []
    logged_model = re.fullmatch(r"models:/(m-[0-9a-f]+)", found.source)
    version = ModelVersion(
        name=uri.name,
        version=found.version,
        stage=found.stage or "None",
        aliases=sorted(found.aliases),
        run_id=found.run_id or None,
        model_id=logged_model and logged_model[1],
        source=location,
        tracking_uri=servers.tracking.address,
        registry_uri=registry.address if registry.address != servers.tracking.address else None,
        workspace=servers.workspace,
        model_uri=uri.text,
        in_stage=in_stage,
        host=host,
        root=root,
    )
    log_stage(version)
    return version


def log_stage(version: ModelVersion) -> None:
    """Log that several versions are in the stage, which is usually a mistake."""
    if len(version.in_stage) > 1:
        logger.warning(
            "%d versions of %s are in stage %s, and the highest, %d, is meant; to archive the "
            "others, run python import_model.py promote models:/%s/VERSION",
            *(len(version.in_stage), version.name, version.stage, version.version, version.name),
        )


def versions_in(server: MlflowServer, name: str, stages: AbstractSet[str]) -> list[int]:
    """Return the versions in some stages, the highest first, of the last MAXIMUM_LISTED.

    A server that cannot say it, or may not say it to this login, gives an empty list.
    """
    try:
        found = _list(server, name)
    except (NotFoundError, NoEndpointError, DeniedError):
        return []
    return sorted((each.version for each in found if each.stage in stages), reverse=True)


def places(server: MlflowServer, name: str) -> dict[int, Place]:
    """Return stage and aliases of the last MAXIMUM_LISTED versions of a registered model."""
    query = {"name": name}
    model = server.get_json(f"{API}/registered-models/get", query, "registered_model", _Model)
    aliases: defaultdict[int, list[str]] = defaultdict(list)
    for each in model.aliases:
        aliases[each.version].append(each.alias)
    return {
        each.version: Place(each.stage or "None", sorted(aliases[each.version]))
        for each in _list(server, name)
    }


def _list(server: MlflowServer, name: str) -> list[_Version]:
    quote = '"' if "'" in name else "'"
    query = {
        "filter": f"name={quote}{name}{quote}",
        "order_by": "version_number DESC",
        "max_results": MAXIMUM_LISTED,
    }
    endpoint = f"{API}/model-versions/search"
    return server.get_json(endpoint, query, "model_versions", list[_Version])


def current(servers: Servers, uri: ModelURI) -> int | None:
    """Return the number of the version that a URI means now, if it means one."""
    try:
        return _find(servers.registry, uri).version
    except (NotFoundError, NoVersionError):
        return None


def _find(server: MlflowServer, uri: ModelURI) -> _Version:
    number = uri.version
    if uri.alias is not None:
        query = {"name": uri.name, "alias": uri.alias}
        return server.get_json(f"{API}/registered-models/alias", query, "model_version", _Version)
    if number is None:
        # The same endpoint answers for the stages, which MLflow calls deprecated and keeps.
        query = {"name": uri.name} | ({"stages": uri.stage} if uri.stage else {})
        endpoint = f"{API}/registered-models/get-latest-versions"
        try:
            versions = server.get_json(endpoint, query, "model_versions", list[_Version])
        except NoEndpointError:
            if not has_model(server, uri.name):
                raise NotFoundError(f"Registered Model with name={uri.name} not found") from None
            raise IrisError(
                f"{server.address} has no stages; set an alias of {uri.name} and use it: "
                f"models:/{uri.name}@ALIAS"
            ) from None
        if not versions:
            place = f"in stage {uri.stage}" if uri.stage else "at all"
            raise NoVersionError(
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


def read_metrics(server: MlflowServer, version: ModelVersion) -> dict[str, float]:
    """Return the finite metrics of the version's run, which may not exist any more."""
    if version.run_id is None:
        return {}
    try:
        run = server.get_json(f"{API}/runs/get", {"run_id": version.run_id}, "run", _Run)
    except (NotFoundError, DeniedError) as error:
        logger.info("the metrics of its run are left out: %s", error)
        return {}
    # A loss that diverged is NaN, which JSON cannot express.
    return {metric.key: metric.value for metric in run.metrics if math.isfinite(metric.value)}

"""Promotion: the stage and the alias of a registered model move to another version together."""

import logging

from iris_api.errors import IrisError
from iris_api.model_uri import ModelURI
from iris_api.registry.error_messages import DeniedError, NoEndpointError
from iris_api.registry.servers import Servers
from iris_api.registry.versions import API, ModelVersion, versions_in

STAGE, ALIAS = "Production", "champion"
"""The stage and the alias that move, unless the followed model URI names another one."""

logger = logging.getLogger(__name__)


def promote(servers: Servers, version: ModelVersion, followed: ModelURI) -> None:
    """Move the stage and the alias to a version, and archive the other versions in the stage.

    Args:
        servers: The registry, among others.
        version: The version to promote.
        followed: The model URI that the service follows.
    """
    stage, alias = stage_of(followed), followed.alias or ALIAS
    common = {"name": version.name, "version": str(version.version)}
    content = common | {"stage": stage, "archive_existing_versions": True}
    places = [f"is in stage {stage}", f"has the alias {alias}"]
    try:
        try:
            servers.registry.post(f"{API}/model-versions/transition-stage", content)
        except NoEndpointError:  # a server without stages
            places = places[1:]
        servers.registry.post(f"{API}/registered-models/alias", common | {"alias": alias})
    except DeniedError as error:
        raise IrisError(
            f"{servers.registry.address} does not let this login promote {version.name}; "
            "ask for EDIT permission on the registered model"
        ) from error
    logger.info("version %d of %s %s", version.version, version.name, " and ".join(places))


def former_version(servers: Servers, followed: ModelURI, present: int) -> ModelURI:
    """Return the URI of the version to roll back to.

    It is the highest one below the present version that is, or was, in the stage.
    """
    stages = {stage_of(followed), "Archived"}
    for version in versions_in(servers.registry, followed.name, stages):
        if version < present:
            return ModelURI.parse(f"models:/{followed.name}/{version}")
    raise IrisError(
        f"no version of {followed.name} below {present} was in stage {stage_of(followed)}; "
        f"name one: python import_model.py promote models:/{followed.name}/VERSION"
    )


def stage_of(followed: ModelURI) -> str:
    """Return the stage that a promotion moves."""
    return followed.stage if followed.stage in {"Staging", STAGE} else STAGE

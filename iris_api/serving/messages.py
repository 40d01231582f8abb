"""The bodies of answers that belong to no protocol: health, the served model, and errors."""

from typing import Literal

from pydantic import BaseModel, Field

from iris_api.protocols.problems import Problem
from iris_api.store.metadata import ModelCard
from iris_api.store.registry_status import RegistryStatus


class Health(BaseModel):
    """Whether a model can answer, and if not, why."""

    status: Literal["ok", "unavailable"]
    reason: str | None = Field(default=None, description="only where unavailable")


class _Identity(BaseModel):
    """The first keys of a provenance: a model's fields come after those of its base class."""

    name: str
    stage: str
    version: int
    tag: str = Field(description="in the BentoML model store")
    origin: Literal["store", "bento"] = Field(
        description="whether it is the active one of the store, or the Bento's own"
    )


class ServedModel(ModelCard, _Identity):
    """What is known about the model that answers, and what its registry said last."""

    registry: RegistryStatus | None = Field(
        default=None, description="only where the service follows a registry"
    )


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: str = Field(description="one line that says what is wrong")
    detail: list[Problem] | None = Field(
        default=None, description="the places that are wrong; absent where there are none"
    )

"""Messages that belong to no protocol: health, the served model, errors; BentoML's client."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from bentoml import IODescriptor
from pydantic import BaseModel, Field
from starlette.requests import Request

from iris_api.protocols.native_messages import cells
from iris_api.protocols.problems import Problem
from iris_api.schema import Schema
from iris_api.store.metadata import ModelCard
from iris_api.store.registry_status import RegistryStatus


class Health(BaseModel):
    """The health of the service: whether all workers can answer with the active version.

    A degraded service answers with the version before it.
    """

    status: Literal["ok", "degraded", "unavailable"]
    reason: str | None = Field(
        default=None, description="why the active version cannot be loaded; only if not ok"
    )


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
    """The description of the model that answers, with the last answer of its registry."""

    degraded: str | None = Field(
        default=None,
        description="why a worker cannot load the active version, and another version may answer",
    )
    registry: RegistryStatus | None = Field(
        default=None, description="only where the service follows a registry"
    )


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: str = Field(description="one line that says what is wrong")
    detail: list[Problem] | None = Field(
        default=None, description="the places that are wrong; absent where there are none"
    )


class PredictRequest(IODescriptor):
    """The keyword arguments of BentoML's clients: one row by its columns, or instances."""

    # BentoML passes what from_http_request returns to the method: here the request itself, whose
    # body the protocol parses.
    __root_input__ = True

    schema_of: ClassVar[Callable[[], Schema | None]] = staticmethod(lambda: None)
    """Returns the schema of the model that answers; a worker sets it."""

    @classmethod
    async def from_http_request(cls, request: Request, _serde: Any) -> Request:
        """Leave the body alone."""
        return request

    @classmethod
    def model_json_schema(cls, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        """Describe keyword arguments; BentoML would have its clients send one positional."""
        schema = cls.schema_of()
        columns = cells(schema) if schema else {}
        instances = {"type": "array", "items": {}, "title": "Instances"}
        return {
            "title": cls.__name__,
            "description": cls.__doc__,
            "type": "object",
            "properties": {"instances": instances} | columns,
        }

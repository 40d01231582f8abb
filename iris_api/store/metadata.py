"""The metadata of an entry of the model store; `GET /model` is made of these types.

They read what earlier versions of this project wrote: unknown keys are ignored, and only the keys
without which a model cannot be served are required.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import from_json
from typing_extensions import TypedDict

from iris_api.errors import first_problem
from iris_api.schema import Label, Schema, make_columns

Timestamp = Annotated[
    AwareDatetime,
    Field(strict=False),
    PlainSerializer(lambda time: time.isoformat(), return_type=str, when_used="json"),
]
"""A time with its zone; in JSON and YAML as in ISO 8601, such as 2026-11-27T21:55:06+00:00."""

Version = Annotated[int, Field(ge=1, lt=2**63)]
"""The number of a model version in the registry."""


class _Record(BaseModel):
    model_config = ConfigDict(
        frozen=True, strict=True, validate_by_name=True, serialize_by_alias=True
    )


class TensorSpec(TypedDict):
    """The type of a tensor in an MLflow signature; -1 stands for any length."""

    dtype: str
    shape: list[Annotated[int, Field(ge=-1, lt=2**63)]]


Column = TypedDict(
    "Column",
    {
        "type": str,
        "name": NotRequired[str],
        "required": NotRequired[bool],
        "tensor-spec": NotRequired[TensorSpec],
    },
)
"""One input or output in an MLflow signature: a column, or a tensor, which may have no name."""

_COLUMNS = TypeAdapter(list[Column])


def _read_columns(value: object) -> object:
    """Parse the JSON text that MLflow writes; what is no list of columns is left out."""
    try:
        content = from_json(value) if isinstance(value, str) else value
        return _COLUMNS.validate_python(content)
    except ValueError:  # as a ValidationError is
        return None


class Signature(_Record):
    """The inputs and outputs of a model, from its MLflow signature."""

    inputs: Annotated[list[Column] | None, BeforeValidator(_read_columns)] = None
    outputs: Annotated[list[Column] | None, BeforeValidator(_read_columns)] = None


class Proof(_Record):
    """The comparison of a compiled model with scikit-learn, and how closely both agreed."""

    precision: Literal["float64", "float32"] = Field(
        default="float64", description="dtype of the model's rows"
    )
    rows: int = Field(description="number of rows compared")
    steps: int = Field(
        default=0, description="pairs of neighbouring numbers between which the answer steps"
    )
    ties: int = Field(
        description="rows with another answer, because rounding alone decides between two labels"
    )
    largest_difference: float = Field(
        description="of a probability, or 0.0 without any; of a prediction, relative to its size"
    )
    relative_tolerance: float | None = Field(
        default=None, description="largest difference that is accepted, relative to a number"
    )
    absolute_tolerance: float | None = Field(
        default=None, description="the same in absolute terms, which counts for smaller numbers"
    )
    domain: list[list[float]] = Field(
        default=[], description="least and greatest number compared in each column"
    )
    versions: dict[str, str] = Field(description="version of each package that took part")


class NotCompiled(_Record):
    """The reason why a model is served by scikit-learn."""

    model_config = ConfigDict(extra="forbid")

    reason: str = "The model was imported with --engine sklearn, so it was not compiled."


class Example(_Record):
    """Rows in the model's own column order, and what scikit-learn answered for them at import."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    rows: list[list[float]]
    values: list[int] | list[float] = Field(
        alias="labels",
        description="indices into the classes, or what a regressor predicts",
    )
    probabilities: list[list[float]] | None = None


Absent = Annotated[str | None, BeforeValidator(lambda value: value or None)]
"""A text that may be missing; earlier versions wrote an empty one then."""


class Provenance(_Record):
    """The origin of a model version, as the registry had it at the last import or activation."""

    name: str = Field(description="name of the registered model")
    stage: str = "None"
    version: Version = Field(description="number of the version in the registry")
    aliases: list[str] = []
    run_id: Absent = None
    model_id: Absent = None
    source: str = Field(default="", description="where the registry says that the files are")
    tracking_uri: str = Field(default="", description="address of the tracking server")
    registry_uri: Absent = Field(
        default=None, description="address of the registry, if it is another server"
    )
    workspace: Absent = Field(default=None, description="workspace of the registry, if any")
    model_uri: str = Field(default="", description="model URI that was imported")
    as_of: Timestamp | None = Field(
        default=None, description="when the registry had this stage and these aliases"
    )


class ModelCard(Provenance):
    """The description of an imported model."""

    digest: str = Field(description="SHA-256 over the names and contents of the model's files")
    features: list[str] = Field(description="columns, in the order of the model's own signature")
    classes: list[Label] = Field(description="labels, in the order of the probabilities")
    contract: Schema = Field(alias="schema", description="columns, task and labels")
    signature: Signature = Signature()
    sklearn_version: str = Field(default="", description="scikit-learn that fitted the model")
    estimator: str = Field(default="", description="scikit-learn class")
    engine: Literal["onnx", "sklearn"]
    proof: Proof | NotCompiled = NotCompiled()
    metrics: dict[str, float] = Field(default={}, description="metrics of the run")
    imported_at: Timestamp | None = None

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Add the schema to entries that earlier versions wrote, all of which are of irises."""
        if {"schema", "contract"} & data.keys() or not {"features", "classes"} <= data.keys():
            return data
        columns = make_columns([(name, "number", True) for name in data["features"]])
        schema = Schema(columns=columns, task="classifier", labels=data["classes"])
        return data | {"schema": schema}


class EntryMetadata(ModelCard):
    """All that an entry records: the model's card, and what the service verifies it with."""

    files: dict[str, str] = Field(description="SHA-256 of each file of the entry by its path")
    example: Example

    @classmethod
    def read(cls, metadata: Mapping[str, Any]) -> "EntryMetadata":
        """Read an entry's metadata; a ValueError names the first key that is wrong."""
        try:
            return cls.model_validate(dict(metadata))
        except ValidationError as error:
            raise ValueError(first_problem(error)) from None

    def to_plain(self) -> dict[str, Any]:
        """Return the plain values that BentoML takes as metadata, which cannot be None."""
        return self.model_dump(mode="json", exclude_none=True)

"""What clients send and get: the four features, the two request forms, answers and errors."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from iris_api.errors import IrisError
from iris_api.schema import MAXIMUM_CM, MINIMUM_CM

Centimetres = Annotated[
    float, Field(strict=True, ge=MINIMUM_CM, le=MAXIMUM_CM, allow_inf_nan=False)
]


class Flower(BaseModel):
    """One flower, its four lengths in centimetres."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "sepal_length": 5.1,
                "sepal_width": 3.5,
                "petal_length": 1.4,
                "petal_width": 0.2,
            }
        },
    )

    sepal_length: Centimetres
    sepal_width: Centimetres
    petal_length: Centimetres
    petal_width: Centimetres


def _row_form(row: Any) -> str:
    return "object" if isinstance(row, Mapping | Flower) else "array"


Row = Annotated[
    Annotated[tuple[Centimetres, Centimetres, Centimetres, Centimetres], Tag("array")]
    | Annotated[Flower, Tag("object")],
    Discriminator(_row_form),
]


class Instances(BaseModel):
    """Many flowers, each an array in the order of the features or an object with their names."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"instances": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5]]}},
    )

    # The first wrong row is told and no other: each costs a hundred times what a right one does.
    instances: Annotated[list[Row], Field(min_length=1, fail_fast=True)]


class Predictions(BaseModel):
    """The predicted label of each row, in the order of the rows."""

    predictions: list[str | int]


class Probabilities(BaseModel):
    """The probability of each class for each row: columns as in `classes`, rows as sent."""

    classes: list[str | int]
    probabilities: list[list[float]]


class Health(BaseModel):
    """Whether a model can answer, and if not, why."""

    status: Literal["ok", "unavailable"]
    reason: str | None = Field(default=None, description="only where unavailable")


class Provenance(BaseModel):
    """Where the model comes from; more than these is told as far as it is known."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(description="of the registered model")
    stage: str
    version: int = Field(description="in the registry")
    tag: str = Field(description="in the BentoML model store")
    origin: Literal["store", "bento"] = Field(
        description="where the model was found: the active one of the store, or the Bento's own"
    )
    aliases: list[str]
    digest: str = Field(description="SHA-256 over the model's files")
    classes: list[str | int]
    features: list[str] = Field(description="in the order of the model's own signature")
    engine: Literal["onnx", "sklearn"]


class Problem(BaseModel):
    """One place of the request and what is wrong there."""

    loc: list[str | int] = Field(description="path in the body, such as instances, 3, petal_width")
    msg: str


class ErrorBody(BaseModel):
    """Every answer that is not a success, whatever raised it."""

    error: str = Field(description="one line that says what is wrong")
    detail: list[Problem] | None = Field(
        default=None, description="the places that are wrong; absent where there are none"
    )


class InvalidRequestError(IrisError):
    """A request that breaks the contract.

    Attributes:
        detail: the places that are wrong, each as a `Problem`.
        status: the HTTP status of the answer.
    """

    def __init__(
        self, message: str, detail: Sequence[dict[str, Any]] = (), *, status: int = 400
    ) -> None:
        super().__init__(message)
        self.detail = list(detail)
        self.status = status

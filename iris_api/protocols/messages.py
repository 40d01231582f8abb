"""The messages of the native protocol, as pydantic validates and documents them."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from iris_api.schema import FEATURES, MAXIMUM_CM, MINIMUM_CM

Centimetres = Annotated[
    float, Field(strict=True, ge=MINIMUM_CM, le=MAXIMUM_CM, allow_inf_nan=False)
]


class Flower(BaseModel):
    """One flower, its four lengths in centimetres."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": dict(zip(FEATURES, (5.1, 3.5, 1.4, 0.2), strict=True))},
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

    # Only the first wrong row is reported: each takes a hundred times as long as a valid one.
    instances: Annotated[list[Row], Field(min_length=1, fail_fast=True)]


class Predictions(BaseModel):
    """The predicted label of each row, in the order of the rows."""

    predictions: list[str | int]


class Probabilities(BaseModel):
    """The probability of each class for each row: columns as in `classes`, rows as sent."""

    classes: list[str | int]
    probabilities: list[list[float]]

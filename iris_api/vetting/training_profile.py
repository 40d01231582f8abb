"""A model's training data in a few numbers, for the proof and for drift monitoring."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from iris_api.errors import first_problem
from iris_api.schema import Schema
from iris_api.vetting.mlmodel import MAXIMUM_TEXT_BYTES, VettingError, read_file, shorten

FILE_NAME = "training_profile.json"

BINS = 10
"""Number of quantile bins: deciles are usual for a population stability index."""

CATEGORIES = 50
"""Most categories of a column that are counted one by one; each is a series of metrics."""


class FeatureProfile(BaseModel):
    """One column in the training rows, in its own unit."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    minimum: float
    maximum: float
    mean: float
    deviation: float = Field(ge=0, description="standard deviation of the population")
    edges: list[float] = Field(
        min_length=2, max_length=BINS + 1, description="of the bins, ascending, without repetition"
    )
    shares: list[float] = Field(description="of the rows in each bin, one fewer than edges")
    accepted: tuple[float, float] | None = Field(
        default=None, description="smallest and largest number that requests may have"
    )

    @model_validator(mode="after")
    def _check(self) -> "FeatureProfile":
        if self.minimum > self.maximum:
            raise ValueError("the minimum must not be above the maximum")
        # The bin of a single value ends at the next number after it.
        if self.edges[0] < self.minimum or self.edges[-1] > np.nextafter(self.maximum, np.inf):
            raise ValueError("the edges must be from minimum to maximum")
        if len(self.shares) != len(self.edges) - 1:
            raise ValueError("there must be one share fewer than edges")
        if sorted(set(self.edges)) != self.edges:
            raise ValueError("the edges must ascend")
        if self.accepted and not self.accepted[0] < self.accepted[1]:
            raise ValueError("accepted must be a smaller and a larger number")
        _check_shares(self.shares)
        return self


class CategoryProfile(BaseModel):
    """One column of texts or booleans in the training rows."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    categories: dict[str, float] = Field(
        max_length=CATEGORIES, description="share of the rows with each of the most frequent ones"
    )
    other: float = Field(ge=0, description="share of the rows with another one")

    @model_validator(mode="after")
    def _check(self) -> "CategoryProfile":
        _check_shares([*self.categories.values(), self.other])
        return self


class TargetProfile(BaseModel):
    """The predictions of a regressor for the training rows, between the deciles of their target.

    Predictions spread less than the target. With the shares of the target itself, a regressor would
    seem to drift from its first row: linear regression of the diabetes table has a population
    stability index of 0.40 then, where 0.08 is right.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    edges: list[float] = Field(
        min_length=2, max_length=BINS + 1, description="of the bins, ascending, without repetition"
    )
    shares: list[float] = Field(
        description="of the predictions below the edges, in each bin, and above them"
    )

    @model_validator(mode="after")
    def _check(self) -> "TargetProfile":
        if len(self.shares) != len(self.edges) + 1:
            raise ValueError("there must be one share more than edges")
        if sorted(set(self.edges)) != self.edges:
            raise ValueError("the edges must ascend")
        _check_shares(self.shares)
        return self


class TrainingProfile(BaseModel):
    """The columns of the training rows by their plain names, and their labels or target.

    Columns of texts and booleans are in `categories`, the others in `features`.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    features: dict[str, FeatureProfile]
    categories: dict[str, CategoryProfile] = {}
    classes: dict[str, float] | None = Field(
        default=None, description="share of each class; of a classifier"
    )
    target: TargetProfile | None = Field(default=None, description="of a regressor")

    @model_validator(mode="after")
    def _check(self) -> "TrainingProfile":
        if (self.classes is None) == (self.target is None):
            raise ValueError("there must be either classes or a target")
        if self.classes is not None:
            _check_shares(self.classes.values())
        return self

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The accepted range of each column that has one."""
        return {name: each.accepted for name, each in self.features.items() if each.accepted}

    def check(self, schema: Schema) -> None:
        """Reject a profile of other columns than a schema has, or of another task."""
        if (self.target is not None) != (schema.task == "regressor"):
            raise VettingError(
                f"{FILE_NAME} is not that of a {schema.task}; "
                "log the model again with a right one, or without"
            )
        names = schema.names
        described = [*self.features, *self.categories]
        if sorted(described) != sorted(names):
            missing = [name for name in names if name not in described]
            foreign = [name for name in described if name not in names]
            raise VettingError(
                f"{FILE_NAME} describes other columns than the model has "
                f"(missing: {shorten(missing)}; foreign: {shorten(foreign)}); "
                "log the model again with a right one, or without"
            )
        for column in schema.columns:
            # Earlier profiles describe booleans as numbers.
            counted = column.plain_name in self.categories
            if counted != (column.type == "string") and column.type != "boolean":
                raise VettingError(
                    f"{FILE_NAME} describes the column {column.plain_name} as another type; "
                    "log the model again with a right one, or without"
                )

    @classmethod
    def of(
        cls,
        rows: Mapping[str, NDArray[Any]],
        labels: Sequence[Any],
        ranges: Mapping[str, tuple[float, float]] | None = None,
        predicted: NDArray[np.float64] | None = None,
    ) -> "TrainingProfile":
        """Describe training data, by the plain names of its columns.

        Args:
            rows: n values of each column, numbers, booleans or texts; None and NaN are missing.
            labels: n labels, or numbers as the target of a regressor.
            ranges: The numbers that requests may have.
            predicted: What a regressor predicts for the rows, (n,).
        """
        known = {name: _present(values) for name, values in rows.items()}
        counted = {
            name: values for name, values in known.items() if isinstance(values[0], bool | str)
        }
        features = {
            name: _describe(np.array(values, dtype=np.float64), (ranges or {}).get(name))
            for name, values in known.items()
            if name not in counted
        }
        categories = {name: _count(values) for name, values in counted.items()}
        if predicted is not None:
            target = _describe_target(labels, predicted)
            return cls(features=features, categories=categories, target=target)
        names, counts = np.unique(np.asarray(labels), return_counts=True)
        shares = (counts / len(labels)).tolist()
        classes = {str(name): share for name, share in zip(names, shares, strict=True)}
        return cls(features=features, categories=categories, classes=classes)

    @classmethod
    def read(cls, directory: Path) -> "TrainingProfile | None":
        """Read the profile in a model directory, or return None where the model has none."""
        name = f"extra_files/{FILE_NAME}"  # where MLflow puts a model's extra files
        if not (directory / name).is_file():
            return None
        try:
            return cls.model_validate_json(read_file(directory, name, MAXIMUM_TEXT_BYTES))
        except ValidationError as error:
            raise VettingError(
                f"{FILE_NAME} cannot be used: {first_problem(error)}; "
                "log the model again with a right one, or without"
            ) from None


def _present(values: NDArray[Any]) -> list[Any]:
    """Return the values that are not missing."""
    known = [each for each in np.asarray(values).tolist() if each is not None and each == each]  # noqa: PLR0124 (NaN)
    if not known:
        raise ValueError("a column has no values")
    return known


def _count(values: Sequence[bool | str]) -> CategoryProfile:
    shares = {
        category_name(each): count / len(values)
        for each, count in Counter(values).most_common(CATEGORIES)
    }
    return CategoryProfile(categories=shares, other=max(0.0, 1 - sum(shares.values())))


def _describe(values: NDArray[np.float64], accepted: tuple[float, float] | None) -> FeatureProfile:
    edges = _deciles(values)
    counts, _ = np.histogram(values, edges)
    return FeatureProfile(
        minimum=values.min(),
        maximum=values.max(),
        mean=values.mean(),
        deviation=values.std(),
        edges=edges.tolist(),
        shares=(counts / len(values)).tolist(),
        accepted=accepted,
    )


def category_name(value: bool | str) -> str:
    """Return the name of a category; a boolean has the one that JSON has for it."""
    return value if isinstance(value, str) else str(value).lower()


def _describe_target(target: Sequence[Any], predicted: NDArray[np.float64]) -> TargetProfile:
    edges = _deciles(np.asarray(target, dtype=np.float64))
    # As in _describe, the last edge belongs to the last bin.
    limits = [-np.inf, *edges[:-1], np.nextafter(edges[-1], np.inf), np.inf]
    counts, _ = np.histogram(predicted, limits)
    return TargetProfile(edges=edges.tolist(), shares=(counts / len(predicted)).tolist())


def _deciles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # Several of them coincide, because measurements are rounded.
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)))
    return edges if len(edges) > 1 else np.array([edges[0], np.nextafter(edges[0], np.inf)])


def _check_shares(shares: Iterable[float]) -> None:
    if any(share < 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise ValueError("the shares must add up to 1")

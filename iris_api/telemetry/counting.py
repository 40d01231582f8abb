"""Counts many answered calls of one model version at once."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from prometheus_client import Counter, Histogram

from iris_api.model.engines import Answer
from iris_api.model.loaded_model import Model
from iris_api.schema import Column
from iris_api.telemetry import instruments
from iris_api.vetting.training_profile import CategoryProfile, FeatureProfile

Item = TypeVar("Item")

OTHER = "other"
"""The bin of the texts that have no bin of their own."""


class AnsweredCall(NamedTuple):
    """The rows of one prediction call, (n, columns), and how the model answered them."""

    rows: NDArray[np.float64]
    answer: Answer
    seconds: float


def take_all(queue: deque[Item]) -> Iterator[Item]:
    """Empty a queue. If two threads do so at once, each item goes to one of them."""
    while queue:
        try:
            yield queue.popleft()
        except IndexError:
            return


class Instruments:
    """The metrics of answered calls, for all model versions of a worker."""

    def __init__(self) -> None:
        self.predictions = instruments.counter(instruments.PREDICTIONS)
        self.confidence = instruments.histogram(instruments.CONFIDENCE)
        self.feature_rows = instruments.counter(instruments.FEATURE_ROWS)
        self.request_rows = instruments.histogram(instruments.REQUEST_ROWS)
        self.inference = instruments.histogram(instruments.INFERENCE_SECONDS)


class VersionCounters:
    """The series of one model version, all of which start at 0."""

    def __init__(self, model: Model, of: Instruments) -> None:
        version = str(model.version)
        self._bins = Bins.of_predictions(model)
        self._predictions = [of.predictions.labels(version, name) for name in self._bins.names]
        self._seconds = BulkHistogram(of.inference.labels(version))
        self._rows = BulkHistogram(of.request_rows)
        self._confidence = (
            BulkHistogram(of.confidence.labels(version)) if model.has_probabilities else None
        )
        self._features = [
            (column, bins, [of.feature_rows.labels(version, name, text) for text in bins.names])
            for column, (name, bins) in enumerate(bins_of(model).items())
        ]

    def add(self, calls: Sequence[AnsweredCall]) -> None:
        """Count calls, without a loop over their rows."""
        rows, answers, seconds = zip(*calls, strict=True)
        self._rows.observe([len(each) for each in rows])
        self._seconds.observe(seconds)
        values = np.concatenate([each.values for each in answers])
        _add(self._predictions, self._bins.count(values))
        found = [each.probabilities for each in answers if each.probabilities is not None]
        if self._confidence and found:
            # Column by column is 30 times as fast as max(axis=1).
            highest = reduce(np.maximum, np.concatenate(found).T)
            # Some estimators give no probability far away from their training rows.
            self._confidence.observe(highest[~np.isnan(highest)])
        if self._features:
            cells = np.concatenate(rows)
            for column, bins, series in self._features:
                _add(series, bins.count(cells[:, column]))


def bins_of(model: Model) -> "dict[str, Bins | Categories]":
    """Return the bins of each column by its plain name; none without a training profile."""
    if (profile := model.profile) is None:
        return {}
    return {
        column.plain_name: Bins.of_feature(profile.features[column.plain_name])
        if column.plain_name in profile.features
        else Categories(profile.categories[column.plain_name], column)
        for column in model.schema.columns
    }


class Categories:
    """The categories of a column of texts or booleans, as `Bins` has those of numbers.

    A text that is not in the training profile is counted as `other`.
    """

    def __init__(self, profile: CategoryProfile, column: Column) -> None:
        counted = profile.categories | {OTHER: profile.other + profile.categories.get(OTHER, 0.0)}
        self.names = list(counted)
        self.expected = list(counted.values())
        codes = {"false": 0.0, "true": 1.0} if column.type == "boolean" else column.codes
        # The bin of each code, and last that of an unknown text, whose code is -1.
        bins = dict(zip(self.names, range(len(counted)), strict=True))
        self._bins = np.array([bins.get(name, bins[OTHER]) for name in [*codes, OTHER]])

    def count(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the number of values of each category; missing ones are left out."""
        known = values[~np.isnan(values)].astype(np.int64)
        return np.bincount(self._bins[known])


@dataclass(frozen=True)
class Bins:
    """The bins of numbers: those of a training profile, or one for each class of a classifier.

    Attributes:
        limits: The smallest number of each bin but the first, ascending.
        names: The label of each bin, in ascending order.
        expected: The share of the training rows in each bin, 0 to 1; empty without a profile.
    """

    limits: NDArray[np.float64]
    names: list[str]
    expected: list[float]

    @classmethod
    def of_feature(cls, profile: FeatureProfile) -> "Bins":
        """Return the bins of a column, with one below and one above the training rows."""
        return cls._between(profile.edges, [0.0, *profile.shares, 0.0])

    @classmethod
    def of_predictions(cls, model: Model) -> "Bins":
        """Return a bin for each class, or the bins of the target of a regressor."""
        profile = model.profile
        if model.classes:
            names = list(map(str, model.classes))
            shares = (profile.classes if profile else None) or {}
            expected = [shares.get(name, 0.0) for name in names] if profile else []
            return cls(np.arange(1.0, len(names)), names, expected)
        if profile is None or profile.target is None:
            return cls(np.array([]), ["any"], [])
        return cls._between(profile.target.edges, profile.target.shares)

    @classmethod
    def _between(cls, edges: Sequence[float], expected: Sequence[float]) -> "Bins":
        # numpy.histogram, which made the shares, counts the last edge in the last bin.
        limits = np.array([*edges[:-1], np.nextafter(edges[-1], np.inf)])
        texts = [f"{edge:g}" for edge in edges]
        if len(set(texts)) < len(texts):
            texts = [repr(edge) for edge in edges]
        names = ["below", *(f"{low}-{high}" for low, high in pairwise(texts)), "above"]
        return cls(limits, names, list(expected))

    def count(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Return the number of values in each bin, up to the last one that has any.

        Missing values are left out, as in the training profile.
        """
        known = values[~np.isnan(values)]
        return np.bincount(self.limits.searchsorted(known, side="right"))


class BulkHistogram:
    """Adds many values to a histogram at once; `Histogram.observe` adds one in a Python loop.

    Relies on the private attributes of prometheus_client in which a histogram keeps its numbers;
    `pyproject.toml` pins the package, and `bentoml_server/compat.py` checks the attributes.
    """

    def __init__(self, child: Histogram) -> None:
        self._bounds = np.array(child._upper_bounds)  # noqa: SLF001
        self._buckets: Sequence[Any] = child._buckets  # noqa: SLF001
        self._sum = child._sum  # noqa: SLF001

    def observe(self, values: ArrayLike) -> None:
        """Count each value in the first bucket whose bound is not below it."""
        found = np.asarray(values)
        _add(self._buckets, np.bincount(self._bounds.searchsorted(found)))
        self._sum.inc(float(found.sum(dtype=np.float64)))


def _add(series: Sequence[Counter], counts: NDArray[np.int64]) -> None:
    for index in counts.nonzero()[0].tolist():
        series[index].inc(float(counts[index]))

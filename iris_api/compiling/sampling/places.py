"""The parts of an estimator, each with its place: what it is given for the rows of the whole.

A part is given what the steps before it made of a row. Where these can be inverted, a place also
has the way back, from what the part is to be given to a row.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.calibration import _CalibratedClassifier
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    StackingClassifier,
    StackingRegressor,
)
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.feature_selection import SelectorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

Rows = NDArray[np.float64]

_INVERTIBLE = (
    MaxAbsScaler,
    MinMaxScaler,
    PCA,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SelectorMixin,
    StandardScaler,
)
"""Steps that can be inverted for any numbers."""


@dataclass(frozen=True)
class Place:
    """The mapping between rows of the whole estimator and the input of one part.

    `given` returns the input of the part for rows. `rows_for` returns rows for an input; it also
    takes rows, for the columns that are not in the input. It is None behind a step that cannot be
    inverted.
    """

    given: Callable[[Rows], Rows]
    rows_for: Callable[[Rows, Rows], Rows] | None

    def columns(self, chosen: Any) -> "Place":
        """Return the place of a part that is given some columns."""
        given, rows_for = self.given, self.rows_for

        def invert(rows: Rows, values: Rows) -> Rows:
            inner = given(rows).copy()
            inner[:, chosen] = values
            return inner if rows_for is None else rows_for(rows, inner)

        return Place(lambda rows: given(rows)[:, chosen], rows_for and invert)

    def behind(self, step: Any) -> "Place":
        """Return the place behind a step."""
        given, rows_for = self.given, self.rows_for

        def transform(rows: Rows) -> Rows:
            made = step.transform(given(rows))
            return np.asarray(made.toarray() if hasattr(made, "toarray") else made, np.float64)

        def invert(rows: Rows, values: Rows) -> Rows:
            inner = np.asarray(step.inverse_transform(values), dtype=np.float64)
            return inner if rows_for is None else rows_for(rows, inner)

        can = rows_for is not None and isinstance(step, _INVERTIBLE)
        return Place(transform, invert if can else None)


OWN = Place(lambda rows: rows, lambda _, values: values)
"""The place of an estimator itself."""


def places_of(part: Any, place: Place) -> Iterator[tuple[Any, Place]]:
    """Yield each part of an estimator with its place."""
    yield part, place
    for child, its_place in _WAYS.get(type(part), _to_children)(part, place):
        yield from places_of(child, its_place)


def _to_steps(pipeline: Any, place: Place) -> Iterator[tuple[Any, Place]]:
    for _, step in pipeline.steps:
        yield step, place
        place = place.behind(step) if hasattr(step, "transform") else place


def _to_columns(transformer: Any, place: Place) -> Iterator[tuple[Any, Place]]:
    indices = transformer._transformer_to_input_indices  # noqa: SLF001 (names become places here)
    for name, step, _ in transformer.transformers_:
        yield step, place.columns(indices[name])


def _to_bagged(ensemble: Any, place: Place) -> Iterator[tuple[Any, Place]]:
    for part, columns in zip(ensemble.estimators_, ensemble.estimators_features_, strict=True):
        whole = np.array_equal(columns, np.arange(ensemble.n_features_in_))
        yield part, place if whole else place.columns(columns)


def _to_boosted(boosting: Any, place: Place) -> Iterator[tuple[Any, Place]]:
    if boosting._preprocessor is not None:  # noqa: SLF001 (no public name)
        yield boosting._preprocessor, place  # noqa: SLF001
        place = place.behind(boosting._preprocessor)  # noqa: SLF001
    yield from ((part, place) for part in _parts_in(boosting._predictors))  # noqa: SLF001


def _to_stack(stack: Any, place: Place) -> Iterator[tuple[Any, Place]]:
    yield from ((part, place) for part in stack.estimators_)
    yield stack.final_estimator_, place.behind(stack)


def _to_calibrators(calibrated: Any, place: Place) -> Iterator[tuple[Any, Place]]:
    yield calibrated.estimator, place
    scores = Place(lambda rows: _scores(calibrated.estimator, place.given(rows)), None)
    for column, calibrator in enumerate(calibrated.calibrators):
        yield calibrator, scores.columns([column])


def _to_children(part: Any, place: Place) -> Iterator[tuple[Any, Place]]:
    for name, held in getattr(part, "__dict__", {}).items():
        # Other attributes are parameters, such as estimators that were not fitted.
        if name.endswith("_") or name in _FITTED_IN_PLACE.get(type(part), ()):
            yield from ((child, place) for child in _parts_in(held))


_WAYS: dict[type, Callable[[Any, Place], Iterator[tuple[Any, Place]]]] = {
    BaggingClassifier: _to_bagged,
    BaggingRegressor: _to_bagged,
    ColumnTransformer: _to_columns,
    **dict.fromkeys((HistGradientBoostingClassifier, HistGradientBoostingRegressor), _to_boosted),
    Pipeline: _to_steps,
    StackingClassifier: _to_stack,
    StackingRegressor: _to_stack,
    _CalibratedClassifier: _to_calibrators,
}
"""How rows come to the parts of an estimator, where it does not give them on as they are."""

_FITTED_IN_PLACE = {
    FeatureUnion: ("transformer_list",),
    FrozenEstimator: ("estimator",),
}
"""Attributes of fitted parts whose names do not end as those of fitted ones do."""


def _parts_in(held: Any) -> Iterator[Any]:
    if isinstance(held, np.ndarray) and held.dtype == object:
        held = held.ravel().tolist()
    if isinstance(held, list | tuple):
        for each in held:
            yield from _parts_in(each)
    elif isinstance(held, BaseEstimator | TreePredictor | _CalibratedClassifier):
        yield held


def _scores(estimator: Any, rows: Rows) -> Rows:
    """Return what the calibrators behind an estimator are given."""
    if hasattr(estimator, "decision_function"):
        return np.asarray(estimator.decision_function(rows), np.float64).reshape(len(rows), -1)
    probabilities: Rows = estimator.predict_proba(rows)
    return probabilities[:, 1:] if probabilities.shape[1] == 2 else probabilities

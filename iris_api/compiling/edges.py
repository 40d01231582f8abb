"""Rows on the edges that fitted parts compare with, and on both sides of them.

A part of an estimator is given rows that the steps before it made. So each part comes with a place:
what it is given for a row, and where that can be inverted, the row for what it is to be given.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.calibration import _CalibratedClassifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    BaggingClassifier,
    HistGradientBoostingClassifier,
    StackingClassifier,
)
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, Pipeline

from iris_api.compiling.bisection import bisect
from iris_api.compiling.thresholds import Edges, draw_edges

Rows = NDArray[np.float64]

MAX_EDGES = 8192
"""Most edges that are compared with the rows themselves, six rows each: 1000 unlimited trees on the
iris rows have 8000."""

MAX_HIDDEN_EDGES = 1024
"""Most edges behind the same steps; each takes two bisections."""

MAX_NUMBERS = 2**23
"""Most numbers in the rows of edges, 64 MB: it limits the edges for rows of many columns."""


@dataclass(frozen=True)
class _Place:
    """What a part is given for rows, and the rows for which it is given something.

    `rows_for` takes rows as well, for the columns that the part is not given. It is None behind a
    step that cannot be inverted.
    """

    given: Callable[[Rows], Rows]
    rows_for: Callable[[Rows, Rows], Rows] | None

    def columns(self, chosen: Any) -> "_Place":
        """Return the place of a part that is given some columns."""
        given, rows_for = self.given, self.rows_for

        def invert(rows: Rows, values: Rows) -> Rows:
            inner = given(rows).copy()
            inner[:, chosen] = values
            return inner if rows_for is None else rows_for(rows, inner)

        return _Place(lambda rows: given(rows)[:, chosen], rows_for and invert)

    def behind(self, step: Any) -> "_Place":
        """Return the place behind a step."""
        given, rows_for = self.given, self.rows_for

        def transform(rows: Rows) -> Rows:
            made = step.transform(given(rows))
            return np.asarray(made.toarray() if hasattr(made, "toarray") else made, np.float64)

        def invert(rows: Rows, values: Rows) -> Rows:
            inner = np.asarray(step.inverse_transform(values), dtype=np.float64)
            return inner if rows_for is None else rows_for(rows, inner)

        can = rows_for is not None and hasattr(step, "inverse_transform")
        return _Place(transform, invert if can else None)


MAX_DRAWN = 512
"""Rows of the pool among which the ends of lines are looked for."""

OWN = _Place(lambda rows: rows, lambda _, values: values)
"""The place of an estimator itself."""


def edge_rows(estimator: Any, pool: Rows, rng: np.random.Generator) -> Rows:
    """Return rows on the edges of each part, and on their neighbours in float64 and float32.

    Args:
        estimator: A fitted classifier.
        pool: (n, columns), rows that are spread over those that edges are wanted for.
        rng: What chooses edges and the rest of a row.
    """
    places: dict[_Place, list[Any]] = {}
    for part, place in _places(estimator, OWN):
        places.setdefault(place, []).append(part)
    limit = MAX_NUMBERS // (6 * pool.shape[1])
    found = [pool[:0]]
    for place, parts in places.items():
        given = place.given(pool)
        count = min(limit, MAX_EDGES if place is OWN else MAX_HIDDEN_EDGES)
        if edges := draw_edges(parts, given.min(axis=0), given.max(axis=0), count, rng):
            beside = _beside(edges, rng) if place is OWN else _bisected(place, edges, pool, rng)
            found.append(beside)
    return np.vstack(found)


def _places(part: Any, place: _Place) -> Iterator[tuple[Any, _Place]]:
    """Yield each part of an estimator with its place."""
    yield part, place
    for child, its_place in _WAYS.get(type(part), _to_children)(part, place):
        yield from _places(child, its_place)


def _to_steps(pipeline: Any, place: _Place) -> Iterator[tuple[Any, _Place]]:
    for _, step in pipeline.steps:
        yield step, place
        place = place.behind(step) if hasattr(step, "transform") else place


def _to_columns(transformer: Any, place: _Place) -> Iterator[tuple[Any, _Place]]:
    indices = transformer._transformer_to_input_indices  # noqa: SLF001 (names become places here)
    for name, step, _ in transformer.transformers_:
        yield step, place.columns(indices[name])


def _to_bagged(ensemble: Any, place: _Place) -> Iterator[tuple[Any, _Place]]:
    for part, columns in zip(ensemble.estimators_, ensemble.estimators_features_, strict=True):
        whole = np.array_equal(columns, np.arange(ensemble.n_features_in_))
        yield part, place if whole else place.columns(columns)


def _to_stack(stack: Any, place: _Place) -> Iterator[tuple[Any, _Place]]:
    yield from ((part, place) for part in stack.estimators_)
    yield stack.final_estimator_, place.behind(stack)


def _to_calibrators(calibrated: Any, place: _Place) -> Iterator[tuple[Any, _Place]]:
    yield calibrated.estimator, place
    scores = _Place(lambda rows: _scores(calibrated.estimator, place.given(rows)), None)
    for column, calibrator in enumerate(calibrated.calibrators):
        yield calibrator, scores.columns([column])


def _to_children(part: Any, place: _Place) -> Iterator[tuple[Any, _Place]]:
    for name, held in getattr(part, "__dict__", {}).items():
        # Other attributes are parameters, such as estimators that were not fitted.
        if name.endswith("_") or name in _FITTED_IN_PLACE.get(type(part), ()):
            yield from ((child, place) for child in _parts_in(held))


_WAYS: dict[type, Callable[[Any, _Place], Iterator[tuple[Any, _Place]]]] = {
    BaggingClassifier: _to_bagged,
    ColumnTransformer: _to_columns,
    Pipeline: _to_steps,
    StackingClassifier: _to_stack,
    _CalibratedClassifier: _to_calibrators,
}
"""How rows come to the parts of an estimator, where it does not give them on as they are."""

_FITTED_IN_PLACE = {
    HistGradientBoostingClassifier: ("_predictors",),
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


def _beside(edges: Edges, rng: np.random.Generator) -> Rows:
    """Return rows on each edge and its neighbours, rounded to float32 as well: six rows each.

    The other columns are drawn from the box of the edge; an error would not show elsewhere.
    """
    values = [
        np.nextafter(exact, side).astype(np.float64)
        for exact in (edges.value, edges.value.astype(np.float32))
        for side in (exact, exact.dtype.type(-np.inf), exact.dtype.type(np.inf))
    ]
    rows = np.repeat(rng.uniform(edges.low, edges.high)[np.newaxis], len(values), axis=0)
    rows[:, np.arange(len(edges.column)), edges.column] = values
    return rows.reshape(-1, edges.low.shape[1])


def _bisected(place: _Place, edges: Edges, pool: Rows, rng: np.random.Generator) -> Rows:
    """Bisect lines of rows until what the part is given passes an edge between two neighbours."""
    edges = edges.on_both_sides()
    low, high = _drawn_ends(edges, pool[:MAX_DRAWN], place.given(pool[:MAX_DRAWN]), rng)
    if place.rows_for is not None:
        better = _inverted_ends(edges, pool, place.rows_for, rng)
        passes = edges.are_passed(*map(place.given, better))
        low[passes], high[passes] = better[0][passes], better[1][passes]
    passes = edges.are_passed(place.given(low), place.given(high))
    edges = edges.take(passes)
    return np.vstack(
        bisect(low[passes], high[passes], lambda rows: edges.are_below(place.given(rows)))
    )


def _drawn_ends(
    edges: Edges, pool: Rows, given: Rows, rng: np.random.Generator
) -> tuple[Rows, Rows]:
    """Draw rows of the pool in the box of each edge, one on each side; any rows without such."""
    chosen = rng.integers(len(pool), size=(2, len(edges.column)))
    for edge, (low, high) in enumerate(zip(edges.low, edges.high, strict=True)):
        inside = ((given >= low) & (given <= high)).all(axis=1)
        below = given[:, edges.column[edge]] <= edges.value[edge]
        for ends, found in zip(chosen, (inside & below, inside & ~below), strict=True):
            if found.any():
                ends[edge] = rng.choice(np.flatnonzero(found))
    return pool[chosen[0]], pool[chosen[1]]


def _inverted_ends(
    edges: Edges, pool: Rows, rows_for: Callable[[Rows, Rows], Rows], rng: np.random.Generator
) -> tuple[Rows, Rows]:
    """Return the rows for two points in the box of each edge, one on each side."""
    rows = pool[rng.integers(len(pool), size=len(edges.column))]
    points = rng.uniform(edges.low, edges.high)
    place = np.arange(len(points)), edges.column
    ends = []
    for bound in (edges.low, edges.high):
        points[place] = (bound[place] + edges.value) / 2
        ends.append(rows_for(rows, points))
    return ends[0], ends[1]

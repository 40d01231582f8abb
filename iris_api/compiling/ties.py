"""Rows whose label depends on the last digits of a sum.

A sum of products depends on the order of adding: scikit-learn's own answer for such a row can be
another one alone than among others. Trees, votes and isotonic steps of these are exact: of equal
counts, one class is the right one.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV, _SigmoidCalibration
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model._base import LinearClassifierMixin
from sklearn.metrics import pairwise_distances
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, NuSVC

from iris_api.compiling.sampling.rows import parts_of

Rows = NDArray[np.float64]
Found = NDArray[np.bool_]

TIE_LIMIT = 1e-12
"""Relative difference of two scores below which their order is left to rounding."""


def find_ties(classifier: Any, rows: Rows) -> Found:
    """Find the rows, (n,), for which two labels have the same score but for rounding."""
    return _find(_FINDERS, classifier, rows)


def find_tied_votes(classifier: Any, rows: Rows) -> Found:
    """Find the rows, (n,), for which a part that votes by its label has a tie.

    Only there do probabilities step, because the whole vote is theirs, and where all of
    one-against-rest vanish.
    """
    return _find(_VOTERS, classifier, rows)


def _find(finders: "_Finders", classifier: Any, rows: Rows) -> Found:
    for kinds, find in finders:
        if len(rows) and isinstance(classifier, kinds):
            return find(classifier, rows)
    return np.zeros(len(rows), dtype=np.bool_)


def _near(difference: Rows, scale: Rows | float) -> Found:
    return np.asarray(np.abs(difference) <= TIE_LIMIT * np.maximum(1.0, np.abs(scale)))


def _of_scores(scores: Rows) -> Found:
    """Compare the two highest scores, (n, k), or one score, (n,), with 0."""
    if scores.ndim == 1:
        return _near(scores, 1.0)
    second, best = np.sort(scores, axis=1)[:, -2:].T
    return _near(best - second, best)


def _by_scores(classifier: Any, rows: Rows) -> Found:
    return _of_scores(classifier.decision_function(rows))


def _by_probabilities(classifier: Any, rows: Rows) -> Found:
    return _of_scores(classifier.predict_proba(rows))


def _by_pairs(classifier: Any, rows: Rows) -> Found:
    """Compare each pair of classes, as support vector machines do."""
    scores = classifier._decision_function(rows)  # noqa: SLF001 (before they are made votes)
    scale = np.abs(classifier.dual_coef_).sum()
    return np.asarray(_near(scores.reshape(len(rows), -1), scale).any(axis=1))


def _by_distance(points: Rows, rows: Rows) -> Found:
    return _of_scores(-pairwise_distances(rows, points, metric="sqeuclidean"))


def _of_parts(classifier: Any, rows: Rows) -> Found:
    """Find the rows that are a tie for any part that votes."""
    found = [find_ties(part, rows) for part in classifier.estimators_]
    return np.asarray(np.any(found, axis=0))


def _centroid(classifier: Any, rows: Rows) -> Found:
    return _by_distance(classifier.centroids_, rows) | _by_scores(classifier, rows)


def _pipeline(classifier: Any, rows: Rows) -> Found:
    return find_ties(classifier.steps[-1][1], classifier[:-1].transform(rows))


def _threshold(classifier: Any, rows: Rows) -> Found:
    inner = getattr(classifier, "estimator_", classifier.estimator)
    limit = getattr(classifier, "best_threshold_", getattr(classifier, "threshold", "auto"))
    found = np.zeros(len(rows), dtype=np.bool_)
    if not _adds_products(inner):
        return found
    if hasattr(inner, "predict_proba"):
        second = inner.predict_proba(rows)[:, 1]
        found |= _near(second - (0.5 if limit == "auto" else limit), 1.0)
    if hasattr(inner, "decision_function"):
        found |= _near(inner.decision_function(rows) - (0.0 if limit == "auto" else limit), 1.0)
    return found


def _calibrated(classifier: Any, rows: Rows) -> Found:
    return _by_probabilities(classifier, rows) & _adds_products(classifier)


def _against_rest(classifier: Any, rows: Rows) -> Found:
    by_scores = hasattr(classifier.estimators_[0], "decision_function")
    found = (_by_scores if by_scores else _by_probabilities)(classifier, rows)
    return found & _adds_products(classifier)


def _vanishing(classifier: Any, rows: Rows) -> Found:
    """Find the rows far out where all probabilities round to 0, or almost, before they are shared.

    The smallest of them are lost or kept by the last digit of a score.
    """
    if not hasattr(classifier, "predict_proba"):
        return np.zeros(len(rows), dtype=np.bool_)
    each = [part.predict_proba(rows)[:, -1] for part in classifier.estimators_]
    return np.asarray(np.max(each, axis=0) < np.finfo(np.float64).tiny)


def _against_one(classifier: Any, rows: Rows) -> Found:
    votes = _by_scores(classifier, rows) & _adds_products(classifier)
    return votes | _of_parts(classifier, rows)


def _code(classifier: Any, rows: Rows) -> Found:
    each = [
        part.decision_function(rows)
        if hasattr(part, "decision_function")
        else part.predict_proba(rows)[:, 1]
        for part in classifier.estimators_
    ]
    return _by_distance(classifier.code_book_, np.column_stack(each))


def _averaged(classifier: Any, rows: Rows) -> Found:
    """Find ties of a mean of probabilities, or of parts that have none and vote."""
    if _votes(classifier):
        return _of_parts(classifier, rows)
    return _by_probabilities(classifier, rows) & _adds_products(classifier)


def _votes(classifier: Any) -> bool:
    parts = classifier.estimators_
    hard = getattr(classifier, "voting", "soft") == "hard"
    return hard or not all(hasattr(part, "predict_proba") for part in parts)


def _bagged_votes(classifier: Any, rows: Rows) -> Found:
    return _of_parts(classifier, rows) & _votes(classifier)


def _stacked(classifier: Any, rows: Rows) -> Found:
    return find_ties(classifier.final_estimator_, classifier.transform(rows))


def _adds_products(classifier: Any) -> bool:
    """Return whether a score of a classifier, or of one of its parts, is a sum of products."""
    return any(isinstance(part, _SUMS) for part in parts_of(classifier))


_BAYES = (GaussianNB, BernoulliNB, ComplementNB, MultinomialNB)
_SUMS = (
    *(LinearClassifierMixin, SVC, NuSVC, QuadraticDiscriminantAnalysis, MLPClassifier),
    *(NearestCentroid, _SigmoidCalibration, *_BAYES),
)
"""Parts whose scores depend on the order of adding, or on the last digit of an exponential."""

_Finders = tuple[tuple[type | tuple[type, ...], Callable[[Any, Rows], Found]], ...]

_FINDERS: _Finders = (
    (LinearClassifierMixin, _by_scores),
    ((SVC, NuSVC), _by_pairs),
    ((QuadraticDiscriminantAnalysis, MLPClassifier, *_BAYES), _by_probabilities),
    (CalibratedClassifierCV, _calibrated),
    (NearestCentroid, _centroid),
    (Pipeline, _pipeline),
    ((GridSearchCV, RandomizedSearchCV), lambda it, rows: find_ties(it.best_estimator_, rows)),
    ((FixedThresholdClassifier, TunedThresholdClassifierCV), _threshold),
    (OneVsRestClassifier, _against_rest),
    (OneVsOneClassifier, _against_one),
    (OutputCodeClassifier, _code),
    ((BaggingClassifier, VotingClassifier), _averaged),
    (AdaBoostClassifier, _of_parts),
    (StackingClassifier, _stacked),
)

_VOTERS: _Finders = (
    (Pipeline, lambda it, rows: find_tied_votes(it.steps[-1][1], it[:-1].transform(rows))),
    (
        (GridSearchCV, RandomizedSearchCV),
        lambda it, rows: find_tied_votes(it.best_estimator_, rows),
    ),
    (BaggingClassifier, _bagged_votes),
    (AdaBoostClassifier, _of_parts),
    (OneVsRestClassifier, _vanishing),
)

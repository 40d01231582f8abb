"""The proof that a compiled model answers as scikit-learn does.

No converter is trusted: some estimators convert without an error into a graph that answers
something else. So both are asked rows that are chosen to tell them apart, and a model that differs
anywhere is served by scikit-learn itself.
"""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin

from iris_api.errors import IrisError
from iris_api.schema import MAXIMUM_CM, MINIMUM_CM
from iris_api.store.metadata import Proof

PROBABILITY_LIMIT = 1e-5
"""Limit of the difference of a probability; float32 has seven decimals."""

TIE_LIMIT = 2.0**-20
"""Largest difference of two tied scores, relative to the largest score if that is above 1.

Eight steps of a float32 at 1.0, whose eps is 2**-23: about what the sum of a forest's votes loses.
"""

SINGLE_ROWS = 256
"""Rows that are also asked one by one, for which ONNX Runtime sums trees in another order."""

_PACKAGES = ("scikit-learn", "onnx", "onnxruntime")


class CompileError(IrisError):
    """The reason, in one line, why scikit-learn serves a model."""


class UnansweredError(IrisError):
    """scikit-learn itself cannot answer every row that the service accepts."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"scikit-learn itself does not answer every row of {MINIMUM_CM} to {MAXIMUM_CM} cm: "
            f"{why}; train an estimator that does, and fit it on those four columns alone"
        )


@dataclass(frozen=True)
class Reference:
    """The answers of scikit-learn.

    Attributes:
        rows: float64 (n, 4), in cm.
        labels: int64 (n,), indices into `classes_`.
        probabilities: float64 (n, k), or None for an estimator without them.
        scores: float64 (n, k), whose largest decides the label; None for an estimator without them.
    """

    rows: NDArray[np.float64]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64] | None
    scores: NDArray[np.float64] | None


def ask(estimator: ClassifierMixin, rows: NDArray[np.float64]) -> Reference:
    """Return what an estimator with one-dimensional `classes_` answers to rows, (n, 4) in cm.

    Raises:
        UnansweredError: a label is not among the classes, or a probability is not a finite number.
        Exception: whatever the estimator raises for a row that it cannot answer.
    """
    probabilities = scores = None
    predicted = np.asarray(estimator.predict(rows))
    if hasattr(estimator, "predict_proba"):
        probabilities = np.asarray(estimator.predict_proba(rows), dtype=np.float64)
    if hasattr(estimator, "decision_function"):
        scores = np.asarray(estimator.decision_function(rows), dtype=np.float64)
        scores = np.column_stack([-scores, scores]) if scores.ndim == 1 else scores
    labels = predicted[:, np.newaxis] == estimator.classes_
    if not labels.any(axis=1).all():
        raise UnansweredError("it predicts labels that are not among its classes")
    if probabilities is not None and (unsound := ~np.isfinite(probabilities).all(axis=1)).any():
        first = rows[unsound.argmax()].tolist()
        raise UnansweredError(
            f"{unsound.sum()} of {len(rows)} have probabilities that are not finite, first {first}"
        )
    return Reference(
        rows=rows,
        labels=labels.argmax(axis=1).astype(np.int64),
        probabilities=probabilities,
        scores=probabilities if scores is None else scores,
    )


def prove(session: Any, reference: Reference) -> Proof:
    """Compare a compiled model with scikit-learn, all rows at once and some one at a time.

    Raises:
        CompileError: a label or a probability differs.
        Exception: ONNX Runtime has one type for each kind of failure, without a common base class.
    """
    rows = reference.rows
    outputs = session.run(None, {"rows": rows})
    ties, difference = _compare(outputs, reference)
    step = max(1, len(rows) // SINGLE_ROWS)
    alone = [session.run(None, {"rows": row[np.newaxis]}) for row in rows[::step]]
    for output, single in zip(outputs, zip(*alone, strict=True), strict=True):
        output[::step] = np.concatenate(single)
    _, difference_alone = _compare(outputs, reference)
    return Proof(
        precision="float64",
        rows=len(rows),
        ties=ties,
        largest_difference=max(difference, difference_alone),
        versions={package: version(package) for package in _PACKAGES},
    )


def _compare(outputs: list[NDArray[Any]], reference: Reference) -> tuple[int, float]:
    """Return the number of ties and the largest difference of a probability."""
    labels = outputs[0]
    if labels.shape != reference.labels.shape or labels.dtype != np.int64:
        raise CompileError(f"its labels are {labels.dtype} of shape {labels.shape}")
    other = np.flatnonzero(labels != reference.labels)
    wrong = other[~_tied(other, labels, reference)]
    if wrong.size:
        row = reference.rows[wrong[0]].tolist()
        raise CompileError(
            f"{wrong.size} of {len(labels)} labels differ from scikit-learn's, first for {row}"
        )
    difference = 0.0
    if reference.probabilities is not None:
        if outputs[1].shape != reference.probabilities.shape:
            raise CompileError(f"its probabilities have the shape {outputs[1].shape}")
        difference = float(np.abs(outputs[1] - reference.probabilities).max())
        if not difference < PROBABILITY_LIMIT:  # also true for NaN
            raise CompileError(f"a probability differs by {difference:.1e} from scikit-learn's")
    return len(other), difference


def _tied(
    other: NDArray[np.intp], labels: NDArray[np.int64], reference: Reference
) -> NDArray[np.bool_]:
    """Return for each of the rows `other` whether both of its labels have the best score.

    Without scores for each class, no row is tied.
    """
    classes = 0 if reference.scores is None else reference.scores.shape[1]
    if reference.scores is None or not np.all((labels[other] >= 0) & (labels[other] < classes)):
        return np.zeros(len(other), dtype=np.bool_)
    scores = reference.scores[other]
    every = np.arange(len(other))
    theirs, ours = scores[every, reference.labels[other]], scores[every, labels[other]]
    resolution = TIE_LIMIT * np.maximum(1.0, np.abs(scores).max(axis=1))
    short = scores.max(axis=1) - np.minimum(theirs, ours)
    return np.asarray(short <= resolution)

"""The proof that a compiled model answers what scikit-learn answers.

No converter is trusted: some estimators convert without an error into a graph that answers
something else. So both sides are run over rows that are chosen to tell them apart, and a model
that differs anywhere stays with scikit-learn.
"""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin

from iris_api.errors import IrisError
from iris_api.schema import MAXIMUM_CM, MINIMUM_CM
from iris_api.store.metadata import Proof

# The five decimals that skl2onnx's own tests ask for; a float32 probability has about seven.
PROBABILITY_LIMIT = 1e-5
# Eight steps of a float32 at 1.0 (numpy.finfo(numpy.float32).eps is 2**-23): what is lost where a
# forest's votes are summed up in float32. Relative to the largest score, if that is above 1.
TIE_LIMIT = 2.0**-20
# Rows that are also asked one at a time: ONNX Runtime sums trees another way for a single row.
SINGLE_ROWS = 256

Precision = Literal["float64", "float32"]
"""dtype of the rows that a compiled model takes."""

_PACKAGES = ("scikit-learn", "skl2onnx", "onnx", "onnxruntime")


class CompileError(IrisError):
    """The one-line reason why an estimator stays with scikit-learn."""


class UnansweredError(IrisError):
    """scikit-learn itself cannot answer every row that the service accepts."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"scikit-learn itself does not answer every row of {MINIMUM_CM} to {MAXIMUM_CM} cm: "
            f"{why}; train an estimator that does, and fit it on those four columns alone"
        )


@dataclass(frozen=True)
class Reference:
    """What scikit-learn answers.

    Attributes:
        rows: float64 (n, 4), in cm.
        labels: int64 (n,), indices into ``classes_``.
        probabilities: float64 (n, k), or None when the estimator has none.
        scores: float64 (n, k), which the labels were decided by; None when the estimator has none.
    """

    rows: NDArray[np.float64]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64] | None
    scores: NDArray[np.float64] | None


def consult(estimator: ClassifierMixin, rows: NDArray[np.float64]) -> Reference:
    """Ask scikit-learn.

    Args:
        estimator: Fitted, with one-dimensional ``classes_``.
        rows: float64 (n, 4), in cm.

    Raises:
        UnansweredError: It predicts labels that are not among its classes, or probabilities that
            are no numbers.
        Exception: Whatever the estimator raises for a row that it cannot answer.
    """
    probabilities = scores = None
    named = estimator.predict(rows)
    if hasattr(estimator, "predict_proba"):
        probabilities = np.asarray(estimator.predict_proba(rows), dtype=np.float64)
    if hasattr(estimator, "decision_function"):
        scores = np.asarray(estimator.decision_function(rows), dtype=np.float64)
    if scores is not None and scores.ndim == 1:
        scores = np.column_stack([-scores, scores])
    labels = np.asarray(named)[:, np.newaxis] == estimator.classes_
    if not labels.any(axis=1).all():
        raise UnansweredError("it predicts labels that are not among its classes")
    if probabilities is not None and (unsound := ~np.isfinite(probabilities).all(axis=1)).any():
        first = rows[unsound.argmax()].tolist()
        raise UnansweredError(
            f"{unsound.sum()} of {len(rows)} have probabilities that are no numbers, first {first}"
        )
    return Reference(
        rows=rows,
        labels=labels.argmax(axis=1).astype(np.int64),
        probabilities=probabilities,
        scores=probabilities if scores is None else scores,
    )


def prove(session: Any, reference: Reference, precision: Precision) -> Proof:
    """Compare the compiled model with scikit-learn, all rows at once and some one at a time.

    Args:
        session: Of the compiled model.
        reference: What scikit-learn answers.
        precision: dtype of the rows that the compiled model takes.

    Raises:
        CompileError: A label or a probability differs.
        Exception: ONNX Runtime has one type for each kind of failure, without a common base.
    """
    rows = reference.rows.astype(precision)
    together = session.run(None, {"rows": rows})
    every = max(1, len(rows) // SINGLE_ROWS)
    alone = [session.run(None, {"rows": row[np.newaxis]}) for row in rows[::every]]
    ties, difference = _compare(together, reference)
    _, difference_alone = _compare(
        [np.concatenate(outputs) for outputs in zip(*alone, strict=True)], _every(reference, every)
    )
    return Proof(
        precision=precision,
        rows=len(rows),
        ties=ties,
        largest_difference=max(difference, difference_alone),
        versions={package: version(package) for package in _PACKAGES},
    )


def _compare(outputs: list[NDArray[Any]], reference: Reference) -> tuple[int, float]:
    """Count the ties and find the largest difference of a probability."""
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
        if not difference < PROBABILITY_LIMIT:  # so that NaN does not pass
            raise CompileError(f"a probability differs by {difference:.1e} from scikit-learn's")
    return len(other), difference


def _tied(
    other: NDArray[np.intp], labels: NDArray[np.int64], reference: Reference
) -> NDArray[np.bool_]:
    """Tell which rows have both labels, ours and scikit-learn's, tied for the best score.

    Args:
        other: (m,) indices of the rows where the labels differ.
        labels: (n,) of the compiled model.
        reference: What scikit-learn answers.

    Returns:
        (m,). None is tied when scikit-learn has no score for each class to tell by.
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


def _every(reference: Reference, step: int) -> Reference:
    """Keep each step-th row."""
    whole, scores = reference.probabilities, reference.scores
    return Reference(
        rows=reference.rows[::step],
        labels=reference.labels[::step],
        probabilities=None if whole is None else whole[::step],
        scores=None if scores is None else scores[::step],
    )

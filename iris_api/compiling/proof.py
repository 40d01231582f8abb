"""The proof that a compiled model answers as scikit-learn does.

No converter is trusted: some estimators convert without an error into a graph that answers
something else. So both predict rows that are chosen to tell them apart, and a model that differs
anywhere is served by scikit-learn itself.
"""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin

from iris_api.compiling.sampling.domain import Sample
from iris_api.compiling.ties import find_tied_votes, find_ties
from iris_api.errors import IrisError
from iris_api.store.metadata import Proof

LIMIT = 1e-9
"""Largest difference of a probability; of a number beyond 1, relative to it."""

MOST_TIES = 0.01
"""Largest share of ties among the rows that were not bisected."""

SINGLE_ROWS = 256
"""Rows that are also predicted one by one, for which ONNX Runtime may add in another order."""

_PACKAGES = ("scikit-learn", "onnx", "onnxruntime")


class CompileError(IrisError):
    """The reason, in one line, why scikit-learn serves a model."""


class UnansweredError(IrisError):
    """scikit-learn itself cannot answer every row that the service accepts."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"scikit-learn itself does not answer every row that the service accepts: {why}; "
            "train an estimator that does, and fit it on the columns of the signature alone"
        )


@dataclass(frozen=True)
class Reference:
    """The answers of scikit-learn.

    Attributes:
        estimator: What answered, in its numeric form.
        sample: The rows.
        labels: int64 (m,), indices into `classes_`.
        probabilities: float64 (m, k), or None for an estimator without them.
    """

    estimator: ClassifierMixin
    sample: Sample
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64] | None

    def steps(self) -> int:
        """Return between how many pairs of neighbours the label or a probability steps."""
        one, other = self.sample.pairs
        steps = self.labels[one] != self.labels[other]
        if self.probabilities is not None:
            steps |= _apart(self.probabilities[one], self.probabilities[other]) > LIMIT
        return int(steps.sum())


def ask(estimator: ClassifierMixin, sample: Sample) -> Reference:
    """Return the answers of an estimator with one-dimensional `classes_` to rows.

    Raises:
        UnansweredError: a label is not among the classes, or a probability is not a finite number.
        Exception: whatever the estimator raises for a row that it cannot answer.
    """
    rows, probabilities = sample.rows, None
    predicted = np.asarray(estimator.predict(rows))
    if hasattr(estimator, "predict_proba"):
        probabilities = np.asarray(estimator.predict_proba(rows), dtype=np.float64)
    labels = predicted[:, np.newaxis] == estimator.classes_
    if not labels.any(axis=1).all():
        raise UnansweredError("it predicts labels that are not among its classes")
    if probabilities is not None and (unsound := ~np.isfinite(probabilities).all(axis=1)).any():
        first = rows[unsound.argmax()].tolist()
        raise UnansweredError(
            f"{unsound.sum()} of {len(rows)} have probabilities that are not finite, first {first}"
        )
    return Reference(estimator, sample, labels.argmax(axis=1).astype(np.int64), probabilities)


def prove(session: Any, reference: Reference) -> Proof:
    """Compare a compiled model with scikit-learn, all rows at once and some one at a time.

    Raises:
        CompileError: a label or a probability differs.
        Exception: ONNX Runtime has one type for each kind of failure, without a common base class.
    """
    rows = reference.sample.rows
    outputs = session.run(None, {"rows": rows})
    ties, difference = _compare(outputs, reference)
    step = max(1, len(rows) // SINGLE_ROWS)
    alone = [session.run(None, {"rows": row[np.newaxis]}) for row in rows[::step]]
    for output, single in zip(outputs, zip(*alone, strict=True), strict=True):
        output[::step] = np.concatenate(single)
    _, difference_alone = _compare(outputs, reference)
    return Proof(
        rows=len(rows),
        steps=reference.steps(),
        ties=ties,
        largest_difference=max(difference, difference_alone),
        domain=(np.transpose([np.nanmin(rows, axis=0), np.nanmax(rows, axis=0)]) + 0.0).tolist(),
        versions={package: version(package) for package in _PACKAGES},
    )


def _compare(outputs: list[NDArray[Any]], reference: Reference) -> tuple[int, float]:
    """Return the number of ties and the largest difference of a probability.

    A label may be another one where two scores are a tie. A probability may differ where a part
    that votes by its label has a tie, and nowhere else.
    """
    labels, rows = outputs[0], reference.sample.rows
    if labels.shape != reference.labels.shape or labels.dtype != np.int64:
        raise CompileError(f"its labels are {labels.dtype} of shape {labels.shape}")
    other = labels != reference.labels
    apart = np.zeros(len(labels))
    if reference.probabilities is not None:
        if outputs[1].shape != reference.probabilities.shape:
            raise CompileError(f"its probabilities have the shape {outputs[1].shape}")
        apart = _apart(outputs[1], reference.probabilities)
    apart_too_far = ~(apart <= LIMIT)  # also true for NaN
    for kind, differs, excuse in (
        ("labels", other, find_ties),
        ("probabilities", apart_too_far, find_tied_votes),
    ):
        suspects = np.flatnonzero(differs)
        wrong = suspects[~excuse(reference.estimator, rows[suspects])]
        if wrong.size:
            raise CompileError(
                f"{wrong.size} of {len(rows)} {kind} differ from scikit-learn's, "
                f"first for {rows[wrong[0]].tolist()}"
            )
    ties = np.flatnonzero(other | apart_too_far)
    others = len(rows) - 2 * reference.sample.lines
    if (found := int((ties < others).sum())) > MOST_TIES * others:
        raise CompileError(f"{found} of {others} rows are ties with another answer")
    return len(ties), float(apart[~apart_too_far].max(initial=0.0))


def _apart(got: NDArray[Any], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest difference in each row: absolute up to 1, and relative beyond."""
    scale = np.maximum(1.0, np.abs(expected))
    return np.asarray((np.abs(got - expected) / scale).max(axis=1))

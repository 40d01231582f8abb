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

from iris_api.compiling.sampling.domain import Sample
from iris_api.compiling.ties import find_tied_votes, find_ties
from iris_api.errors import IrisError
from iris_api.store.metadata import Proof

LIMIT = 1e-9
"""Largest difference of a probability; of a prediction, relative to its size, or to a size that
nine of ten predictions exceed."""

HUGE = 1e300
"""Two predictions beyond this size count as equal, as two that are not finite numbers do.

One program may overflow just before the other one; the service rejects such rows."""

LEAST_FINITE = 0.5
"""Smallest share of rows for which a regressor must predict a finite number."""

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
            "train an estimator that does, or give iris_api.log_model the ranges in which it does"
        )


@dataclass(frozen=True)
class Reference:
    """The answers of scikit-learn.

    Attributes:
        estimator: What answered, in its numeric form.
        sample: The rows.
        labels: int64 (m,), indices into `classes_`, or None for a regressor.
        numbers: float64 (m, k), the probabilities, or None for a classifier without them; or
            (m, 1), what a regressor predicts.
        size: The size of the smaller ones of the numbers.
    """

    estimator: Any
    sample: Sample
    labels: NDArray[np.int64] | None
    numbers: NDArray[np.float64] | None
    size: float = 1.0

    def steps(self) -> int:
        """Return between how many pairs of neighbours the label or a number steps."""
        one, other = self.sample.pairs
        steps = np.zeros(self.sample.lines, dtype=np.bool_)
        if self.labels is not None:
            steps |= self.labels[one] != self.labels[other]
        if self.numbers is not None:
            steps |= _apart(self.numbers[one], self.numbers[other], self.size) > LIMIT
        return int(steps.sum())


def ask(estimator: Any, sample: Sample) -> Reference:
    """Return the answers of an estimator with one output to rows.

    Raises:
        UnansweredError: a label is not among the classes, or a probability is not a finite number.
        Exception: whatever the estimator raises for a row that it cannot answer.
    """
    rows, probabilities = sample.rows, None
    predicted = np.asarray(estimator.predict(rows))
    if not hasattr(estimator, "classes_"):  # a regressor
        numbers = predicted.astype(np.float64).reshape(-1, 1)
        return Reference(estimator, sample, None, numbers, _small_size(numbers))
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
        CompileError: a label, a probability or a prediction differs.
        Exception: ONNX Runtime has one type for each kind of failure, without a common base class.
    """
    rows = reference.sample.rows
    outputs = session.run(None, {"rows": rows})
    if reference.labels is None and reference.numbers is not None:
        _check_finite(reference.numbers)
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
        relative_tolerance=LIMIT,
        absolute_tolerance=LIMIT * reference.size,
        domain=(np.transpose([np.nanmin(rows, axis=0), np.nanmax(rows, axis=0)]) + 0.0).tolist(),
        versions={package: version(package) for package in _PACKAGES},
    )


def _check_finite(predictions: NDArray[np.float64]) -> None:
    finite, count = int(np.isfinite(predictions).sum()), len(predictions)
    if finite < LEAST_FINITE * count:
        raise CompileError(f"scikit-learn predicts a finite number for {finite} of {count} rows")


def _compare(outputs: list[NDArray[Any]], reference: Reference) -> tuple[int, float]:
    """Return the number of ties and the largest difference of a number.

    A label may be another one where two scores are a tie. A probability may differ where a part
    that votes by its label has a tie, and nowhere else.
    """
    rows, of_classes = reference.sample.rows, reference.labels is not None
    other, apart = np.zeros(len(rows), dtype=np.bool_), np.zeros(len(rows))
    if reference.labels is not None:
        labels, *outputs = outputs
        if labels.shape != reference.labels.shape or labels.dtype != np.int64:
            raise CompileError(f"its labels are {labels.dtype} of shape {labels.shape}")
        other = labels != reference.labels
    name = "probabilities" if of_classes else "predictions"
    if reference.numbers is not None:
        numbers = outputs[0].reshape(len(outputs[0]), -1)
        if numbers.shape != reference.numbers.shape:
            raise CompileError(f"its {name} have the shape {numbers.shape}")
        apart = _apart(numbers, reference.numbers, reference.size)
    apart_too_far = ~(apart <= LIMIT)  # also true for NaN
    for kind, differs, excuse in (
        ("labels", other, find_ties),
        (name, apart_too_far, find_tied_votes),
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


def _apart(got: NDArray[Any], expected: NDArray[np.float64], size: float) -> NDArray[np.float64]:
    """Return the largest difference in each row, relative to the expected number, or to `size`."""
    with np.errstate(invalid="ignore"):  # infinite minus infinite
        difference = np.abs(got - expected) / np.maximum(size, np.abs(expected))
        both = ~(np.abs(got) <= HUGE) & ~(np.abs(expected) <= HUGE)  # also true for NaN
    return np.asarray(np.where(both, 0.0, difference).max(axis=1))


def _small_size(numbers: NDArray[np.float64]) -> float:
    """Return the size that nine of ten numbers exceed, of those that are not 0.

    The median instead would follow the rows far out, where predictions can be immense.
    """
    sizes = np.abs(numbers[np.isfinite(numbers) & (numbers != 0)])
    return float(np.quantile(sizes, 0.1)) if sizes.size else 1.0

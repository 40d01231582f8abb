"""Pairs of neighbouring rows between which an answer steps.

Every line between two rows is bisected at once, so that a step of the bisection costs one call. The
half with the larger change is kept: it has the step, once what is smooth has become small.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier

from iris_api.compiling.sampling.domain import Domain

Rows = NDArray[np.float64]
Values = Callable[[Rows], NDArray[np.float64]]

LINES = 384
"""Most lines of each of the four kinds: random or along an axis, of labels or of probabilities."""

SCANNED = 4096
"""Rows that are predicted along axes, to find between which of them an answer changes."""

MAX_NUMBERS = 2**22
"""Most numbers in these rows, 32 MB, and in the lines of a kind an eighth: it limits both for rows
of many columns."""

ARITHMETIC_STEPS = 12
"""Steps that halve distances. Those after them halve how many numbers lie between the ends, which
also ends near zero, where numbers are dense."""

STEPS = 80
"""Most steps: 64 halve all numbers that there are down to two neighbours."""

NEAR = (1e-11, 1e-7)
"""Distances from a step at which rows are added, as shares of its line.

Closer ones may be ties of sums; farther ones would not find what float32 rounds away.
"""


def bisect(low: Rows, high: Rows, values: Values) -> tuple[Rows, Rows]:
    """Bring the ends of m lines to neighbours, and keep between them what changes most.

    Args:
        low: (m, n), one end of each line.
        high: (m, n), the other end.
        values: What changes: returns (m, k) for rows (m, n).
    """
    if not len(low):  # estimators reject an array without rows
        return low, high
    low, high = low.copy(), high.copy()
    at_low, at_high = values(low), values(high)
    for step in range(STEPS):
        middle = _middle(low, high, step)
        if ((middle == low).all(axis=1) | (middle == high).all(axis=1)).all():
            break
        at_middle = values(middle)
        upper = _change(at_low, at_middle) < _change(at_middle, at_high)
        low[upper], at_low[upper] = middle[upper], at_middle[upper]
        high[~upper], at_high[~upper] = middle[~upper], at_middle[~upper]
    return low, high


def step_rows(
    estimator: Any, pool: Rows, domain: Domain, rng: np.random.Generator
) -> tuple[Rows, Rows, Rows]:
    """Return pairs of neighbours between which an answer changes.

    Where an estimator adds up products, rounding decides about rows on a step. So the third result
    is rows that are as near as they can be without that.

    Args:
        estimator: A fitted estimator.
        pool: (m, n), rows to begin with.
        domain: Three of four lines along an axis are in its usual range, the others in all of it.
        rng: What chooses lines.
    """
    starts, ends = _along_axes(pool, domain, rng)
    most = min(LINES, MAX_NUMBERS // 8 // pool.shape[1])
    random = rng.integers(len(pool), size=(2, 4 * most))
    lines = []
    for values in _answers(estimator, domain):
        along = _changing(_change(values(starts), values(ends)), most, rng)
        at_pool = values(pool)
        across = _changing(_change(*at_pool[random]), most, rng)
        low = np.vstack([starts[along], pool[random[0, across]]])
        high = np.vstack([ends[along], pool[random[1, across]]])
        lines.append((low, high, *bisect(low, high, values)))
    low, high, one, other = map(np.vstack, zip(*lines, strict=True))
    apart = np.geomspace(*NEAR, len(low))[rng.permutation(len(low)), np.newaxis]
    beside = np.vstack([one + (low - one) * apart, other + (high - other) * apart])
    return one, other, beside


def _changing(change: NDArray[np.float64], most: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw lines that change."""
    return rng.permutation(np.flatnonzero(change))[:most]


def _answers(estimator: Any, domain: Domain) -> list[Values]:
    """Return what is bisected: what a regressor predicts, or the places of labels and numbers.

    Between two whole numbers of a column of these, the answer is that of the nearer one.
    """

    def places(rows: Rows) -> Rows:
        rows = domain.round(rows.copy())
        found = np.asarray(estimator.predict(rows))[:, np.newaxis] == estimator.classes_
        return np.asarray(found.argmax(axis=1)[:, np.newaxis], dtype=np.float64)

    def numbers(rows: Rows) -> Rows:
        found = getattr(estimator, methods[0])(domain.round(rows.copy()))
        return np.asarray(found, dtype=np.float64).reshape(len(rows), -1)

    known = ("predict_proba", "decision_function") if is_classifier(estimator) else ("predict",)
    methods = [name for name in known if hasattr(estimator, name)]
    return [*([places] if is_classifier(estimator) else []), *([numbers] if methods else [])]


def _along_axes(pool: Rows, domain: Domain, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Return the ends of pieces of lines, each along one axis through a row."""
    usual, accepted = domain.usual, domain.accepted
    columns = len(usual)
    scanned = min(SCANNED, MAX_NUMBERS // columns)
    count = min(max(256, columns), scanned // 3)
    points = min(scanned // count, 16)
    rows = np.repeat(pool[rng.integers(len(pool), size=count)], points, axis=0)
    column = rng.permutation(np.arange(count) % columns)
    low, high = np.where(rng.random((count, 1)) < 0.75, usual[column], accepted[column]).T
    place = np.linspace(0.0, 1.0, points)
    numbers = low[:, np.newaxis] + (high - low)[:, np.newaxis] * place
    rows[np.arange(len(rows)), np.repeat(column, points)] = numbers.ravel()
    lines = rows.reshape(count, points, columns)
    return lines[:, :-1].reshape(-1, columns), lines[:, 1:].reshape(-1, columns)


def _change(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # infinite minus infinite
        change: Rows = np.nan_to_num(np.abs(one - other)).max(axis=1)
    return change


def _middle(low: Rows, high: Rows, step: int) -> Rows:
    if step < ARITHMETIC_STEPS:
        return low / 2 + high / 2
    one, other = _ordered(low), _ordered(high)
    return _ordered((one & other) + ((one ^ other) >> 1)).view(np.float64)


def _ordered(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """Return integers in the order of the numbers, one after the other; and the way back."""
    bits = numbers.view(np.int64)
    return bits ^ ((bits >> 63) & np.int64(2**63 - 1))

"""The rows of a proof, for any number of columns."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from iris_api.compiling.sampling.bisection import step_rows
from iris_api.compiling.sampling.domain import Domain, Sample
from iris_api.compiling.sampling.edges import edge_rows
from iris_api.vetting import integrity

Rows = NDArray[np.float64]

SPREAD_ROWS = 2048
"""Rows of each kind that is spread over the domain, for up to `FULL_COLUMNS` columns."""

FULL_COLUMNS = 128
"""Columns up to which all rows are drawn; of more, the rows together have as many numbers."""

LEAST_ROWS = 64
"""Rows of each kind, however many columns there are."""

TINY = (0.0, 2.0**-1074, 2.0**-1022, 2.0**-149, 2.0**-126)
"""Zero, and the smallest numbers of float64 and float32, subnormal and normal; also negative."""


def parts_of(estimator: object) -> Iterator[Any]:
    """Yield the estimator and each object inside it that has attributes."""
    parts = integrity.reachable(estimator)
    return (part for part in parts if hasattr(part, "__dict__") and not isinstance(part, type))


def sample_rows(estimator: Any, domain: Domain, examples: Rows, seed: int) -> Sample:
    """Choose the rows of the proof.

    Args:
        estimator: A fitted estimator.
        domain: The rows that it may be given.
        examples: (m, n), more rows.
        seed: The same seed gives the same rows.

    Returns:
        Rows spread over the usual and the accepted range; decimal numbers as people write them and
        as programs compute them; one column at a time from end to end, corners, rows far out and
        tiny numbers; the examples; the edges of each fitted part with their neighbours; and pairs
        of neighbours between which the answer changes.

    Raises:
        Exception: whatever the estimator raises for a row that it cannot answer.
    """
    rng = np.random.default_rng(seed)
    count = len(domain.usual)
    share = min(1.0, FULL_COLUMNS / count)
    number = max(LEAST_ROWS, int(SPREAD_ROWS * share))
    pool = _spread(domain.usual, number, rng)
    found = [
        pool,
        _spread(domain.accepted, number // 2, rng),
        _decimals(domain, number, rng),
        _one_at_a_time(domain, pool, number, rng),
        _corners(domain, number // 8, rng),
        _far(domain, pool, number // 4, rng),
        _tiny(pool, number // 16, rng),
        examples,
        *(rows[:number] for rows in _training_rows(estimator, count)),
        edge_rows(estimator, pool, domain.missing, rng),
        _missing(pool, domain.missing, rng),
    ]
    start = domain.clip(np.vstack([pool, found[2]]))
    one, other, beside = step_rows(estimator, start, domain, rng)
    return Sample(domain.clip(np.vstack([*found, beside, one, other])), len(one))


def _spread(limits: Rows, number: int, rng: np.random.Generator) -> Rows:
    """Spread rows evenly, by a Sobol sequence."""
    low, high = limits.T
    points = qmc.Sobol(len(limits), rng=rng).random_base2(int(np.ceil(np.log2(number))))
    spread: Rows = low + points[:number] * (high - low)
    return spread


def _decimals(domain: Domain, number: int, rng: np.random.Generator) -> Rows:
    """Return numbers of two or three digits, half of them as computed: with a rounding error."""
    low, high = domain.usual.T
    size = np.where(high > low, high - low, np.maximum(np.abs(high), 1.0))
    digits = 1 - np.floor(np.log10(size))  # behind the point
    units = 10.0 ** np.abs(digits)
    whole, offset = np.rint(rng.uniform(low, high, (2, 2 * number, len(low))) * 10.0**digits)
    plain = np.where(digits > 0, whole / units, whole * units)
    offset = np.where(digits > 0, offset / units, offset * units)
    with np.errstate(over="ignore"):
        ways = [
            whole * np.where(digits > 0, 1 / units, units),  # 17 * 0.1
            plain / 2.54 * 2.54,
            (plain + offset) - offset,
            plain * 10 * 0.1,
            plain.astype(np.float32).astype(np.float64),
        ]
    chosen = np.choose(rng.integers(len(ways), size=plain.shape), ways)
    return np.vstack([plain[:number], chosen[number:]])


def _one_at_a_time(domain: Domain, pool: Rows, number: int, rng: np.random.Generator) -> Rows:
    """Move one column from end to end of the usual and of the accepted range, from a row."""
    columns = rng.permutation(len(domain.usual))[: number // 2]
    points = number // len(columns)
    limits = np.concatenate([domain.usual[columns], domain.accepted[columns]])
    place = np.linspace(0.0, 1.0, points)
    moved = limits[:, :1] + np.ptp(limits, axis=1)[:, np.newaxis] * place
    rows = np.repeat(pool[rng.integers(len(pool), size=len(limits))], points, axis=0)
    rows[np.arange(len(rows)), np.repeat(np.tile(columns, 2), points)] = moved.ravel()
    return rows


def _corners(domain: Domain, number: int, rng: np.random.Generator) -> Rows:
    """Return rows whose numbers are all limits, of the usual or of the accepted range."""
    limits = np.concatenate([domain.usual, domain.accepted], axis=1)
    columns = np.arange(len(limits))
    return limits[columns, rng.integers(4, size=(number, len(limits)))]


def _far(domain: Domain, pool: Rows, number: int, rng: np.random.Generator) -> Rows:
    """Move rows out of the usual range, by distances of all magnitudes up to the accepted limits.

    One column in half of the rows, and all of them in the other half.
    """
    (low, high), (least, most) = domain.usual.T, domain.accepted.T
    rows = pool[rng.integers(len(pool), size=number)]
    up = rng.random(rows.shape) < 0.5
    room = np.maximum(np.where(up, most - high, low - least), 0.0)
    size = np.maximum(high - low, np.finfo(np.float64).tiny)
    smaller = np.minimum(size / np.maximum(room, size), 1.0) ** rng.random(rows.shape)
    moved = np.where(up, high + room * smaller, low - room * smaller)
    one = np.arange(len(low)) == rng.integers(len(low), size=(number, 1))
    return np.where(one | (np.arange(number) % 2 == 0)[:, np.newaxis], moved, rows)


def _tiny(pool: Rows, number: int, rng: np.random.Generator) -> Rows:
    """Put zeros of both signs and the smallest numbers into one column, some, or all of them."""
    rows = pool[rng.integers(len(pool), size=number)]
    numbers = rng.choice([*TINY, *np.negative(TINY)], size=rows.shape)
    return np.where(rng.random(rows.shape) < rng.random((number, 1)), numbers, rows)


def _missing(pool: Rows, missing: NDArray[np.bool_], rng: np.random.Generator) -> Rows:
    """Leave out numbers of the columns that may be missing: one column, some, or all of them."""
    rows = pool[: len(pool) // 2]
    left_out = (rng.random(rows.shape) < rng.random((len(rows), 1))) & missing
    return np.where(left_out, np.nan, rows)[left_out.any(axis=1)]


def _training_rows(estimator: object, count: int) -> Iterator[Rows]:
    """Yield the training rows that parts keep."""
    for part in parts_of(estimator):
        rows = vars(part).get("_fit_X")
        if np.shape(rows)[1:] == (count,):
            yield np.asarray(rows, dtype=np.float64)

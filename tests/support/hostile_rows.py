"""Rows of four numbers, in cm, that find where a compiled model departs from scikit-learn."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iris_api.compiling.sampling.rows import parts_of
from support.irises import RANGES

Rows = NDArray[np.float64]

HALVINGS = 70
"""Enough to bring any two numbers from 0 to 100 to neighbours."""


def hostile_rows(estimator: Any, count: int, seed: int = 0) -> tuple[Rows, int]:
    """Make about `count` rows from 0 to 100: drawn, computed, on edges, and beside steps.

    Returns:
        The rows, and how many of them, at the end, are beside steps.
    """
    rng = np.random.default_rng(seed)
    low, high = RANGES.T
    fifth = count // 5
    found = [
        rng.uniform(low, high, (fifth, 4)),
        rng.uniform(low, high, (fifth, 4)).round(1),
        rng.uniform(0, 100, (fifth // 2, 4)),
        _computed(rng, fifth),
        _on_edges(estimator, rng, fifth + fifth // 4),
    ]
    answers = (estimator.predict, getattr(estimator, "predict_proba", estimator.predict))
    beside = [_beside_steps(answer, rng, fifth // 16) for answer in answers]
    return np.vstack(found + beside).clip(0, 100), sum(map(len, beside))


def _computed(rng: np.random.Generator, count: int) -> Rows:
    """Make numbers as programs do: with one decimal, and a rounding error behind it."""
    low, high = RANGES.T
    tenths = rng.integers(low * 10, high * 10 + 1, (count, 4))
    plain, offset = tenths / 10, rng.uniform(0, 10, (count, 4)).round(1)
    ways = [tenths * 0.1, plain / 2.54 * 2.54, (plain + offset) - offset, plain * 10 * 0.1]
    chosen: Rows = np.choose(rng.integers(0, len(ways), (count, 4)), ways)
    return chosen


def _on_edges(estimator: Any, rng: np.random.Generator, count: int) -> Rows:
    """Put rows on the edges that fitted parts have, and on the neighbours of these."""
    edges = list(_edges(estimator))
    if not edges:
        return np.empty((0, 4))
    columns, values = np.array(edges).T
    values = np.concatenate(
        [
            near
            for exact in (values, values.astype(np.float32))
            for near in (
                exact,
                np.nextafter(exact, exact.dtype.type(-np.inf)),
                np.nextafter(exact, exact.dtype.type(np.inf)),
            )
        ]
    ).astype(np.float64)
    columns = np.tile(columns.astype(int), 6)
    if len(values) > count:
        drawn = rng.choice(len(values), count, replace=False)
        columns, values = columns[drawn], values[drawn]
    rows = rng.uniform(RANGES[:, 0], RANGES[:, 1], (len(values), 4))
    rows[np.arange(len(values)), columns] = values
    return rows


def _edges(estimator: Any) -> Iterator[tuple[int, float]]:
    """Yield the columns and values that fitted parts compare with, if a row came to them as is."""
    for part in parts_of(estimator):
        if hasattr(part, "tree_"):
            pairs = zip(part.tree_.feature, part.tree_.threshold, strict=True)
            yield from ((column, value) for column, value in pairs if 0 <= column < 4)
        elif hasattr(part, "nodes") and hasattr(part, "get_max_depth"):
            inner = part.nodes[part.nodes["is_leaf"] == 0]
            yield from zip(inner["feature_idx"], inner["num_threshold"], strict=True)
        for name in ("bin_edges_", "data_min_", "data_max_", "threshold", "binarize", "theta_"):
            held = vars(part).get(name)
            if held is None or isinstance(held, str):
                continue
            for column in range(4):
                own = held[column] if name == "bin_edges_" and len(held) == 4 else held
                yield from ((column, value) for value in np.ravel(own).tolist())
        for column, quantiles in enumerate(np.transpose(vars(part).get("quantiles_", []))[:4]):
            yield from ((column, value) for value in quantiles.tolist())


def _beside_steps(answer: Any, rng: np.random.Generator, count: int) -> Rows:
    """Halve lines between rows, half of them along an axis, until the answer changes in one step.

    Returns:
        float64 (2 * count, 4): of each line, the last row with one answer and the first with
        another.
    """
    low, high = rng.uniform(RANGES[:, 0], RANGES[:, 1], (2, count, 4))
    along = np.arange(count // 2)
    axis = rng.integers(0, 4, count // 2)
    end = high[along, axis]
    high[along] = low[along]
    high[along, axis] = end
    first = np.asarray(answer(low)).reshape(count, -1)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        same = (np.asarray(answer(middle)).reshape(count, -1) == first).all(axis=1)
        low[same], high[~same] = middle[same], middle[~same]
    return np.vstack([low, high])

"""Rows on the edges that fitted parts compare with, and on both sides of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iris_api.compiling.sampling.bisection import bisect
from iris_api.compiling.sampling.places import OWN, Place, places_of
from iris_api.compiling.sampling.thresholds import Edges, draw_edges
from iris_api.compiling.trees import before_rounding

Rows = NDArray[np.float64]

MAX_EDGES = 8192
"""Most edges that are compared with the rows themselves, nine rows each: 1000 unlimited trees on
the iris rows have 8000."""

MAX_HIDDEN_EDGES = 1024
"""Most edges behind the same steps; each takes two bisections."""

MAX_NUMBERS = 2**22
"""Most numbers in the rows of edges, 32 MB: it limits the edges for rows of many columns."""

MAX_DRAWN = 512
"""Rows of the pool that are searched for the ends of lines."""


def edge_rows(
    estimator: Any, pool: Rows, missing: NDArray[np.bool_], rng: np.random.Generator
) -> Rows:
    """Return rows on the edges of each part, and on their neighbours in float64 and float32.

    Args:
        estimator: A fitted estimator.
        pool: (n, columns), rows that are spread over those that edges are wanted for.
        missing: (columns,), the columns that may be missing, which they are beside an edge as well.
        rng: What chooses edges and the rest of a row.
    """
    places: dict[Place, list[Any]] = {}
    for part, place in places_of(estimator, OWN):
        places.setdefault(place, []).append(part)
    limit = MAX_NUMBERS // (9 * pool.shape[1])
    found = [pool[:0]]
    for place, parts in places.items():
        given = place.given(pool)
        count = min(limit, MAX_EDGES if place is OWN else MAX_HIDDEN_EDGES)
        if edges := draw_edges(parts, given.min(axis=0), given.max(axis=0), count, rng):
            if place is OWN:
                found += [_beside(edges, rng), _without(edges, missing, rng)]
            else:
                found.append(_bisected(place, edges, pool, rng))
    return np.vstack(found)


def _beside(edges: Edges, rng: np.random.Generator) -> Rows:
    """Return rows on each edge and its neighbours: nine rows each.

    These are the edge in float64, in float32, and where numbers are rounded to another side of it.
    The other columns are drawn from the box of the edge; an error would not show elsewhere.
    """
    values = [
        np.nextafter(exact, side).astype(np.float64)
        for exact in (edges.value, edges.value.astype(np.float32), before_rounding(edges.value))
        for side in (exact, exact.dtype.type(-np.inf), exact.dtype.type(np.inf))
    ]
    rows = np.repeat(rng.uniform(edges.low, edges.high)[np.newaxis], len(values), axis=0)
    rows[:, np.arange(len(edges.column)), edges.column] = values
    return rows.reshape(-1, edges.low.shape[1])


def _without(edges: Edges, missing: NDArray[np.bool_], rng: np.random.Generator) -> Rows:
    """Return a row in the box of each edge whose column may be missing, and is."""
    edges = edges.take(missing[edges.column])
    rows = rng.uniform(edges.low, edges.high)
    rows[np.arange(len(rows)), edges.column] = np.nan
    return rows


def _bisected(place: Place, edges: Edges, pool: Rows, rng: np.random.Generator) -> Rows:
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

"""Functions of one column that are made of pieces: tables, lines and polynomials.

A column falls into one of the pieces by comparisons, which a tree makes exactly and in a time that
grows with the logarithm of their number.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from iris_api.compiling.converters.graph import Graph
from iris_api.compiling.converters.trees import Tree

Values = NDArray[np.float64]


def look_up(graph: Graph, rows: str, tables: Iterable[tuple[int, Values, Values]]) -> str:
    """Look up a value for each table, and return them side by side, (n, tables).

    Args:
        graph: The graph.
        rows: float64 (n, columns).
        tables: The column of the rows; its edges, (m,), strictly increasing; and the values of the
            pieces, (m + 1,). A number on an edge belongs to the piece above it.
    """
    trees = [Tree.of_steps(place, *table) for place, table in enumerate(tables)]
    return graph.trees(rows, trees, len(trees))


def interpolate(graph: Graph, rows: str, curves: list[tuple[Values, Values]]) -> str:
    """Interpolate each column between the points of its curve, as numpy.interp does.

    Args:
        graph: The graph.
        rows: float64 (n, columns).
        curves: For each column the points' places, (m,), increasing, and their heights, (m,).
    """
    slopes, origins, heights = [], [], []
    for column, (places, height) in enumerate(curves):
        last = np.append(np.diff(places) > 0, True)  # of equal places, the last one counts
        following = np.roll(places, -1)[last][:-1], np.roll(height, -1)[last][:-1]
        edges, high = places[last], height[last]
        slope = (following[1] - high[:-1]) / (following[0] - edges[:-1])
        slopes.append((column, edges, np.concatenate([[0.0], slope, [0.0]])))
        origins.append((column, edges, np.concatenate([edges[:1], edges])))
        heights.append((column, edges, np.concatenate([height[:1], high])))
    found = look_up(graph, rows, slopes + origins + heights)
    slope_of, origin, base = graph.split(found, 3)
    risen = graph.op("Mul", slope_of, graph.op("Sub", rows, origin))
    return graph.op("Add", risen, base)

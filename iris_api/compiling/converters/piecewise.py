"""Converters of transformers that treat a column piece by piece: bins, quantiles, splines.

A value falls into one of the pieces by comparisons, which a tree makes exactly and in a time that
grows with the logarithm of their number.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PPoly

from iris_api.compiling.converters.graph import Graph, NoConverterError
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


def convert_binarizer(graph: Graph, transformer: Any, rows: str) -> str:
    """Convert the comparison with a threshold."""
    return graph.cast(graph.op("Greater", rows, float(transformer.threshold)))


def convert_bins(graph: Graph, transformer: Any, rows: str) -> str:
    """Convert a division into bins, numbered or one column each."""
    if transformer.dtype not in (None, np.float64):
        raise NoConverterError("bins of rows in float32 have no exact compiled form")
    edges = [each[1:-1] for each in transformer.bin_edges_]
    counts = [len(each) + 1 for each in edges]
    if any((np.diff(each) <= 0).any() for each in edges):
        raise NoConverterError("bins of no width have no exact compiled form")
    if transformer.encode == "ordinal":
        values = [np.arange(float(count)) for count in counts]
        return look_up(graph, rows, list(zip(range(len(edges)), edges, values, strict=True)))
    return look_up(
        graph,
        rows,
        [
            (column, edges[column], place)
            for column, count in enumerate(counts)
            for place in np.eye(count)
        ],
    )


def convert_quantiles(graph: Graph, transformer: Any, rows: str) -> str:
    """Convert the transformation to quantiles."""
    if transformer.output_distribution != "uniform":
        raise NoConverterError("quantiles of the normal distribution have no exact compiled form")
    quantiles, heights = transformer.quantiles_, transformer.references_
    mirrored = [(-column[::-1], -heights[::-1]) for column in quantiles.T]
    up = interpolate(graph, rows, [(column, heights) for column in quantiles.T])
    down = interpolate(graph, graph.op("Neg", rows), mirrored)
    middle = graph.op("Mul", graph.op("Sub", up, down), 0.5)
    top = graph.op("Equal", rows, quantiles[-1])
    bottom = graph.op("Equal", rows, quantiles[0])
    return graph.op("Where", bottom, 0.0, graph.op("Where", top, 1.0, middle))


def convert_splines(graph: Graph, transformer: Any, rows: str) -> str:
    """Convert B-splines, as a polynomial in each piece."""
    if transformer.extrapolation not in ("constant", "continue"):
        raise NoConverterError("splines that go on as lines or circles are not compiled")
    splines, degree = transformer.bsplines_, transformer.degree
    if transformer.extrapolation == "constant":
        lowest, highest = (
            np.array([each.t[end] for each in splines]) for end in (degree, -degree - 1)
        )
        rows = graph.op("Min", graph.op("Max", rows, lowest), highest)
    count = splines[0].c.shape[1] - (0 if transformer.include_bias else 1)
    origins, coefficients = [], []
    for column, spline in enumerate(splines):
        inner = spline.t[degree : len(spline.t) - degree]
        edges = inner[1:-1]
        origins += [(column, edges, inner[:-1])] * count
        pieces = [PPoly.from_spline((spline.t, each, degree)).c for each in spline.c.T[:count]]
        kept = slice(degree, degree + len(inner) - 1)
        coefficients += [[(column, edges, row) for row in piece[:, kept]] for piece in pieces]
    tables = [each[power] for power in range(degree + 1) for each in coefficients]
    origin, *powers = graph.split(look_up(graph, rows, origins + tables), degree + 2)
    every = np.repeat(np.arange(len(splines)), count)
    apart = graph.op("Sub", graph.columns(rows, every), origin)
    result = powers[0]
    for power in powers[1:]:
        result = graph.op("Add", graph.op("Mul", result, apart), power)
    return result

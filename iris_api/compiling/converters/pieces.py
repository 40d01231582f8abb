"""Converters of transformers that cut columns into pieces: bins, quantiles, splines."""

from typing import Any

import numpy as np
from scipy.interpolate import PPoly

from iris_api.compiling.converters.graph import Graph, NoConverterError
from iris_api.compiling.converters.steps import interpolate, look_up


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

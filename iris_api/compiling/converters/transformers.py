"""Converters of steps that make new columns out of a row's."""

from itertools import combinations, combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import decomposition, discriminant_analysis, feature_selection, preprocessing

from iris_api.compiling.graph import Graph
from iris_api.compiling.reasons import NoConverterError


def _keep(_: Graph, __: Any, rows: str) -> str:
    """Convert a step that changes nothing."""
    return rows


def _convert_standard(graph: Graph, scaler: Any, rows: str) -> str:
    return _centre(graph, rows, scaler.mean_ if scaler.with_mean else None, scaler.scale_)


def _convert_robust(graph: Graph, scaler: Any, rows: str) -> str:
    return _centre(graph, rows, scaler.center_, scaler.scale_)


def _centre(
    graph: Graph, rows: str, centre: NDArray[np.float64] | None, scale: NDArray[np.float64] | None
) -> str:
    rows = rows if centre is None else graph.op("Sub", rows, centre)
    return rows if scale is None else graph.op("Div", rows, scale)


def _convert_minimum(graph: Graph, scaler: Any, rows: str) -> str:
    scaled = graph.op("Add", graph.op("Mul", rows, scaler.scale_), scaler.min_)
    if not scaler.clip:
        return scaled
    return graph.op("Clip", scaled, *map(float, scaler.feature_range))


def _convert_largest(graph: Graph, scaler: Any, rows: str) -> str:
    scaled = graph.op("Div", rows, scaler.scale_)
    return graph.op("Clip", scaled, -1.0, 1.0) if scaler.clip else scaled


def _convert_normalizer(graph: Graph, normalizer: Any, rows: str) -> str:
    sizes = graph.op("Abs", rows)
    if normalizer.norm == "max":
        norm = graph.op("ReduceMax", sizes, np.array([1]))
    elif normalizer.norm == "l1":
        norm = graph.sum_columns(sizes)
    else:
        norm = graph.op("Sqrt", graph.sum_columns(graph.op("Mul", rows, rows)))
    # _handle_zeros_in_scale of scikit-learn
    tiny = graph.op("Less", norm, 10 * np.finfo(np.float64).eps)
    return graph.op("Div", rows, graph.op("Where", tiny, 1.0, norm))


def _convert_components(graph: Graph, transformer: Any, rows: str) -> str:
    """Convert a projection on components without centring, or with centring before it."""
    mean = getattr(transformer, "mean_", None)
    rows = rows if mean is None else graph.op("Sub", rows, mean)
    return graph.op("MatMul", rows, np.ascontiguousarray(transformer.components_.T))


def _convert_principal(graph: Graph, transformer: Any, rows: str) -> str:
    """Convert principal components, which are centred after the projection."""
    components = transformer.components_
    projected = graph.affine(rows, components.T, -(transformer.mean_ @ components.T))
    if not transformer.whiten:
        return projected
    scale = np.sqrt(transformer.explained_variance_)
    return graph.op("Div", projected, np.maximum(scale, np.finfo(scale.dtype).eps))


def _convert_discriminants(graph: Graph, transformer: Any, rows: str) -> str:
    """Convert linear discriminant analysis as a projection."""
    if transformer.solver == "svd":
        rows = graph.op("Sub", rows, transformer.xbar_)
    components = transformer.scalings_[:, : transformer._max_components]  # noqa: SLF001
    return graph.op("MatMul", rows, np.ascontiguousarray(components))


def _convert_selection(graph: Graph, selector: Any, rows: str) -> str:
    support = selector.get_support()
    return graph.columns(rows, np.flatnonzero(support), len(support))


def _convert_function(graph: Graph, transformer: Any, rows: str) -> str:
    """Convert a transformer by a function of numpy."""
    kinds = {np.log: "Log", np.sqrt: "Sqrt", np.exp: "Exp", np.abs: "Abs", np.cbrt: None}
    if transformer.func is None:
        return rows
    if transformer.func is np.log1p:
        return graph.op("Log", graph.op("Add", rows, 1.0))
    kind = kinds.get(transformer.func)
    if kind is None or transformer.kw_args:
        raise NoConverterError("a transformer by a function of its own cannot be compiled")
    return graph.op(kind, rows)


def _convert_polynomials(graph: Graph, transformer: Any, rows: str) -> str:
    """Convert products of columns, in scikit-learn's order of multiplications."""
    lowest, highest = transformer._min_degree, transformer._max_degree  # noqa: SLF001
    choose = combinations if transformer.interaction_only else combinations_with_replacement
    columns = range(transformer.n_features_in_)
    parts = [graph.repeat(np.ones(1), rows)] if transformer.include_bias else []
    terms: list[tuple[int, ...]] = [(column,) for column in columns]
    products = rows
    for degree in range(1, highest + 1):
        if degree > 1:
            places = {term: place for place, term in enumerate(terms)}
            terms = [*choose(columns, degree)]
            first = graph.columns(rows, [term[0] for term in terms])
            rest = graph.columns(products, [places[term[1:]] for term in terms])
            products = graph.op("Mul", first, rest)
        if degree >= lowest:
            parts.append(products)
    return graph.beside(*parts)


def _convert_power(graph: Graph, transformer: Any, rows: str) -> str:
    """Convert the transformation by Yeo and Johnson."""
    if transformer.method != "yeo-johnson":
        raise NoConverterError("the transformation by Box and Cox is not compiled")
    powers = np.asarray(transformer.lambdas_, dtype=np.float64)
    above = _risen(graph, graph.op("Max", rows, 0.0), powers)
    below = _risen(graph, graph.op("Neg", graph.op("Min", rows, 0.0)), 2.0 - powers)
    changed = graph.op("Sub", above, below)
    return graph.transform(transformer._scaler, changed) if transformer.standardize else changed  # noqa: SLF001


def _risen(graph: Graph, values: str, powers: NDArray[np.float64]) -> str:
    """Return ((values + 1) ** powers - 1) / powers, and the logarithm where a power is 0."""
    logs = graph.op("Log", graph.op("Add", values, 1.0))
    flat = powers == 0
    safe = np.where(flat, 1.0, powers)
    grown = graph.op("Sub", graph.op("Exp", graph.op("Mul", logs, safe)), 1.0)
    return graph.op("Where", flat, logs, graph.op("Div", grown, safe))


def interpolate(
    graph: Graph, rows: str, curves: list[tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> str:
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
    found = graph.look_up(rows, slopes + origins + heights)
    slope_of, origin, base = graph.split(found, 3)
    risen = graph.op("Mul", slope_of, graph.op("Sub", rows, origin))
    return graph.op("Add", risen, base)


def _convert_binarizer(graph: Graph, transformer: Any, rows: str) -> str:
    return graph.cast(graph.op("Greater", rows, float(transformer.threshold)))


def _convert_bins(graph: Graph, transformer: Any, rows: str) -> str:
    """Convert a division into bins, numbered or one column each."""
    if transformer.dtype not in (None, np.float64):
        raise NoConverterError("bins of rows in float32 have no exact compiled form")
    edges = [each[1:-1] for each in transformer.bin_edges_]
    counts = [len(each) + 1 for each in edges]
    if any((np.diff(each) <= 0).any() for each in edges):
        raise NoConverterError("bins of no width have no exact compiled form")
    if transformer.encode == "ordinal":
        values = [np.arange(float(count)) for count in counts]
        return graph.look_up(rows, list(zip(range(len(edges)), edges, values, strict=True)))
    return graph.look_up(
        rows,
        [
            (column, edges[column], place)
            for column, count in enumerate(counts)
            for place in np.eye(count)
        ],
    )


def _convert_quantiles(graph: Graph, transformer: Any, rows: str) -> str:
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


_SELECTORS = [
    getattr(feature_selection, name)
    for name in feature_selection.__all__
    if isinstance(getattr(feature_selection, name), type) and name != "SelectorMixin"
]

TRANSFORMERS = {
    **dict.fromkeys(_SELECTORS, _convert_selection),
    decomposition.FastICA: _convert_components,
    decomposition.IncrementalPCA: _convert_principal,
    decomposition.PCA: _convert_principal,
    decomposition.TruncatedSVD: _convert_components,
    discriminant_analysis.LinearDiscriminantAnalysis: _convert_discriminants,
    preprocessing.Binarizer: _convert_binarizer,
    preprocessing.FunctionTransformer: _convert_function,
    preprocessing.KBinsDiscretizer: _convert_bins,
    preprocessing.MaxAbsScaler: _convert_largest,
    preprocessing.MinMaxScaler: _convert_minimum,
    preprocessing.Normalizer: _convert_normalizer,
    preprocessing.PolynomialFeatures: _convert_polynomials,
    preprocessing.PowerTransformer: _convert_power,
    preprocessing.QuantileTransformer: _convert_quantiles,
    preprocessing.RobustScaler: _convert_robust,
    preprocessing.StandardScaler: _convert_standard,
    str: _keep,  # "passthrough"
    type(None): _keep,
}

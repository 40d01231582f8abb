"""Converters of steps that make new columns out of a row's."""

from itertools import combinations, combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iris_api.compiling.converters.graph import Graph, NoConverterError


def keep(_: Graph, __: Any, rows: str) -> str:
    """Convert a step that changes nothing."""
    return rows


def convert_steps(graph: Graph, pipeline: Any, rows: str) -> str:
    """Convert a pipeline of transformers."""
    for _, step in pipeline.steps:
        rows = graph.transform(step, rows)
    return rows


def convert_union(graph: Graph, union: Any, rows: str) -> str:
    """Convert transformers side by side."""
    parts = []
    for name, step in union.transformer_list:
        if step != "drop":
            part = graph.transform(step, rows)
            weight = (union.transformer_weights or {}).get(name)
            parts.append(part if weight is None else graph.op("Mul", part, float(weight)))
    return graph.beside(*parts)


def convert_columns(graph: Graph, transformer: Any, rows: str) -> str:
    """Convert transformers of columns, side by side."""
    places = transformer._transformer_to_input_indices  # noqa: SLF001 (names become places here)
    width = transformer.n_features_in_
    return graph.beside(
        *(
            graph.transform(step, graph.columns(rows, places[name], width))
            for name, step, _ in transformer.transformers_
            if step != "drop" and len(places[name])
        )
    )


def convert_standard(graph: Graph, scaler: Any, rows: str) -> str:
    """Convert a scaler to a mean of 0 and a deviation of 1."""
    return _centre(graph, rows, scaler.mean_ if scaler.with_mean else None, scaler.scale_)


def convert_robust(graph: Graph, scaler: Any, rows: str) -> str:
    """Convert a scaler by quantiles."""
    return _centre(graph, rows, scaler.center_, scaler.scale_)


def _centre(
    graph: Graph, rows: str, centre: NDArray[np.float64] | None, scale: NDArray[np.float64] | None
) -> str:
    rows = rows if centre is None else graph.op("Sub", rows, centre)
    return rows if scale is None else graph.op("Div", rows, scale)


def convert_minimum(graph: Graph, scaler: Any, rows: str) -> str:
    """Convert a scaler to a range."""
    scaled = graph.op("Add", graph.op("Mul", rows, scaler.scale_), scaler.min_)
    if not scaler.clip:
        return scaled
    return graph.op("Clip", scaled, *map(float, scaler.feature_range))


def convert_largest(graph: Graph, scaler: Any, rows: str) -> str:
    """Convert a scaler by the largest absolute value."""
    scaled = graph.op("Div", rows, scaler.scale_)
    return graph.op("Clip", scaled, -1.0, 1.0) if scaler.clip else scaled


def convert_normalizer(graph: Graph, normalizer: Any, rows: str) -> str:
    """Convert a scaler of each row to a length of 1."""
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


def convert_components(graph: Graph, transformer: Any, rows: str) -> str:
    """Convert a projection on components without centring, or with centring before it."""
    mean = getattr(transformer, "mean_", None)
    rows = rows if mean is None else graph.op("Sub", rows, mean)
    return graph.op("MatMul", rows, np.ascontiguousarray(transformer.components_.T))


def convert_principal(graph: Graph, transformer: Any, rows: str) -> str:
    """Convert principal components, which are centred after the projection."""
    components = transformer.components_
    projected = graph.affine(rows, components.T, -(transformer.mean_ @ components.T))
    if not transformer.whiten:
        return projected
    scale = np.sqrt(transformer.explained_variance_)
    return graph.op("Div", projected, np.maximum(scale, np.finfo(scale.dtype).eps))


def convert_discriminants(graph: Graph, transformer: Any, rows: str) -> str:
    """Convert linear discriminant analysis as a projection."""
    if transformer.solver == "svd":
        rows = graph.op("Sub", rows, transformer.xbar_)
    components = transformer.scalings_[:, : transformer._max_components]  # noqa: SLF001
    return graph.op("MatMul", rows, np.ascontiguousarray(components))


def convert_selection(graph: Graph, selector: Any, rows: str) -> str:
    """Convert a choice of columns."""
    support = selector.get_support()
    return graph.columns(rows, np.flatnonzero(support), len(support))


def convert_imputer(graph: Graph, imputer: Any, rows: str) -> str:
    """Convert the replacement of missing values by one value a column."""
    nan = isinstance(imputer.missing_values, float) and np.isnan(imputer.missing_values)
    statistics = imputer.statistics_.astype(np.float64)
    if not nan or imputer.add_indicator or np.isnan(statistics).any():
        raise NoConverterError("imputers with indicators or empty columns are not compiled")
    return graph.op("Where", graph.op("IsNaN", rows), statistics, rows)


def convert_function(graph: Graph, transformer: Any, rows: str) -> str:
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


def convert_polynomials(graph: Graph, transformer: Any, rows: str) -> str:
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


def convert_power(graph: Graph, transformer: Any, rows: str) -> str:
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

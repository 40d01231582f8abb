"""Converters of steps that look at each cell alone: encoders of categories, and imputers."""

import math
from typing import Any

import numpy as np
from sklearn.impute import MissingIndicator, SimpleImputer

from iris_api.compiling.graph import Graph
from iris_api.vetting.mixed_tables.encoded_cells import EncodedCells


def _convert_encoded(graph: Graph, encoder: EncodedCells, rows: str) -> str:
    """Convert the tables of an encoder to steps between its categories."""
    steps = []
    for column, table in enumerate(encoder.tables):
        edges, values = table.steps()
        for each in values.T:
            change = each[1:] != each[:-1]
            # A missing number is above all edges, of which the last one is infinity.
            change[-1] = True
            steps.append((column, edges[change], each[np.append(True, change)]))
    return graph.look_up(rows, steps)


def _convert_imputer(graph: Graph, imputer: Any, rows: str) -> str:
    """Convert the replacement of missing values by one value a column."""
    fills = imputer.statistics_.astype(np.float64)
    kept = np.flatnonzero(~np.isnan(fills) | imputer.keep_empty_features)
    given = graph.columns(rows, kept, len(fills))
    imputed = graph.op("Where", _missing(graph, imputer, given), fills[kept], given)
    if not imputer.add_indicator:
        return imputed
    return graph.beside(imputed, graph.transform(imputer.indicator_, rows))


def _convert_indicator(graph: Graph, indicator: Any, rows: str) -> str:
    """Convert the columns of 0 and 1 that say which cells are missing."""
    places, width = indicator.features_, indicator.n_features_in_
    return graph.cast(_missing(graph, indicator, graph.columns(rows, places, width)))


def _missing(graph: Graph, part: Any, rows: str) -> str:
    marker = float(part.missing_values)
    return graph.op("IsNaN", rows) if math.isnan(marker) else graph.op("Equal", rows, marker)


TRANSFORMERS = {
    EncodedCells: _convert_encoded,
    MissingIndicator: _convert_indicator,
    SimpleImputer: _convert_imputer,
}

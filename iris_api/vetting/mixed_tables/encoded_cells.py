"""Encoders of categories as tables of what each cell becomes, made by calling the encoder itself.

A table covers every option of an encoder: dropped, rare, missing and unknown categories.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

Values = NDArray[np.float64]

UNKNOWN = "\0"
"""A text that no column knows, because the categories of models are printable."""


@dataclass(frozen=True)
class Table:
    """The values that the cells of one column become.

    Attributes:
        points: float64 (m,), ascending: the cells that the encoder knows.
        values: float64 (m + 2, k): what these become; then an unknown cell; then a missing one.
    """

    points: Values
    values: Values

    def look_up(self, cells: Values) -> Values:
        """Return what cells, (n,), become, (n, k)."""
        known = len(self.points)
        place = np.searchsorted(self.points, cells).clip(max=max(known - 1, 0))
        found = self.points[place] == cells if known else np.zeros(len(cells), dtype=np.bool_)
        chosen = np.where(np.isnan(cells), known + 1, np.where(found, place, known))
        return self.values[chosen]

    def steps(self) -> tuple[Values, Values]:
        """Return edges, (j,), and what the cells between them become, (j + 1, k).

        The values above infinity, the last edge, are those of a missing cell.
        """
        edges = np.column_stack([self.points, np.nextafter(self.points, np.inf)]).ravel()
        places = np.full(len(edges) + 2, len(self.points))
        places[1:-2:2] = np.arange(len(self.points))
        places[-1] = len(self.points) + 1
        return np.append(edges, np.inf), self.values[places]


class EncodedCells(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The numeric form of a fitted encoder: a table for each of its columns."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self.tables = tables
        self.n_features_in_ = len(tables)

    def fit(self, rows: Values, labels: Any = None) -> "EncodedCells":  # noqa: ARG002 (scikit-learn's)
        """Return itself: a pipeline asks whether its steps can be fitted."""
        return self

    def transform(self, rows: Values) -> Values:
        """Return the values of the tables, side by side."""
        each = [table.look_up(cells) for table, cells in zip(self.tables, rows.T, strict=True)]
        return np.hstack(each)


def is_missing(value: Any) -> bool:
    """Return whether a value stands for a missing cell."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def accepts_unknown(encoder: Any) -> bool:
    """Return whether an encoder takes categories that it does not know."""
    return getattr(encoder, "handle_unknown", "ignore") != "error"


def for_arrays(part: Any, **attributes: Any) -> Any:
    """Return a copy of a part that takes and returns arrays without names."""
    copied = object.__new__(type(part))
    left_out = ("feature_names_in_", "_sklearn_output_config")
    state = {key: value for key, value in vars(part).items() if key not in left_out}
    vars(copied).update(state | attributes)
    return copied


def ask_encoder(encoder: Any, place: int, points: Sequence[float], missing: Any) -> Table:
    """Return the table of one column of a fitted encoder.

    Args:
        encoder: The encoder.
        place: The place of the column.
        points: The cells of its known categories, in the encoder's order.
        missing: What stands for a missing cell.
    """
    encoder = for_arrays(encoder)
    known = [each for each in encoder.categories_[place].tolist() if not is_missing(each)]
    tolerant = accepts_unknown(encoder)
    other = UNKNOWN if any(isinstance(each, str) for each in known) else max(known, default=0) + 1
    asked = [*known, *([other] if tolerant else [])]
    takes_missing = tolerant or len(known) < len(encoder.categories_[place])
    asked += [missing] if takes_missing else []
    cells = np.empty((len(asked), len(encoder.categories_)), dtype=object)
    cells[:] = [each[0] for each in encoder.categories_]
    cells[:, place] = asked
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of unknown categories, and of no names
        found = encoder.transform(cells)
    first = sum(_width(encoder, column) for column in range(place))
    block = found[:, first : first + _width(encoder, place)]
    values = np.asarray(block.toarray() if hasattr(block, "toarray") else block, np.float64)
    order = np.argsort(points)
    # Cells that are not accepted are never looked up.
    rest = np.zeros((2, values.shape[1]))
    rest[0] = values[len(known)] if tolerant else 0.0
    rest[1] = values[-1] if takes_missing else 0.0
    table = np.vstack([values[: len(known)][order], rest])
    return Table(np.asarray(points, dtype=np.float64)[order], table)


def _width(encoder: Any, place: int) -> int:
    """Return the number of columns that a column becomes."""
    if hasattr(encoder, "_n_features_outs"):
        return int(encoder._n_features_outs[place])  # noqa: SLF001 (of OneHotEncoder)
    several = getattr(encoder, "target_type_", "") == "multiclass"
    return len(encoder.classes_) if several else 1

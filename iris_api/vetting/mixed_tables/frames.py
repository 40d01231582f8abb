"""Data frames for estimators that were fitted on them, made of a matrix of numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iris_api.schema import Column
from iris_api.vetting import integrity
from iris_api.vetting.mixed_tables.encoded_cells import UNKNOWN
from iris_api.vetting.mixed_tables.numeric_form import make_numeric
from iris_api.vetting.mixed_tables.texts import Text

Rows = NDArray[np.float64]


_METHODS = ("predict", "predict_proba", "decision_function")


def answer_rows(estimator: Any, columns: Sequence[Column]) -> Any:
    """Return an object that answers rows of numbers as a fitted estimator answers its own rows.

    It is the estimator itself, unless that needs data frames.

    Args:
        estimator: The estimator.
        columns: The columns of the rows, in the estimator's order.
    """
    texts = {place: column.name for place, column in enumerate(columns) if column.type == "string"}
    if not texts and not any(map(integrity.selects_by_name, integrity.reachable(estimator))):
        return estimator
    _, found = make_numeric(estimator, texts)
    return _ByFrames(estimator, columns, found)


class _ByFrames:
    """A fitted estimator that is given rows of numbers as data frames."""

    def __init__(self, estimator: Any, columns: Sequence[Column], texts: dict[int, Text]) -> None:
        self._estimator = estimator
        self._columns = columns
        own = getattr(estimator, "feature_names_in_", [column.name for column in columns])
        self._names = [str(name) for name in own]
        self._texts = texts

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._estimator, name)
        return (lambda rows: found(self._frame(rows))) if name in _METHODS else found

    def _frame(self, rows: Rows) -> Any:
        # Only a worker whose model needs it loads pandas: 60 MB and a second.
        import pandas as pd  # noqa: PLC0415

        cells = {
            name: pd.Series(
                self._cells(place, rows[:, place]), dtype=object if place in self._texts else None
            )
            for place, name in enumerate(self._names)
        }
        return pd.DataFrame(cells)

    def _cells(self, place: int, cells: Rows) -> NDArray[Any]:
        """Return the cells of a column as the estimator was fitted on them."""
        kind, missing = self._columns[place].type, np.isnan(cells)
        if (text := self._texts.get(place)) is not None:
            words = np.array([*text.categories, UNKNOWN, text.missing], dtype=object)
            known = len(words) - 2
            codes = np.where(missing, known + 1, np.where(cells < 0, known, cells))
            found: NDArray[Any] = words[codes.astype(np.int64)]
            return found
        if kind == "boolean":
            return (
                np.where(missing, cells.astype(object), cells == 1) if missing.any() else cells == 1
            )
        return cells if kind == "number" or missing.any() else cells.astype(np.int64)

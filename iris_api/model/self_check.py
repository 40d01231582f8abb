"""The self-check: a loaded model must answer the example as scikit-learn did at the import."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iris_api.model.engines import Engine, SklearnEngine
from iris_api.store.entry import Entry, damaged
from iris_api.store.metadata import Example

TOLERANCE = 1e-5
"""Largest difference of a probability, or of a prediction relative to the largest one: that of
models in float32, of earlier versions."""


def record_example(estimator: Any, rows: NDArray[np.float64]) -> Example:
    """Return what scikit-learn itself answers to rows in the model's own column order."""
    return _ask(SklearnEngine(estimator), rows)


def check_example(engine: Engine, entry: Entry) -> None:
    """Raise an error if an engine's answers differ from those of the import."""
    expected = entry.metadata.example
    found = _ask(engine, np.array(expected.rows, dtype=np.float64))
    numbers = entry.metadata.contract.task == "regressor"
    agree = _are_near if numbers else operator.eq
    if not (
        agree(found.values, expected.values)
        and _are_near(found.probabilities or [], expected.probabilities or [])
    ):
        raise damaged(entry, "does not answer its example as at its import")


def _are_near(found: Sequence[Any], expected: Sequence[Any]) -> bool:
    limit = TOLERANCE * np.abs(expected).max(initial=0)
    return np.shape(found) == np.shape(expected) and np.allclose(found, expected, 0, limit)


def _ask(engine: Engine, rows: NDArray[np.float64]) -> Example:
    values = engine.answer(rows, probabilities=False).values.tolist()
    probabilities = None
    if engine.has_probabilities:
        whole = engine.answer(rows, probabilities=True).probabilities
        probabilities = None if whole is None else whole.tolist()
    return Example(rows=rows.tolist(), labels=values, probabilities=probabilities)

"""The self-check: a loaded model must answer the example as scikit-learn did at the import."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iris_api.model.engines import Engine, SklearnEngine
from iris_api.store.entry import Entry, damaged
from iris_api.store.metadata import Example

TOLERANCE = 1e-5
"""Largest absolute difference of a probability, as in `iris_api/compiling/proof.py`."""


def record_example(estimator: Any, rows: NDArray[np.float64]) -> Example:
    """Return what scikit-learn itself answers to rows in the model's own column order."""
    engine = SklearnEngine(estimator)
    probabilities = engine.probabilities(rows).tolist() if engine.has_probabilities else None
    labels = engine.labels(rows).tolist()
    return Example(rows=rows.tolist(), labels=labels, probabilities=probabilities)


def check_example(engine: Engine, entry: Entry) -> None:
    """Compare an engine's answers with those of the import.

    Raises:
        StoreError: a label differs, or a probability by more than the tolerance.
    """
    example = entry.metadata.example
    rows = np.array(example.rows, dtype=np.float64)
    agrees = engine.answer(rows, probabilities=False).labels.tolist() == example.labels
    if agrees and engine.has_probabilities:
        found = engine.answer(rows, probabilities=True).probabilities
        agrees = found is not None and np.allclose(
            found, np.array(example.probabilities), rtol=0, atol=TOLERANCE
        )
    if not agrees:
        raise damaged(entry, "does not answer its example as at its import")

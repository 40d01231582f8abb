"""What scikit-learn answers to the rows of a model's input example, for the check at loading."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iris_api.model.loaded import SklearnEngine
from iris_api.store.metadata import Example


def answer_example(estimator: Any, rows: NDArray[np.float64]) -> Example:
    """Keep what scikit-learn itself answers, rows in the model's own order."""
    engine = SklearnEngine(estimator)
    probabilities = engine.probabilities(rows).tolist() if engine.has_probabilities else None
    labels = engine.labels(rows).tolist()
    return Example(rows=rows.tolist(), labels=labels, probabilities=probabilities)

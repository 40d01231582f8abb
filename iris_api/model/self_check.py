"""What scikit-learn answers to the rows of a model's input example, for the check at loading."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iris_api.model.loaded import SklearnEngine


def answer_example(estimator: Any, rows: NDArray[np.float64]) -> dict[str, Any]:
    """Keep what scikit-learn itself answers, rows in the model's own order."""
    engine = SklearnEngine(estimator)
    answer = {"rows": rows.tolist(), "labels": engine.labels(rows).tolist()}
    if engine.has_probabilities:
        answer["probabilities"] = engine.probabilities(rows).tolist()
    return answer

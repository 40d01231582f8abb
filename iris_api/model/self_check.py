"""The rows that a model is asked at its import, and what scikit-learn answered."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iris_api.model.loaded import SklearnEngine
from iris_api.schema import FEATURES, MAXIMUM_CM, MINIMUM_CM, feature_of

EXAMPLE_FILE = "input_example.json"
EXAMPLE_ROWS = 100

MAXIMUM_EXAMPLE_BYTES = 1024**2
"""A hundred rows take about five kilobytes."""

UNREADABLE = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    RecursionError,
)


def read_examples(model: Path, features: tuple[str, ...]) -> NDArray[np.float64]:
    """Read MLflow's input example in the model's own order; a typical flower where there is none.

    MLflow writes a data frame as `{"columns": […], "data": [[…], …]}`. It is only ever a
    question to the model, so that one in another form is passed over.
    """
    typical = dict(zip(FEATURES, (5.8, 3.1, 3.8, 1.2), strict=True))
    path = model / EXAMPLE_FILE
    try:
        if path.stat().st_size > MAXIMUM_EXAMPLE_BYTES:
            raise ValueError("no example that a person made")
        content = json.loads(path.read_bytes())
        columns = list(map(feature_of, content["columns"]))
        order = [columns.index(feature) for feature in features]
        table = np.array(content["data"][:EXAMPLE_ROWS], dtype=np.float64)
        if table.ndim != 2:
            raise ValueError("no table")
        rows = table[:, order]
    except UNREADABLE:
        rows = np.empty((0, 0))
    if rows.size and ((rows >= MINIMUM_CM) & (rows <= MAXIMUM_CM)).all():
        return rows
    return np.array([[typical[feature] for feature in features]])


def answer_example(estimator: Any, rows: NDArray[np.float64]) -> dict[str, Any]:
    """Keep what scikit-learn itself answers, rows in the model's own order."""
    engine = SklearnEngine(estimator)
    answer = {"rows": rows.tolist(), "labels": engine.labels(rows).tolist()}
    if engine.has_probabilities:
        answer["probabilities"] = engine.probabilities(rows).tolist()
    return answer

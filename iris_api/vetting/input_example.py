"""MLflow's input example: the rows that a model is asked when it is imported and when it is loaded.

The example is only ever a question to the model, so that one in another form is passed over.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iris_api.schema import FEATURES, MAXIMUM_CM, MINIMUM_CM, feature_of

EXAMPLE_FILE = "input_example.json"

EXAMPLE_ROWS = 100
"""Most rows that are kept of an example."""

MAXIMUM_EXAMPLE_BYTES = 1024**2
"""Largest `input_example.json`, in bytes; a hundred rows take about five thousand."""

TYPICAL_CM = dict(zip(FEATURES, (5.8, 3.1, 3.8, 1.2), strict=True))
"""The mean of each feature in the iris data set, for models that come without an example."""

UNREADABLE = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    RecursionError,
)


def read_examples(directory: Path, features: tuple[str, ...]) -> NDArray[np.float64]:
    """Read the input example of a model directory, or return one typical flower.

    MLflow writes a data frame as `{"columns": […], "data": [[…], …]}`.

    Args:
        directory: the model directory.
        features: the model's own order of `FEATURES`.

    Returns:
        Rows in centimetres, shape (n, 4) with n of 1 to `EXAMPLE_ROWS`, in the order of `features`.
    """
    path = directory / EXAMPLE_FILE
    try:
        if path.stat().st_size > MAXIMUM_EXAMPLE_BYTES:
            raise ValueError("too large for an example")
        content = json.loads(path.read_bytes())
        columns = list(map(feature_of, content["columns"]))
        order = [columns.index(feature) for feature in features]
        table = np.array(content["data"][:EXAMPLE_ROWS], dtype=np.float64)
        if table.ndim != 2:
            raise ValueError("not a table")
        rows = table[:, order]
    except UNREADABLE:
        rows = np.empty((0, 0))
    if rows.size and ((rows >= MINIMUM_CM) & (rows <= MAXIMUM_CM)).all():
        return rows
    return np.array([[TYPICAL_CM[feature] for feature in features]])

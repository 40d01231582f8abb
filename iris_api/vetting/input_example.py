"""MLflow's `input_example.json`: rows that a model is asked at its import and when it is loaded."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iris_api.schema import FEATURES, MAXIMUM_CM, MINIMUM_CM, plain_name
from iris_api.vetting.mlmodel import MAXIMUM_TEXT_BYTES, VettingError, read_file

EXAMPLE_ROWS = 100
"""Most rows that are kept of an example."""

TYPICAL_CM = dict(zip(FEATURES, (5.8, 3.1, 3.8, 1.2), strict=True))
"""About the mean of each feature in the iris data set, in centimetres."""


def read_examples(directory: Path, features: tuple[str, ...]) -> NDArray[np.float64]:
    """Return the rows of a model's input example, in cm, in the order of `features`.

    MLflow writes a data frame as `{"columns": […], "data": [[…], …]}`. For any other form, one
    typical row is returned.
    """
    try:
        content = json.loads(read_file(directory, "input_example.json", MAXIMUM_TEXT_BYTES))
        columns = [plain_name(column) for column in content["columns"]]
        table = np.array(content["data"][:EXAMPLE_ROWS], dtype=np.float64)
        rows = table[:, [columns.index(feature) for feature in features]]
        if rows.ndim == 2 and rows.size and ((rows >= MINIMUM_CM) & (rows <= MAXIMUM_CM)).all():
            return rows
    except (VettingError, RecursionError, ValueError, TypeError, LookupError, ArithmeticError):
        pass
    return np.array([[TYPICAL_CM[feature] for feature in features]])

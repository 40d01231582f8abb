"""MLflow's `input_example.json`: rows that a model is asked at its import and when it is loaded."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iris_api.schema import Column
from iris_api.vetting.mlmodel import MAXIMUM_TEXT_BYTES, VettingError, read_file
from iris_api.vetting.training_profile import TrainingProfile

EXAMPLE_ROWS = 100
"""Most rows that are kept of an example."""


def read_examples(
    directory: Path,
    columns: Sequence[Column],
    features: Sequence[str],
    profile: TrainingProfile | None,
) -> NDArray[np.float64]:
    """Return the rows of a model's input example, with columns in the order of `features`.

    MLflow writes a data frame as `{"columns": […], "data": [[…], …]}` and an array as
    `{"inputs": [[…], …]}`. Where there is none, or another, the mean row of the training profile is
    returned, or a row of ones.
    """
    by_name = {column.plain_name: column for column in columns}
    ordered = [by_name[feature] for feature in features]
    low, high = np.array([column.domain for column in ordered]).T
    try:
        content = json.loads(read_file(directory, "input_example.json", MAXIMUM_TEXT_BYTES))
        rows = _read(content, [column.name for column in ordered])
        if rows.size and ((rows >= low) & (rows <= high)).all() and np.isfinite(rows).all():
            return rows
    except (VettingError, RecursionError, ValueError, TypeError, LookupError, ArithmeticError):
        pass
    means = [profile.features[feature].mean if profile else 1.0 for feature in features]
    return np.clip([means], low, high)


def _read(content: dict[str, Any], names: Sequence[str]) -> NDArray[np.float64]:
    """Return an example's rows, (n, columns)."""
    if "inputs" in content:
        order, data = list(range(len(names))), content["inputs"]
    else:
        order, data = [content["columns"].index(name) for name in names], content["data"]
    return np.array(data[:EXAMPLE_ROWS], dtype=np.float64)[:, order]

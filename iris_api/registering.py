"""The registration of a fitted estimator with all that an import uses."""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.models import infer_signature
from numpy.typing import NDArray
from sklearn.base import is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from iris_api.errors import IrisError, one_line
from iris_api.schema import make_columns
from iris_api.vetting.archive import TRUSTED_TYPES
from iris_api.vetting.training_profile import FILE_NAME, TrainingProfile

EXAMPLE_ROWS = 3
"""Rows of the input example, spread over all rows."""


def register(
    estimator: Any, rows: Any, labels: Any, *, name: str, ranges: Mapping[str, tuple[float, float]]
) -> str:
    """Register an estimator, as `iris_api.log_model` documents."""
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise IrisError(f"{type(estimator).__name__} is not fitted; fit it first") from error
    if not (is_classifier(estimator) or is_regressor(estimator)):
        raise IrisError(
            f"{type(estimator).__name__} is neither a classifier nor a regressor, which an import "
            "rejects"
        )
    rows = rows if hasattr(rows, "columns") else np.asarray(rows)
    profile = _describe(estimator, rows, labels, ranges)
    answers = _predict(estimator, rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE_NAME
        path.write_text(profile.model_dump_json(indent=2), encoding="utf-8")
        chosen = np.arange(EXAMPLE_ROWS) * len(rows) // EXAMPLE_ROWS
        info = mlflow.sklearn.log_model(
            estimator,
            name="model",
            signature=_sign(rows, answers),
            input_example=rows.iloc[chosen] if hasattr(rows, "iloc") else rows[chosen],
            serialization_format="skops",
            skops_trusted_types=sorted(TRUSTED_TYPES),
            extra_files=[str(path)],
            # MLflow would start another process to infer them.
            pip_requirements=mlflow.sklearn.get_default_pip_requirements(include_skops=True),
        )
    return f"models:/{name}/{mlflow.register_model(info.model_uri, name).version}"


def _predict(estimator: Any, rows: Any) -> NDArray[Any]:
    try:
        return np.asarray(estimator.predict(rows))
    except ValueError as error:
        raise IrisError(
            f"{type(estimator).__name__} does not answer the rows: {one_line(error, 160)}"
        ) from error


def _sign(rows: Any, answers: Any) -> Any:
    """Return the signature, without MLflow's hint that integers cannot be missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return infer_signature(rows, answers)


def _describe(
    estimator: Any, rows: Any, labels: Any, ranges: Mapping[str, tuple[float, float]]
) -> TrainingProfile:
    """Return the training profile of rows, by the plain names of their columns."""
    shape = np.shape(rows)
    if len(shape) != 2 or len(rows) != len(labels):
        raise IrisError(
            f"rows have the shape {shape} and there are {len(labels)} labels; "
            "give a table, and a label for each of its rows"
        )
    if hasattr(rows, "columns"):
        cells = {str(name): np.asarray(rows[name]) for name in rows.columns}
    else:
        cells = {f"x{place}": column for place, column in enumerate(rows.T)}
    if unknown := ranges.keys() - cells.keys():
        raise IrisError(f"ranges names {min(unknown)}, which is no column of the rows")
    columns = make_columns([(name, "number", True) for name in cells])
    plain = {column.name: column.plain_name for column in columns}
    try:
        return TrainingProfile.of(
            {plain[name]: column for name, column in cells.items()},
            labels,
            {plain[name]: limits for name, limits in ranges.items()},
            _predict(estimator, rows).ravel() if is_regressor(estimator) else None,
        )
    except (TypeError, ValueError) as error:
        raise IrisError(f"the rows are no table of numbers and texts: {one_line(error)}") from error

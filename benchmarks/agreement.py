"""Compare 100 000 rows of each of five tables: the compiled model with scikit-learn itself.

The tables are registered with `iris_api.log_model` in a temporary registry, vetted and compiled:
`PYTHONPATH=tests python -m benchmarks.agreement`.
"""

import logging
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.tables import loans, mixed

import iris_api
from iris_api.compiling.conversion import compile_model
from iris_api.compiling.proof import LIMIT
from iris_api.model.engines import open_session
from iris_api.vetting.estimator import Vetted, vet

ROWS = 100_000
"""Rows of each table, and of each answer that is compared."""


def tables() -> Iterator[tuple[str, Any, Any, Any]]:
    """Yield the name, an estimator, the rows and the labels or targets of each table."""
    wine, tumours, digits = (
        load(as_frame=True) for load in (load_wine, load_breast_cancer, load_digits)
    )
    line = make_pipeline(StandardScaler(), LogisticRegression())
    yield "wine", line, wine.data, wine.target_names[wine.target]
    boosting = HistGradientBoostingClassifier(random_state=0)
    yield "breast cancer", boosting, tumours.data, tumours.target_names[tumours.target]
    yield "digits", RandomForestClassifier(40, random_state=0), digits.data, digits.target
    diabetes = load_diabetes(as_frame=True)
    yield "diabetes", GradientBoostingRegressor(random_state=0), diabetes.data, diabetes.target
    loan, outcome = loans()
    yield "mixed", mixed(LogisticRegression(max_iter=1000)), loan, outcome


def draw(vetted: Vetted, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return cells that are drawn for each column from what the model accepts, or near it."""
    features = vetted.profile.features if vetted.profile else {}
    columns = []
    for column in vetted.schema.in_order(vetted.features):
        if (found := features.get(column.plain_name)) is not None:
            width = found.maximum - found.minimum
            cells = rng.uniform(found.minimum - width / 4, found.maximum + width / 4, ROWS)
            cells = np.where(rng.random(ROWS) < 0.5, cells.round(2), cells)
        else:
            least = -1 if column.unknown_categories else 0
            cells = rng.integers(least, len(column.categories or [0, 1]), ROWS).astype(float)
        low, high = column.domain
        cells = np.clip(cells, low, high)
        if column.type == "integer":
            cells = cells.round()
        if not column.required:
            cells[rng.random(ROWS) < 0.1] = np.nan
        columns.append(cells)
    return np.column_stack(columns)


def compare(vetted: Vetted, model: bytes) -> tuple[int, float]:
    """Return how many labels differ, and the largest difference of another number."""
    rows = draw(vetted, np.random.default_rng(1))
    answers = open_session(model).run(None, {"rows": rows})
    expected = np.asarray(vetted.predictor.predict(rows))
    if vetted.schema.task == "regressor":
        return 0, _apart(answers[0], expected)
    wrong = int((vetted.estimator.classes_[answers[0]] != expected).sum())
    return wrong, _apart(answers[1], vetted.predictor.predict_proba(rows))


def _apart(got: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest difference: absolute up to 1, and relative beyond."""
    return float((np.abs(got - expected) / np.maximum(1.0, np.abs(expected))).max())


def main() -> None:
    """Print a line for each table, and fail where anything differs."""
    warnings.simplefilter("ignore")  # of training and of MLflow
    logging.disable(logging.WARNING)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        mlflow.set_tracking_uri(f"sqlite:///{folder}/registry.db")
        mlflow.create_experiment("agreement", artifact_location=f"file://{folder}/artifacts")
        mlflow.set_experiment("agreement")
        for name, estimator, rows, labels in tables():
            uri = iris_api.log_model(estimator.fit(rows, labels), rows, labels, name="Model")
            path = Path(mlflow.artifacts.download_artifacts(uri))
            start = time.perf_counter()
            vetted = vet(path, trust_pickle=False)
            compiled = compile_model(vetted)
            seconds = time.perf_counter() - start
            wrong, difference = compare(vetted, compiled.model)
            failed |= wrong > 0 or not difference <= LIMIT
            print(
                f"{name:14s} {ROWS} rows, {wrong} other labels, largest difference "
                f"{difference:.1e}; proved on {compiled.proof.rows} rows in {seconds:.1f} s"
            )
    if failed:
        raise SystemExit("a compiled model answers something else")


if __name__ == "__main__":
    main()

"""Models of the iris data set, registered with a tracking server."""

from typing import Any

import mlflow
import pandas as pd
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from iris_api.schema import FEATURES

IRIS = load_iris()
ROWS = pd.DataFrame(IRIS.data, columns=list(FEATURES))
SPECIES = IRIS.target_names[IRIS.target]


def use(url: str) -> mlflow.MlflowClient:
    """Make MLflow's functions in this process use a tracking server, and return a client of it."""
    mlflow.set_tracking_uri(url)
    mlflow.set_experiment("iris")
    return mlflow.MlflowClient()


def log(
    name: str,
    estimator: Any = None,
    rows: pd.DataFrame = ROWS,
    labels: Any = SPECIES,
    signed: pd.DataFrame | None = None,
    **options: Any,
) -> None:
    """Fit an estimator, by default a logistic regression, and register it.

    Args:
        name: The name of the registered model.
        estimator: An estimator that is not fitted.
        rows: The rows that it is fitted on.
        labels: The labels of the rows.
        signed: The rows that the signature is made of, if not `rows`.
        options: More arguments of `mlflow.sklearn.log_model`.
    """
    if estimator is None:  # an ensemble that is not fitted has no length
        estimator = LogisticRegression(max_iter=1000)
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            estimator.fit(rows, labels),
            name="model",
            registered_model_name=name,
            signature=mlflow.models.infer_signature(rows if signed is None else signed),
            pip_requirements=["scikit-learn"],
            **options,
        )

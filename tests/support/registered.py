"""Models of the data set, registered with a tracking server as a data scientist does it."""

from typing import Any

import mlflow
import pandas as pd
from sklearn.datasets import load_iris

from iris_api.schema import FEATURES

IRIS = load_iris()
ROWS = pd.DataFrame(IRIS.data, columns=list(FEATURES))
SPECIES = IRIS.target_names[IRIS.target]


def use(url: str) -> mlflow.MlflowClient:
    """Have MLflow's functions in this process use a tracking server, and give a client of it."""
    mlflow.set_tracking_uri(url)
    mlflow.set_experiment("iris")
    return mlflow.MlflowClient()


def log(
    name: str,
    estimator: Any,
    rows: pd.DataFrame = ROWS,
    labels: Any = SPECIES,
    extra_files: list[str] | None = None,
) -> None:
    """Fit an estimator, and register it with the columns of the rows as its signature."""
    estimator.fit(rows, labels)
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            estimator,
            name="model",
            registered_model_name=name,
            signature=mlflow.models.infer_signature(rows),
            pip_requirements=["scikit-learn"],
            extra_files=extra_files,
        )

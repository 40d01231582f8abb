"""Train an iris classifier, and register and promote it in MLflow."""

import argparse
import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow.data.pandas_dataset import from_pandas
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from sklearn.base import ClassifierMixin, clone
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import StratifiedKFold, cross_val_predict, cross_validate
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from iris_api.errors import IrisError, one_line
from iris_api.schema import FEATURES
from iris_api.vetting.archive import TRUSTED_TYPES
from iris_api.vetting.training_profile import FILE_NAME, TrainingProfile

SEED = 0
FOLDS = 5

ESTIMATORS: dict[str, Callable[[], ClassifierMixin]] = {
    "logistic": lambda: LogisticRegression(max_iter=1000),
    "forest": lambda: RandomForestClassifier(n_estimators=100, random_state=SEED),
    "boosting": lambda: HistGradientBoostingClassifier(max_iter=50, random_state=SEED),
    "svc": lambda: make_pipeline(StandardScaler(), SVC(probability=True, random_state=SEED)),
    "neighbors": KNeighborsClassifier,
    "bayes": GaussianNB,
    "discriminant": LinearDiscriminantAnalysis,
}

EPILOG = """\
environment:
  MLFLOW_TRACKING_URI     the tracking server, started with --serve-artifacts
  MLFLOW_EXPERIMENT_NAME  the experiment (iris)

The model URI of the new version is all that is printed on standard output.
"""


class TrainingError(IrisError):
    """The experiment or the server does not fit."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    arguments = _parse(argv)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    _hide_login()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where MLflow prints links to the run
            uri = train(arguments.estimator, arguments.name, promote=arguments.promote)
    except (IrisError, MlflowException) as error:
        _report(f"error: {' '.join(str(error).split())}")
        return 1
    except KeyboardInterrupt:
        _report("interrupted")
        return 130
    print(uri)
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--estimator", choices=sorted(ESTIMATORS), default="logistic", help="(default: logistic)"
    )
    parser.add_argument(
        "--name", default="IrisModel", help="of the registered model (default: IrisModel)"
    )
    parser.add_argument(
        "--no-promote",
        dest="promote",
        action="store_false",
        help="register only: leave the stage Production and the alias champion where they are",
    )
    return parser.parse_args(argv)


def train(estimator: str, name: str, *, promote: bool) -> str:
    """Train on all of the data set after a cross-validation.

    Args:
        estimator: a key of `ESTIMATORS`.
        name: of the registered model.
        promote: move the new version to stage Production and give it the alias champion.

    Returns:
        The model URI of the new version.

    Raises:
        TrainingError: the artifacts would not go through the tracking server's proxy.
    """
    _use_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "iris"))
    bunch = load_iris()
    rows = pd.DataFrame(bunch.data, columns=list(FEATURES))
    labels = bunch.target_names[bunch.target]
    model = ESTIMATORS[estimator]()
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    with mlflow.start_run():
        mlflow.log_input(from_pandas(rows.assign(species=labels), name="iris"))
        mlflow.log_params({"estimator": estimator, "folds": FOLDS, "seed": SEED})
        mlflow.log_params(
            {key: one_line(value) for key, value in model.get_params(deep=False).items()}
        )
        metrics = _cross_validate(model, rows, labels, folds)
        mlflow.log_metrics(metrics)
        _report(
            f"{estimator}, mean and deviation of {FOLDS} folds: "
            f"accuracy {metrics['accuracy_mean']:.3f} ± {metrics['accuracy_std']:.3f}, "
            f"log loss {metrics['log_loss_mean']:.3f} ± {metrics['log_loss_std']:.3f}"
        )
        mlflow.log_figure(_confusion_matrix(model, rows, labels, folds), "confusion_matrix.png")
        model.fit(rows, labels)
        version = _register(model, rows, labels, name)
    if promote:
        _promote(name, version)
    return f"models:/{name}/{version}"


def _address() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def _hide_login() -> None:
    """Move a login from the tracking URI, which MLflow prints, to where it does not."""
    parts = urlsplit(_address())
    if parts.username:
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
        netloc = parts.netloc.rpartition("@")[2]
        os.environ["MLFLOW_TRACKING_URI"] = parts._replace(netloc=netloc).geturl()


def _use_experiment(name: str) -> None:
    location = mlflow.set_experiment(name).artifact_location
    parts = urlsplit(location)
    # Another host in it would get this server's login.
    if parts.scheme != "mlflow-artifacts" or parts.netloc not in {"", urlsplit(_address()).netloc}:
        location = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        raise TrainingError(
            f"experiment {name} keeps its artifacts at {location}, outside of the artifact proxy; "
            "set MLFLOW_EXPERIMENT_NAME to a new one on a server started with --serve-artifacts"
        )


def _cross_validate(
    model: ClassifierMixin, rows: pd.DataFrame, labels: Any, folds: StratifiedKFold
) -> dict[str, float]:
    """Return mean and standard deviation over the folds of accuracy and log loss (in nats)."""
    scores = cross_validate(
        clone(model),
        rows,
        labels,
        cv=folds,
        scoring={"accuracy": "accuracy", "log_loss": "neg_log_loss"},
    )
    accuracy, log_loss = scores["test_accuracy"], -scores["test_log_loss"]
    return {
        "accuracy_mean": accuracy.mean(),
        "accuracy_std": accuracy.std(),
        "log_loss_mean": log_loss.mean(),
        "log_loss_std": log_loss.std(),
    }


def _confusion_matrix(
    model: ClassifierMixin, rows: pd.DataFrame, labels: Any, folds: StratifiedKFold
) -> Figure:
    """Draw what each flower was taken for by the fold that had not seen it."""
    figure = Figure()
    ConfusionMatrixDisplay.from_predictions(
        labels, cross_val_predict(clone(model), rows, labels, cv=folds), ax=figure.subplots()
    )
    return figure


def _register(model: ClassifierMixin, rows: pd.DataFrame, labels: Any, name: str) -> str:
    """Log the fitted model with its training profile; return its new version's number."""
    profile = TrainingProfile.of(
        {feature: rows[feature].to_numpy() for feature in FEATURES}, labels
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE_NAME
        path.write_text(profile.model_dump_json(indent=2), encoding="utf-8")
        info = mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(rows, np.asarray(model.predict(rows), dtype=str)),
            input_example=rows.iloc[[0, 50, 100]],  # one flower of each species
            serialization_format="skops",
            skops_trusted_types=sorted(TRUSTED_TYPES),
            extra_files=[str(path)],
            # MLflow would start a process of its own to find out what is known here.
            pip_requirements=mlflow.sklearn.get_default_pip_requirements(include_skops=True),
        )
    return str(mlflow.register_model(info.model_uri, name).version)


def _promote(name: str, version: str) -> None:
    client = mlflow.MlflowClient()
    # Stages are deprecated, and what many registries still go by.
    client.transition_model_version_stage(
        name, version, stage="Production", archive_existing_versions=True
    )
    client.set_registered_model_alias(name, "champion", version)
    _report(f"version {version} of {name} is in stage Production and has the alias champion")


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

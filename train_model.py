"""Train an iris classifier, and register and promote it in MLflow."""

import argparse
import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import mlflow
import pandas as pd
from matplotlib.figure import Figure
from mlflow.data.pandas_dataset import from_pandas
from mlflow.exceptions import MlflowException
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

import iris_api
from iris_api import terminal
from iris_api.errors import IrisError, one_line
from iris_api.model_uri import ModelURI
from iris_api.registry import promotion
from iris_api.registry.logins import Address, split_login
from iris_api.registry.promotion import STAGE
from iris_api.registry.servers import Servers
from iris_api.registry.versions import current, resolve
from iris_api.schema import FEATURES, IRIS_RANGE
from iris_api.settings import settings

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

The model URI of the new version is printed on standard output, and nothing else.
"""


def main() -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--estimator", choices=sorted(ESTIMATORS), default="logistic", help="(default: logistic)"
    )
    parser.add_argument(
        "--name", default="IrisModel", help="name of the registered model (default: IrisModel)"
    )
    parser.add_argument(
        "--no-promote",
        action="store_true",
        help="register only: leave the stage Production and the alias champion where they are",
    )
    arguments = parser.parse_args()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    terminal.configure()
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    _hide_login()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where MLflow prints links to the run
            uri = train(arguments.estimator, arguments.name, promote=not arguments.no_promote)
    except (IrisError, MlflowException) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(uri)
    return 0


def train(estimator: str, name: str, *, promote: bool) -> str:
    """Cross-validate an estimator, fit it on all rows, register it, and return its model URI."""
    Address.parse(settings().tracking_uri)  # without one, MLflow would write files here
    _use_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "iris"))
    bunch = load_iris()
    rows = pd.DataFrame(bunch.data, columns=list(FEATURES))
    labels = bunch.target_names[bunch.target]
    model = ESTIMATORS[estimator]()
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    with mlflow.start_run():
        mlflow.log_input(from_pandas(rows.assign(species=labels), name="iris"))
        parameters = {key: one_line(text) for key, text in model.get_params(deep=False).items()}
        mlflow.log_params({"estimator": estimator, "folds": FOLDS, "seed": SEED} | parameters)
        metrics = _cross_validate(model, rows, labels, folds)
        mlflow.log_metrics(metrics)
        print(
            f"{estimator}, mean and deviation of {FOLDS} folds: "
            f"accuracy {metrics['accuracy_mean']:.3f} ± {metrics['accuracy_std']:.3f}, "
            f"log loss {metrics['log_loss_mean']:.3f} ± {metrics['log_loss_std']:.3f}",
            file=sys.stderr,
        )
        figure = Figure()  # of the predictions by the fold that was not trained on the flower
        predicted = cross_val_predict(clone(model), rows, labels, cv=folds)
        ConfusionMatrixDisplay.from_predictions(labels, predicted, ax=figure.subplots())
        mlflow.log_figure(figure, "confusion_matrix.png")
        model.fit(rows, labels)
        uri = iris_api.log_model(
            model, rows, labels, name=name, ranges=dict.fromkeys(FEATURES, IRIS_RANGE)
        )
    if promote:
        servers, followed = Servers.read(settings()), ModelURI.parse(f"models:/{name}/{STAGE}")
        former = current(servers, followed)
        promotion.promote(servers, resolve(servers, ModelURI.parse(uri)), followed)
        if former:
            _compare(name, former, metrics["accuracy_mean"])
    return uri


def _compare(name: str, former: int, accuracy: float) -> None:
    """Print a line if the accuracy is lower than that of the version that is replaced."""
    client = mlflow.MlflowClient()
    run = client.get_model_version(name, str(former)).run_id
    before = client.get_run(run).data.metrics.get("accuracy_mean") if run else None
    if before is not None and accuracy < before:
        print(
            f"its accuracy is {before - accuracy:.3f} lower than that of version {former}, which "
            "it replaces; to undo that, run python import_model.py rollback",
            file=sys.stderr,
        )


def _hide_login() -> None:
    """Move a login from the tracking URI, which MLflow prints, to the variables for it."""
    address, login = split_login(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if login:
        os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = login
        os.environ["MLFLOW_TRACKING_URI"] = address.geturl()


def _use_experiment(name: str) -> None:
    location, login = split_login(mlflow.set_experiment(name).artifact_location)
    server, _ = split_login(os.environ.get("MLFLOW_TRACKING_URI", ""))
    # Another host would get this server's login.
    is_here = location.netloc in {"", server.netloc} and not login
    if location.scheme != "mlflow-artifacts" or not is_here:
        raise IrisError(
            f"experiment {name} keeps its artifacts at {location.geturl()}, outside of the "
            "artifact proxy; set MLFLOW_EXPERIMENT_NAME to a new one on a server started with "
            "--serve-artifacts"
        )


def _cross_validate(
    model: ClassifierMixin, rows: pd.DataFrame, labels: Any, folds: StratifiedKFold
) -> dict[str, float]:
    """Return mean and standard deviation over the folds of accuracy and log loss (in nats)."""
    scoring = ("accuracy", "neg_log_loss")
    scores = cross_validate(clone(model), rows, labels, cv=folds, scoring=scoring)
    values = {"accuracy": scores["test_accuracy"], "log_loss": -scores["test_neg_log_loss"]}
    means = {f"{name}_mean": float(of.mean()) for name, of in values.items()}
    return means | {f"{name}_std": float(of.std()) for name, of in values.items()}


if __name__ == "__main__":
    sys.exit(main())

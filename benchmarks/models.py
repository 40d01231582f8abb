"""The models: registered and imported as this project does it, and what scikit-learn answers."""

import contextlib
import functools
import io
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris, make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import iris_api
from benchmarks.mlserver import write_model
from benchmarks.peers import Message, Peer, read_labels
from benchmarks.servers import ROOT, BenchmarkError, Server, free_port, serving
from iris_api.schema import FEATURES, IRIS_RANGE

_FOREIGN = ("MLFLOW_", "BENTOML_", "BENTO_", "IRIS_", "OTEL_", "PROMETHEUS_", "MLSERVER_")

Table = tuple[pd.DataFrame, Any]
"""Rows and their labels."""


def irises() -> Table:
    """Return the data set that `train_model.py` uses."""
    bunch = load_iris()
    rows = pd.DataFrame(bunch.data, columns=list(FEATURES))
    return rows, bunch.target_names[bunch.target]


def wide(columns: int) -> Table:
    """Return a table of so many numbers a row."""
    rows, labels = make_classification(400, columns, n_informative=3, random_state=0)
    return pd.DataFrame(rows.round(3)).add_prefix("x"), labels


def mixed() -> Table:
    """Return a table of credits: texts, a boolean, an integer, and numbers that can be missing."""
    random = np.random.default_rng(0)
    count = 400
    rows = pd.DataFrame(
        {
            "age": random.integers(18, 80, count),
            "income": random.normal(3000, 800, count).round(2),
            "debt": np.where(random.random(count) < 0.1, np.nan, random.gamma(2, 500, count)),
            "job": random.choice(["clerk", "nurse", "teacher", "welder"], count),
            "city": random.choice(["Lyon", "Oslo", "Rome"], count),
            "owner": random.random(count) < 0.4,
        }
    )
    risky = rows.debt.fillna(800) + 900 * (rows.job == "clerk") > rows.income / 2
    return rows, np.where(risky, "declined", "approved")


def mixed_pipeline() -> Any:
    """Return the usual pipeline for a table like `mixed`."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    texts = OneHotEncoder(handle_unknown="ignore")
    steps = [("numbers", numbers, ["age", "income", "debt"]), ("texts", texts, ["job", "city"])]
    table = ColumnTransformer([*steps, ("booleans", "passthrough", ["owner"])])
    return make_pipeline(table, LogisticRegression(max_iter=1000))


def forest(trees: int) -> Any:
    """Return a forest of so many trees."""
    return RandomForestClassifier(trees, random_state=0)


@dataclass(frozen=True)
class Recipe:
    """An estimator, and the table that it is fitted on."""

    estimator: Callable[[], Any]
    table: Callable[[], Table] = irises


LOGISTIC = Recipe(lambda: LogisticRegression(max_iter=1000))
FOREST = Recipe(lambda: forest(100))


@dataclass(frozen=True)
class Model:
    """One imported model, and scikit-learn's answers for its table.

    Attributes:
        home: A BENTOML_HOME with no other model in it.
        entry: The folder of the model in the model store.
        names: The names of the columns.
        rows: The rows of the table, as JSON has them.
        labels: The labels that scikit-learn gives these rows.
    """

    home: Path
    entry: Path
    names: Sequence[str]
    rows: list[list[Any]]
    labels: list[Any]

    @classmethod
    def read(cls, home: Path, table: pd.DataFrame | None = None) -> "Model":
        """Read the only entry of a store, and predict with scikit-learn itself."""
        (entry,) = (path.parent for path in home.glob("models/*/*/model.yaml"))
        table = irises()[0] if table is None else table
        estimator = mlflow.sklearn.load_model(str(entry / "mlflow_model"))
        write_model(home / "mlserver", estimator)
        cells = table.astype(object).where(table.notna(), None)
        labels = estimator.predict(table).tolist()
        return cls(home, entry, list(table.columns), cells.to_numpy().tolist(), labels)

    def message(self, peer: Peer, call: str, count: int) -> Message:
        """Return a request with so many rows, which repeat the table."""
        rows = [self.rows[place % len(self.rows)] for place in range(count)]
        return peer.calls[call].encode(self.names, rows)

    def check(self, peer: Peer, server: Server, call: str, count: int) -> None:
        """Compare a peer's labels for `count` rows with those of scikit-learn.

        Raises:
            BenchmarkError: A label differs.
        """
        answer = server.ask(peer.calls[call].path, self.message(peer, call, count))
        expected = [self.labels[place % len(self.labels)] for place in range(count)]
        if read_labels(answer) != expected:
            raise BenchmarkError(f"{peer.name}, {call}: its labels are not those of scikit-learn")

    @contextlib.contextmanager
    def serve(
        self, peer: Peer, log: Path, *, cores: Collection[int] = (), home: Path | None = None
    ) -> Iterator[Server]:
        """Run a peer with this model until the block ends."""
        port, home = free_port(), home or self.home
        command, own = peer.command(port=port, spare=free_port(), entry=self.entry, home=home)
        model = {"BENTOML_HOME": str(home), "BENCH_ENTRY": str(self.entry)}
        with serving(command, port, env=plain_env() | model | own, log=log, cores=cores) as server:
            yield server


def plain_env() -> dict[str, str]:
    """Return this environment without settings, with the scripts of this Python on the path."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    return kept | {"PATH": path, "BENTOML_DO_NOT_TRACK": "True"}


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[dict[str, str]]:
    """Run a tracking server until the block ends, and yield the environment that points to it."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--serve-artifacts", "--artifacts-destination", str(folder / "artifacts")),
    ]
    # The server would start processes for jobs.
    server_env = plain_env() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with serving(command, port, env=server_env, log=folder / "mlflow.log") as server:
        server.wait("/health")
        mlflow.set_tracking_uri(f"http://127.0.0.1:{port}")
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        yield plain_env() | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}


def prepare(recipes: Mapping[str, Recipe], folder: Path) -> dict[str, Model]:
    """Fit, register and import each model with a registry that ends afterwards.

    Raises:
        BenchmarkError: A step failed.
    """
    with registry(folder) as env, ThreadPoolExecutor(2) as pool:
        done = {
            name: pool.submit(make(recipe, folder / name.replace(" ", "-"), env))
            for name, recipe in recipes.items()
        }
        return {name: each.result() for name, each in done.items()}


def make(recipe: Recipe, home: Path, env: Mapping[str, str]) -> Callable[[], Model]:
    """Fit and register one more version of IrisModel.

    Returns:
        What imports it into a store of its own, and raises a BenchmarkError if that fails.
    """
    rows, labels = recipe.table()
    ranges = dict.fromkeys(FEATURES, IRIS_RANGE) if recipe.table is irises else {}
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        fitted = recipe.estimator().fit(rows, labels)
        uri = iris_api.log_model(fitted, rows, labels, name="IrisModel", ranges=ranges)
    return functools.partial(_import, uri, rows, home, env)


def _import(uri: str, rows: pd.DataFrame, home: Path, env: Mapping[str, str]) -> Model:
    command = [sys.executable, "import_model.py", uri, "--engine", "onnx"]
    env = {**env, "BENTOML_HOME": str(home)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"the import of {home.name} failed:\n{done.stderr.strip()}")
    return Model.read(home, rows)

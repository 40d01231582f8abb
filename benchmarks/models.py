"""The models: trained, registered and imported with this project's own command lines."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_iris

from benchmarks.peers import Peer
from benchmarks.servers import ROOT, BenchmarkError, Server, free_port, serving
from iris_api.schema import FEATURES

ESTIMATORS = ("logistic", "forest")
"""Of train_model.py: one that scikit-learn answers at once, and one that costs it milliseconds."""

_FOREIGN = ("MLFLOW_", "BENTOML_", "BENTO_", "IRIS_", "OTEL_", "PROMETHEUS_")


@dataclass(frozen=True)
class Model:
    """One imported model, and scikit-learn's answers for the data set.

    Attributes:
        home: A BENTOML_HOME with no other model in it.
        entry: The folder of the model in the model store.
        rows: The data set, shape (150, 4), in centimetres.
        labels: The labels that scikit-learn gives these rows.
    """

    home: Path
    entry: Path
    rows: NDArray[np.float64]
    labels: Sequence[Any]

    @classmethod
    def read(cls, home: Path) -> "Model":
        """Read the only entry of a store, and predict with scikit-learn itself."""
        (entry,) = (path.parent for path in home.glob("models/*/*/model.yaml"))
        rows = load_iris().data
        estimator = mlflow.sklearn.load_model(str(entry / "mlflow_model"))
        labels = estimator.predict(pd.DataFrame(rows, columns=list(FEATURES)))
        return cls(home, entry, rows, labels.tolist())

    def repeated(self, count: int) -> tuple[list[list[float]], list[Any]]:
        """Return so many rows and their labels, repeating the data set."""
        return np.resize(self.rows, (count, 4)).tolist(), np.resize(self.labels, count).tolist()

    def check(self, peer: Peer, server: Server, count: int) -> None:
        """Compare a peer's labels for `count` rows with those of scikit-learn.

        Raises:
            BenchmarkError: A label differs.
        """
        rows, labels = self.repeated(count)
        if peer.labels(server.ask(peer.path, peer.encode(rows))) != labels:
            raise BenchmarkError(f"{peer.name}: its labels are not those of scikit-learn")

    def env(self, peer: Peer) -> dict[str, str]:
        """Return the environment for a peer that serves this model."""
        model = {"BENTOML_HOME": str(self.home), "BENCH_ENTRY": str(self.entry)}
        return plain_env() | model | peer.env


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
        yield plain_env() | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}


def prepare(folder: Path) -> dict[str, Model]:
    """Train, register and import each model with a registry that ends afterwards.

    Raises:
        BenchmarkError: A step failed.
    """
    with registry(folder) as env:
        return {estimator: make(estimator, folder / estimator, env) for estimator in ESTIMATORS}


def make(estimator: str, home: Path, env: Mapping[str, str]) -> Model:
    """Train, register, promote and import one more version, into a store of its own.

    Raises:
        BenchmarkError: A step failed.
    """
    _run("train_model.py", "--estimator", estimator, env=env)
    _run("import_model.py", "--engine", "onnx", env={**env, "BENTOML_HOME": str(home)})
    return Model.read(home)


def _run(*arguments: str, env: Mapping[str, str]) -> None:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{arguments[0]} failed:\n{done.stderr.strip()}")

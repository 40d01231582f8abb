"""MLServer, which needs other versions of the packages, in an environment of its own."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib

from benchmarks.peers import MLSERVER_FOLDER
from benchmarks.servers import ROOT, BenchmarkError

VERSION = "1.7.1"
PACKAGES = (f"mlserver=={VERSION}", f"mlserver-sklearn=={VERSION}")


def install() -> None:
    """Make the environment, if it is missing.

    Raises:
        BenchmarkError: A package cannot be installed.
    """
    done = MLSERVER_FOLDER / ".installed"
    if done.exists():
        return
    print(f"installing MLServer {VERSION} into {MLSERVER_FOLDER.relative_to(ROOT)}", flush=True)
    uv = (sys.executable, "-m", "uv", "--quiet")
    same = f"scikit-learn=={version('scikit-learn')}"
    try:
        for arguments in (
            ("venv", "--clear", "--python", sys.executable, MLSERVER_FOLDER),
            ("pip", "install", "--python", MLSERVER_FOLDER, same, *PACKAGES),
        ):
            subprocess.run([*uv, *arguments], check=True)
    except subprocess.CalledProcessError as error:
        raise BenchmarkError("MLServer cannot be installed; uv says why") from error
    done.touch()


def write_model(folder: Path, estimator: Any) -> None:
    """Write the folder that MLServer serves: it takes joblib's files, not MLflow's."""
    folder.mkdir(exist_ok=True)
    joblib.dump(estimator, folder / "model.joblib")
    settings = {
        "name": "IrisModel",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib"},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings), encoding="utf-8")

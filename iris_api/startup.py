"""What a served Bento does before its workers start: it imports the model of the registry."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "import_model.py"


def follows_registry() -> bool:
    """Tell whether a served Bento is pointed at a registry, and does not only use what it carries.

    The variable is MLflow's own, and the service needs no more of MLflow than this.
    """
    return bool(os.environ.get("MLFLOW_TRACKING_URI"))


def import_at_start() -> bool:
    """Run the import as its users do, in a process, so that no worker ever loads mlflow.

    Returns:
        Whether it succeeded; standard error says why not. It ends with this process.
    """
    done = subprocess.run(
        [sys.executable, SCRIPT], cwd=SCRIPT.parent, stdout=subprocess.DEVNULL, check=False
    )
    return done.returncode == 0

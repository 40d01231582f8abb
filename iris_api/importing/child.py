"""What a served Bento does before its workers start: it imports the model of the registry."""

import logging
import os
import subprocess
import sys
from pathlib import Path

logger = logging.getLogger("bentoml.service")

SCRIPT = Path(__file__).resolve().parents[2] / "import_model.py"


def follows_registry() -> bool:
    """Tell whether a served Bento is pointed at a registry, and does not only use what it carries.

    The variable is MLflow's own, and the service needs no more of MLflow than this.
    """
    return bool(os.environ.get("MLFLOW_TRACKING_URI"))


def import_at_start() -> bool:
    """Run the import as its users do, in a process, so that no worker ever loads mlflow.

    Returns:
        Whether it succeeded; the log says why not. It ends with this process.
    """
    with subprocess.Popen(
        [sys.executable, SCRIPT],
        cwd=SCRIPT.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            for line in process.stderr or ():
                level = logging.ERROR if line.startswith("error:") else logging.INFO
                logger.log(level, "%s", line.rstrip())
        except BaseException:
            process.kill()
            raise
    return process.returncode == 0

"""The import before the workers of a served Bento start."""

import argparse
import logging
import os
import sys
from functools import partial

from iris_api.importing import child, cli
from iris_api.importing.outcome import Done

logger = logging.getLogger("bentoml.service")


def follows_registry() -> bool:
    """Return whether a served Bento has a registry to follow, beside the model that it carries.

    The variable is MLflow's own, and the service needs no more of MLflow than this.
    """
    return bool(os.environ.get("MLFLOW_TRACKING_URI"))


def import_at_start() -> bool:
    """Import the registry's model in a child process, so that this one never loads mlflow.

    Returns:
        Whether it succeeded; the service's log says why not. Ctrl-C or SIGTERM ends the process.
    """
    arguments = cli.parse([])
    with child.caught_signals() as signals:
        work = partial(_import, arguments)
        outcome = child.run(work, seconds=arguments.timeout, signals=signals)
    if signals.received:
        sys.exit(128 + signals.received)
    if isinstance(outcome, Done):
        return True
    logger.error("%s", f"error: {outcome.error}")
    return False


def _import(arguments: argparse.Namespace) -> str:
    logging.getLogger("iris_api").setLevel(logging.INFO)  # to the handlers of the service's log
    return cli.import_version(arguments)

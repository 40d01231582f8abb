"""The import before the workers of a served Bento start."""

import logging
import os
import sys
from collections.abc import Callable
from functools import partial

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
    # A worker, which imports this module too, needs neither.
    from iris_api.importing import child, cli  # noqa: PLC0415

    arguments = cli.parse([])
    with child.caught_signals() as signals:
        work = partial(_in_the_log, partial(cli.import_version, arguments))
        outcome = child.run(work, seconds=arguments.timeout, signals=signals)
    if signals.received:
        sys.exit(128 + signals.received)
    if isinstance(outcome, Done):
        return True
    logger.error("%s", f"error: {outcome.error}")
    return False


def _in_the_log(work: Callable[[], str]) -> str:
    """Log the steps of an import to the handlers of the service's log."""
    logging.getLogger("iris_api").setLevel(logging.INFO)
    return work()

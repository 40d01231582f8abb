"""The command line of import_model.py: its arguments, what it prints, and its exit status."""

import argparse
import json
import logging
import shlex
import signal
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from iris_api import terminal
from iris_api.importing import child
from iris_api.importing.arguments import parse
from iris_api.importing.outcome import Done, Failed, Outcome, attempt
from iris_api.model_uri import ModelURI
from iris_api.settings import settings

if TYPE_CHECKING:
    from iris_api.importing.pipeline import Importer

SPARE_SECONDS = 60
"""Seconds that a promotion may take beside its wait for the service."""

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    arguments = parse(argv)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of libraries; ours are lines on standard error
    terminal.configure()
    limits = attempt(partial(_limits, arguments))
    outcome = limits if isinstance(limits, Failed) else _run(arguments, limits.result)
    if isinstance(outcome, Failed):
        logger.error("%s", f"error: {outcome.error}")
        return outcome.status
    if outcome.result:
        print(outcome.result)
    return 0


def _run(arguments: argparse.Namespace, limits: child.Limits) -> Outcome[str]:
    with child.caught_signals() as signals:
        run = partial(child.run, limits=limits, signals=signals)
        if arguments.command:
            return run(partial(_promote, arguments))
        if arguments.watch:
            return attempt(partial(_watch, arguments, limits, signals))
        if arguments.dry_run:
            # The folder is removed here, because the child may be killed.
            with TemporaryDirectory(prefix="iris-import-") as folder:
                return run(partial(_dry_run, arguments, Path(folder)))
        return run(partial(_list if arguments.list else _import, arguments))


def _limits(arguments: argparse.Namespace) -> child.Limits:
    current = settings()
    # A promotion has its own, better message when its time is over.
    seconds = arguments.timeout + (SPARE_SECONDS if arguments.command else 0)
    return child.Limits(seconds, current.import_cpu_seconds, current.import_memory_bytes)


def import_at_start() -> bool:
    """Import the registry's model before a served Bento starts its workers.

    It happens in a child process, so that this one never loads mlflow.

    Returns:
        Whether it succeeded; the service's log says why not. Ctrl-C or SIGTERM ends the process,
        SIGTERM with status 0, as it ends a service that runs.
    """
    arguments = parse([])
    logging.getLogger("iris_api").setLevel(logging.INFO)
    with child.caught_signals() as signals:
        outcome = child.run(partial(_import, arguments), _limits(arguments), signals)
    if signals.received:
        sys.exit(0 if signals.received == signal.SIGTERM else 128 + signals.received)
    if isinstance(outcome, Failed):
        logger.error("%s", f"error: {outcome.error}")
    return isinstance(outcome, Done)


def _list(arguments: argparse.Namespace) -> str:
    from iris_api.home import model_store  # noqa: PLC0415
    from iris_api.importing.listing import list_entries, to_table  # noqa: PLC0415

    _quiet()
    servers = None
    if settings().tracking_uri:
        from iris_api.registry.servers import Servers  # noqa: PLC0415

        servers = Servers.read(settings())
        servers.registry.retry_seconds = 0  # the list is of use without it
    rows = list_entries(servers)
    if not rows:
        logger.info("nothing is imported in the model store %s", model_store())
    for problem in [row["problem"] for row in rows if row["problem"]]:
        logger.warning("%s", problem)
    return json.dumps(rows, indent=2) if arguments.json else to_table(rows)


def _quiet() -> None:
    """Leave out the libraries' log lines, which are of no use beside ours."""
    for name in ("", "mlflow", "bentoml"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _import(arguments: argparse.Namespace) -> str:
    uri, importer = _begin(arguments, "importing {}", step=True)
    tag, model = importer.run(uri), f"models:/{uri.name}"
    if not settings().model_uri.startswith((f"{model}/", f"{model}@")):
        logger.info("the service answers with it when IRIS_MODEL_URI=%s", shlex.quote(uri.text))
    return tag


def _promote(arguments: argparse.Namespace) -> str:
    """Promote a version, or roll back."""
    current = settings()
    uri = ModelURI.parse(arguments.model_uri) if arguments.command == "promote" else None
    from iris_api.importing.promotion import Service, promote  # noqa: PLC0415 (mlflow, as below)
    from iris_api.registry.servers import Servers  # noqa: PLC0415

    _quiet()
    url = arguments.service
    service = Service(url.rstrip("/"), arguments.timeout) if url else None
    return promote(Servers.read(current), uri, ModelURI.parse(current.model_uri), service)


def _dry_run(arguments: argparse.Namespace, folder: Path) -> str:
    uri, importer = _begin(arguments, "importing {}, as a dry run", step=True)
    from iris_api.importing.listing import to_lines  # noqa: PLC0415

    found = importer.dry_run(uri, folder)
    return json.dumps(found, indent=2) if arguments.json else to_lines(found)


def _watch(arguments: argparse.Namespace, limits: child.Limits, signals: child.Signals) -> str:
    """Follow the registry until a signal comes, which is how a watch is meant to end."""
    # What is imported here, each child process has already.
    uri, importer = _begin(arguments, f"watching {{}}, every {arguments.watch:g} s")
    from iris_api.importing.watcher import Watcher  # noqa: PLC0415

    watcher = Watcher(importer, uri, arguments.watch, limits, settings().keep_versions, signals)
    logger.info("ended by %s", watcher.run().name)
    return ""  # each tag was printed when it was activated


def _begin(
    arguments: argparse.Namespace, line: str, *, step: bool = False
) -> "tuple[ModelURI, Importer]":
    """Check what can be checked at once, log a line with the model URI, and import the rest."""
    current = settings()
    uri = ModelURI.parse(arguments.model_uri or current.model_uri)
    logger.info("%s", line.format(uri.text), extra=terminal.STEP if step else None)
    # mlflow takes seconds to import: --help and a typing error need not wait.
    from iris_api.importing.pipeline import Importer  # noqa: PLC0415
    from iris_api.importing.sources import Folder, Registry  # noqa: PLC0415
    from iris_api.registry.servers import Servers  # noqa: PLC0415

    _quiet()
    folder = current.model_folder
    return uri, Importer(
        Folder(folder) if folder else Registry(Servers.read(current)),
        arguments.engine,
        arguments.trust_pickle,
        current.import_max_bytes,
        arguments.allow_schema_change,
    )

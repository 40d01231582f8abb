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

from iris_api.importing import child
from iris_api.importing.outcome import Done, Failed, Outcome, attempt
from iris_api.model_uri import ModelURI
from iris_api.settings import settings

if TYPE_CHECKING:
    from iris_api.importing.pipeline import Importer

logger = logging.getLogger(__name__)

MAXIMUM_SECONDS = 365 * 24 * 3600
"""A year; timers take numbers up to about 10**10."""

EPILOG = """\
environment:
  MLFLOW_TRACKING_URI       the tracking server, such as http://127.0.0.1:5000
  MLFLOW_TRACKING_USERNAME  and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN: the login
  MLFLOW_REGISTRY_URI       the registry, if it is another server
  IRIS_ARTIFACT_HOSTS       other hosts from which artifacts may be fetched
  BENTOML_HOME              where the model store is (~/bentoml)
  IRIS_MODEL_URI            the model URI where none is given
  IRIS_IMPORT_MAX_BYTES     the largest model, such as 512MiB
  IRIS_IMPORT_MEMORY_BYTES  and IRIS_IMPORT_CPU_SECONDS: what an import may take (1280MiB, 120)
  IRIS_KEEP_VERSIONS        how many entries of the model --watch keeps (5)

examples:
  TAG=$(python import_model.py models:/IrisModel/3)
  python import_model.py --dry-run --json models:/IrisModel/3 | jq .proof
  python import_model.py --watch 10 models:/IrisModel@champion

An import prints the tag on standard output and nothing else. Exit status: 0 imported or already
there, 1 failed and the store is as it was, 2 wrong usage, 130 or 143 ended by Ctrl-C or SIGTERM.

--watch prints the tag of each version that it activates. A version that is rejected is logged once
and never activated. Ctrl-C or SIGTERM ends it, at once and with exit status 0.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    arguments = parse(argv)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of libraries; ours are lines on standard error
    ours = logging.getLogger("iris_api")
    ours.handlers = [logging.StreamHandler()]  # our own lines go to standard error as they are
    ours.setLevel(logging.INFO)
    ours.propagate = False
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
        if arguments.watch:
            return attempt(partial(_watch, arguments, limits, signals))
        if arguments.dry_run:
            # The folder is removed here, because the child may be killed.
            with TemporaryDirectory(prefix="iris-import-") as folder:
                return run(partial(_dry_run, arguments, Path(folder)))
        return run(partial(_list if arguments.list else _import, arguments))


def _limits(arguments: argparse.Namespace) -> child.Limits:
    current = settings()
    return child.Limits(arguments.timeout, current.import_cpu_seconds, current.import_memory_bytes)


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


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; wrong ones end the process with exit status 2."""
    parser = argparse.ArgumentParser(
        prog="import_model.py",
        description="Import a registered model from MLflow, through its artifact proxy, into the "
        "BentoML store.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model_uri",
        nargs="?",
        metavar="MODEL_URI",
        help="models:/NAME/VERSION, /STAGE or /latest, or models:/NAME@ALIAS "
        "(default: IRIS_MODEL_URI, else models:/IrisModel/Production)",
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "onnx", "sklearn"),
        default="auto",
        help="auto: ONNX where it is proved equal, else scikit-learn (default); "
        "onnx: ONNX or fail; sklearn: scikit-learn",
    )
    parser.add_argument(
        "--trust-pickle",
        action="store_true",
        help="open a pickled model, once, in a separate, limited process; "
        "it can still read your files and logins, so trust its author",
    )
    parser.add_argument(
        "--allow-schema-change",
        action="store_true",
        help="activate a version although its columns or labels are not those of the active one",
    )
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument(
        "--dry-run",
        action="store_true",
        help="print what would be imported and what was found in it, and leave the store alone",
    )
    modes.add_argument(
        "--list",
        action="store_true",
        help="print what the store has, without asking a server; * marks the active version",
    )
    modes.add_argument(
        "--watch",
        type=seconds,
        metavar="SECONDS",
        help="poll the registry with so many seconds between, and import and activate what the "
        "model URI means then",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the answer of --dry-run or --list as JSON"
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=300,
        metavar="SECONDS",
        help="limit of the whole import, with --watch of each (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    if arguments.json and not (arguments.dry_run or arguments.list):
        parser.error("--json goes with --dry-run or --list; an import prints the tag")
    if arguments.list and arguments.model_uri:
        parser.error("--list does not go with a model URI")
    return arguments


def seconds(text: str) -> float:
    """Read a number of seconds; argparse shows this function's name where it is no number."""
    value = float(text)
    if not 0 < value <= MAXIMUM_SECONDS:  # nor nan
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most {MAXIMUM_SECONDS}")
    return value


def _list(arguments: argparse.Namespace) -> str:
    from iris_api.home import model_store  # noqa: PLC0415
    from iris_api.importing.listing import list_entries, to_table  # noqa: PLC0415

    _quiet()
    rows = list_entries()
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
    uri, importer = _begin(arguments, "importing {}")
    tag, model = importer.run(uri), f"models:/{uri.name}"
    if not settings().model_uri.startswith((f"{model}/", f"{model}@")):
        logger.info("the service answers with it when IRIS_MODEL_URI=%s", shlex.quote(uri.text))
    return tag


def _dry_run(arguments: argparse.Namespace, folder: Path) -> str:
    uri, importer = _begin(arguments, "importing {}, as a dry run")
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


def _begin(arguments: argparse.Namespace, line: str) -> "tuple[ModelURI, Importer]":
    """Check what can be checked at once, log a line with the model URI, and import the rest."""
    current = settings()
    uri = ModelURI.parse(arguments.model_uri or current.model_uri)
    logger.info("%s", line.format(uri.text))
    # mlflow takes seconds to import: --help and a typing error need not wait.
    from iris_api.importing.pipeline import Importer  # noqa: PLC0415
    from iris_api.registry.servers import Servers  # noqa: PLC0415

    _quiet()
    return uri, Importer(
        Servers.read(current),
        arguments.engine,
        arguments.trust_pickle,
        current.import_max_bytes,
        arguments.allow_schema_change,
    )

"""Import a registered model from MLflow, through its artifact proxy, into the BentoML store."""

import argparse
import contextlib
import json
import logging
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn, TextIO

from iris_api.importing.time_limit import attempt, ignore_endings
from iris_api.model_uri import ModelURI, ModelURIError
from iris_api.settings import settings

TIMEOUT_SECONDS = 300

LONGEST_SECONDS = 365 * 24 * 3600
"""A year; timers take numbers up to about 10**10."""

EPILOG = """\
environment:
  MLFLOW_TRACKING_URI       the tracking server, such as http://127.0.0.1:5000
  MLFLOW_TRACKING_USERNAME  and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN: the login
  BENTOML_HOME              where the model store is (~/bentoml)
  IRIS_MODEL_URI            the model URI where none is given
  IRIS_IMPORT_MAX_BYTES     the largest model, such as 512MiB
  IRIS_KEEP_VERSIONS        how many entries of the model --watch keeps (5)

examples:
  python import_model.py
  python import_model.py models:/IrisModel@champion
  TAG=$(python import_model.py models:/IrisModel/3)
  python import_model.py --dry-run --json models:/IrisModel/3 | jq .proof
  python import_model.py --list
  python import_model.py --watch 10 models:/IrisModel@champion

The tag is all that an import prints on standard output. Exit status: 0 imported or there already,
1 failed and the store is as it was, 2 wrong usage, 130 or 143 ended by Ctrl-C or SIGTERM.

--watch prints the tag of each version that it activates. A version that is refused is told once and
never activated. Ctrl-C or SIGTERM ends it, at once and with exit status 0.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    arguments = _parse(argv)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of libraries; ours are lines on standard error
    if arguments.watch:
        return _watch(arguments)
    work = _list if arguments.list else _import
    with contextlib.redirect_stdout(sys.stderr):
        outcome = attempt(lambda: work(arguments), arguments.timeout)
    if arguments.outcome:
        json.dump(asdict(outcome), sys.stdout)
    elif outcome.error:
        _report(f"error: {outcome.error}")
    else:
        print(outcome.output)
    return outcome.status


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="import_model.py",
        description=__doc__,
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
        help="open a model that is a pickle, once, in a separate, limited process; "
        "it can still read your files and logins, so trust its author",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would be imported and what was found in it, and leave the store alone",
    )
    parser.add_argument(
        "--list",
        action="store_true",
        help="say what the store has, without asking a server; * marks the active version",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the answer of --dry-run or --list as JSON"
    )
    parser.add_argument(
        "--watch",
        type=_seconds,
        metavar="SECONDS",
        help="ask the registry again and again, so many seconds apart, and import and activate "
        "what the model URI means then",
    )
    parser.add_argument("--outcome", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=TIMEOUT_SECONDS,
        metavar="SECONDS",
        help=f"for the whole import, with --watch for each (default: {TIMEOUT_SECONDS})",
    )
    arguments = parser.parse_args(argv)
    if arguments.json and not (arguments.dry_run or arguments.list):
        parser.error("--json goes with --dry-run or --list; an import prints the tag")
    if arguments.list and (arguments.dry_run or arguments.model_uri):
        parser.error("--list goes with neither --dry-run nor a model URI")
    if arguments.watch and (arguments.dry_run or arguments.list):
        parser.error("--watch goes with neither --dry-run nor --list")
    return arguments


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be a number of seconds") from None
    if not 0 < value <= LONGEST_SECONDS:  # nor nan
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most {LONGEST_SECONDS}")
    return value


def _list(arguments: argparse.Namespace) -> str:
    from iris_api.home import model_store  # noqa: PLC0415
    from iris_api.importing.listing import list_entries, to_table  # noqa: PLC0415

    rows = list_entries()
    if not rows:
        _report(f"nothing is imported in the model store {model_store()}")
    return json.dumps(rows, indent=2) if arguments.json else to_table(rows)


def _import(arguments: argparse.Namespace) -> str:
    """Import, or only try to, and return what goes to standard output."""
    uri = ModelURI.parse(arguments.model_uri or settings().model_uri)
    max_bytes = settings().import_max_bytes
    _report(f"importing {uri.text}{', as a dry run' if arguments.dry_run else ''}")
    # mlflow and scikit-learn take seconds to import: --help and a typing error need not wait.
    from iris_api.importing.listing import to_lines  # noqa: PLC0415
    from iris_api.importing.pipeline import Importer  # noqa: PLC0415
    from iris_api.registry.client import TrackingServer  # noqa: PLC0415

    logging.disable(logging.WARNING)  # what they log is said here, or of no use
    importer = Importer(
        TrackingServer(os.environ.get("MLFLOW_TRACKING_URI", ""), _report),
        engine=arguments.engine,
        trust_pickle=arguments.trust_pickle,
        max_bytes=max_bytes,
        report=_report,
        progress=_Progress(),
        finish=ignore_endings,
    )
    if not arguments.dry_run:
        tag = str(importer.run(uri).tag)
        if not (arguments.outcome or _is_served(uri)):
            _report(f"the service answers with it when IRIS_MODEL_URI={shlex.quote(uri.text)}")
        return tag
    found = importer.dry_run(uri)
    return json.dumps(found, indent=2) if arguments.json else to_lines(found)


def _is_served(uri: ModelURI) -> bool:
    """Tell whether a service with the same settings answers with this registered model."""
    try:
        return ModelURI.parse(settings().model_uri).name == uri.name
    except ModelURIError:
        return False


def _watch(arguments: argparse.Namespace) -> int:
    """Follow the registry until a signal comes, which is how a watch is meant to end."""
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        outcome = attempt(lambda: _follow(arguments, out), seconds=0)
    if outcome.status > 128:
        _report(f"ended by {signal.Signals(outcome.status - 128).name}")
        return 0
    _report(f"error: {outcome.error}")
    return outcome.status


def _follow(arguments: argparse.Namespace, out: TextIO) -> NoReturn:
    uri = ModelURI.parse(arguments.model_uri or settings().model_uri)
    keep = settings().keep_versions
    _report(f"watching {uri.text}, every {arguments.watch:g} s")
    from iris_api.importing.watcher import Watcher  # noqa: PLC0415
    from iris_api.registry.client import TrackingServer  # noqa: PLC0415

    logging.disable(logging.WARNING)
    options = ["--engine", arguments.engine, "--timeout", str(arguments.timeout)]
    if arguments.trust_pickle:
        options.append("--trust-pickle")
    Watcher(
        # The watch itself says when the registry goes away, and not each try.
        TrackingServer(os.environ.get("MLFLOW_TRACKING_URI", ""), lambda _: None),
        uri,
        interval=arguments.watch,
        timeout=arguments.timeout,
        keep=keep,
        engine=arguments.engine,
        command=[sys.executable, str(Path(__file__)), "--outcome", *options, uri.text],
        report=_report,
        announce=lambda tag: print(tag, file=out, flush=True),
    ).run()


class _Progress:
    """Shows the download on a terminal, and nothing in a log."""

    def __init__(self) -> None:
        self._arrived = 0

    def __call__(self, arrived: int, total: int) -> None:
        self._arrived += arrived
        if total and sys.stderr.isatty():
            end = "\n" if self._arrived >= total else "\r"
            print(f"{self._arrived / total:4.0%} of {total} bytes", end=end, file=sys.stderr)


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

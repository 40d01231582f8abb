"""Import a registered model from MLflow, through its artifact proxy, into the BentoML store."""

import argparse
import contextlib
import errno
import json
import logging
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from iris_api import IrisError, one_line
from iris_api.model_uri import ModelURI, ModelURIError
from iris_api.settings import SettingsError, settings

TIMEOUT_SECONDS = 300

EPILOG = """\
environment:
  MLFLOW_TRACKING_URI       the tracking server, such as http://127.0.0.1:5000
  MLFLOW_TRACKING_USERNAME  and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN: the login
  BENTOML_HOME              where the model store is (~/bentoml)
  IRIS_MODEL_URI            the model URI where none is given
  IRIS_IMPORT_MAX_BYTES     the largest model, such as 512MiB

examples:
  python import_model.py
  python import_model.py models:/IrisModel@champion
  TAG=$(python import_model.py models:/IrisModel/3)
  python import_model.py --dry-run --json models:/IrisModel/3 | jq .proof
  python import_model.py --list

The tag is all that an import prints on standard output. Exit status: 0 imported or there already,
1 failed and the store is as it was, 2 wrong usage, 130 or 143 ended by Ctrl-C or SIGTERM.
"""


ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
"""The signals that end an import: Ctrl-C, an orchestrator, the time limit."""

AGAIN_SECONDS = 2
"""Between the attempts to end; the staging folder is cleared in less."""

MENDS = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or have the quota raised",
    errno.EFBIG: "raise the limit of the file size, ulimit -f",
    errno.EACCES: "give this user the permission",
    errno.EPERM: "give this user the permission",
    errno.EROFS: "mount it writable",
    errno.ENOENT: "make the folder",
    errno.ENOTDIR: "remove the file that stands where a folder should be",
}
"""How to mend what the operating system refuses, each but for another BENTOML_HOME."""


class EndedError(BaseException):
    """A signal came. Not an Exception, which libraries catch and take for a failure of theirs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    arguments = _parse(argv)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of libraries; ours are lines on standard error
    ending = _Ending()
    for number in ENDINGS:
        signal.signal(number, ending)
    sys.unraisablehook = lambda _: None  # an ending inside of a finalizer comes again
    signal.setitimer(signal.ITIMER_REAL, arguments.timeout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            printed = _list(arguments) if arguments.list else _import(arguments)
    except (ModelURIError, SettingsError) as error:
        _report(f"error: {error}")
        return 2
    except IrisError as error:
        _report(f"error: {error}")
        return 1
    except OSError as error:
        _report(f"error: {_explain(error)}")
        return 1
    except EndedError as error:
        _ignore_endings()
        number = error.args[0]
        if number == signal.SIGALRM:
            _report(
                f"error: not done after {arguments.timeout:g} s; is the server slow? "
                "--timeout sets the limit"
            )
            return 1
        _report(f"error: ended by {signal.Signals(number).name}; the store is as it was")
        return 128 + int(number)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    print(printed)
    return 0


class _Ending:
    """Ends the import at the first signal, and again where a library swallowed that."""

    def __init__(self) -> None:
        self._first = 0

    def __call__(self, number: int, _frame: FrameType | None) -> NoReturn:
        self._first = self._first or number
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        raise EndedError(self._first)


def _ignore_endings() -> None:
    for number in ENDINGS:
        signal.signal(number, signal.SIG_IGN)


def _explain(error: OSError) -> str:
    """Say what the operating system refused, where, and how to mend it."""
    if isinstance(error, shutil.Error):  # of many files; the first one says it
        error = OSError(errno.ENOSPC if "[Errno 28]" in str(error) else 0, one_line(error))
    where = error.filename or os.environ.get("BENTOML_HOME", "~/bentoml")
    mend = MENDS.get(error.errno or 0)
    reason = error.strerror or one_line(error)
    said = reason if where in reason else f"{where}: {reason}"
    return f"{said}; {mend}, or set BENTOML_HOME to another folder" if mend else said


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
        "--timeout",
        type=_seconds,
        default=TIMEOUT_SECONDS,
        metavar="SECONDS",
        help=f"for the whole import (default: {TIMEOUT_SECONDS})",
    )
    arguments = parser.parse_args(argv)
    if arguments.json and not (arguments.dry_run or arguments.list):
        parser.error("--json goes with --dry-run or --list; an import prints the tag")
    if arguments.list and (arguments.dry_run or arguments.model_uri):
        parser.error("--list goes with neither --dry-run nor a model URI")
    return arguments


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be a number of seconds") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


def _list(arguments: argparse.Namespace) -> str:
    from iris_api.listing import list_entries, to_table  # noqa: PLC0415

    rows = list_entries()
    return json.dumps(rows, indent=2) if arguments.json else to_table(rows)


def _import(arguments: argparse.Namespace) -> str:
    """Import, or only try to, and return what goes to standard output."""
    uri = ModelURI.parse(arguments.model_uri or settings().model_uri)
    max_bytes = settings().import_max_bytes
    _report(f"importing {uri.text}{', as a dry run' if arguments.dry_run else ''}")
    # mlflow and scikit-learn take seconds to import: --help and a typing error need not wait.
    from iris_api.importer import Importer  # noqa: PLC0415
    from iris_api.listing import to_lines  # noqa: PLC0415
    from iris_api.tracking import TrackingServer  # noqa: PLC0415

    logging.disable(logging.WARNING)  # what they log is said here, or of no use
    importer = Importer(
        TrackingServer(os.environ.get("MLFLOW_TRACKING_URI", ""), _report),
        engine=arguments.engine,
        trust_pickle=arguments.trust_pickle,
        max_bytes=max_bytes,
        report=_report,
        progress=_Progress(),
        finish=_ignore_endings,
    )
    if not arguments.dry_run:
        return str(importer.run(uri).tag)
    found = importer.dry_run(uri)
    return json.dumps(found, indent=2) if arguments.json else to_lines(found)


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

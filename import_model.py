"""Import a registered model from MLflow, through its artifact proxy, into the BentoML store."""

import argparse
import contextlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

from iris_api import IrisError
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

The tag is all that is printed on standard output. Exit status: 0 imported or there already,
1 failed and the store is as it was, 2 wrong usage.
"""


class ImportTimeoutError(IrisError):
    """The import took longer than it may."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    arguments = _parse(argv)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of libraries; ours are lines on standard error
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with _time_limit(arguments.timeout), contextlib.redirect_stdout(sys.stderr):
            tag = _import(arguments)
    except (ModelURIError, SettingsError) as error:
        _report(f"error: {error}")
        return 2
    except IrisError as error:
        _report(f"error: {error}")
        return 1
    except OSError as error:
        _report(f"error: {error.strerror or error}: {error.filename or ''}".rstrip(": "))
        return 1
    except KeyboardInterrupt:
        _report("interrupted; the store is as it was")
        return 128 + signal.SIGINT
    print(tag)
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
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
        help="open a model that is a pickle, once, in a process without logins; "
        "it can still run any code, so trust its author",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=TIMEOUT_SECONDS,
        metavar="SECONDS",
        help=f"for the whole import (default: {TIMEOUT_SECONDS})",
    )
    return parser.parse_args(argv)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


def _import(arguments: argparse.Namespace) -> str:
    uri = ModelURI.parse(arguments.model_uri or settings().model_uri)
    max_bytes = settings().import_max_bytes
    _report(f"importing {uri.text}")
    # mlflow and scikit-learn take seconds to import: --help and a typing error need not wait.
    from iris_api.importer import Importer  # noqa: PLC0415
    from iris_api.tracking import TrackingServer  # noqa: PLC0415

    logging.disable(logging.WARNING)  # what they log is said here, or of no use
    return str(
        Importer(
            TrackingServer(os.environ.get("MLFLOW_TRACKING_URI", ""), _report),
            engine=arguments.engine,
            trust_pickle=arguments.trust_pickle,
            max_bytes=max_bytes,
            report=_report,
            progress=_Progress(),
        )
        .run(uri)
        .tag
    )


class _Progress:
    """Shows the download on a terminal, and nothing in a log."""

    def __init__(self) -> None:
        self._arrived = 0

    def __call__(self, arrived: int, total: int) -> None:
        self._arrived += arrived
        if sys.stderr.isatty():
            end = "\n" if self._arrived >= total else "\r"
            print(f"{self._arrived / total:4.0%} of {total} bytes", end=end, file=sys.stderr)


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def expire(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise ImportTimeoutError(
            f"not done after {seconds:g} s; is the server slow? --timeout sets the limit"
        )

    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

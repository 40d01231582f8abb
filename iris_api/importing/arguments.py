"""The arguments of import_model.py, and its help."""

import argparse
import sys
from collections.abc import Sequence

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

commands:
  promote MODEL_URI         move the stage and the alias to a version; see promote --help
  rollback                  move them back to the version before

examples:
  TAG=$(python import_model.py models:/IrisModel/3)
  python import_model.py --dry-run --json models:/IrisModel/3 | jq .proof
  python import_model.py --watch 10 models:/IrisModel@champion
  python import_model.py promote models:/IrisModel/3 --service http://127.0.0.1:8000

An import prints the tag on standard output and nothing else. Exit status: 0 imported or already
there, 1 failed and the store is as it was, 2 wrong usage, 130 or 143 ended by Ctrl-C or SIGTERM.

--watch prints the tag of each version that it activates. A version that is rejected is logged once
and never activated. Ctrl-C or SIGTERM ends it, at once and with exit status 0.
"""

COMMANDS = {
    "promote": "Move the stage and the alias of a registered model to a version, and archive the "
    "other versions in the stage. They are those of IRIS_MODEL_URI, else Production and champion.",
    "rollback": "Promote the highest version below the present one that was in the stage before.",
}
"""The commands beside the import, and what they do."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; wrong ones end the process with exit status 2."""
    given = sys.argv[1:] if argv is None else argv
    if given and given[0] in COMMANDS:
        return _parse_command(given)
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
        help="print what the store has, with the present stages and aliases if the registry "
        "answers; * marks the active version",
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
    arguments = parser.parse_args(given)
    if arguments.json and not (arguments.dry_run or arguments.list):
        parser.error("--json goes with --dry-run or --list; an import prints the tag")
    if arguments.list and arguments.model_uri:
        parser.error("--list does not go with a model URI")
    arguments.command = None
    return arguments


def _parse_command(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"import_model.py {given[0]}", description=COMMANDS[given[0]]
    )
    if given[0] == "promote":
        parser.add_argument("model_uri", metavar="MODEL_URI", help="the version to promote")
    parser.add_argument(
        "--service",
        metavar="URL",
        help="wait until the service at this address answers with the version",
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=300,
        metavar="SECONDS",
        help="limit of the wait for the service (default: %(default)s)",
    )
    arguments = parser.parse_args(given[1:])
    arguments.command = given[0]
    return arguments


def seconds(text: str) -> float:
    """Read a number of seconds; argparse shows this function's name where it is no number."""
    value = float(text)
    if not 0 < value <= MAXIMUM_SECONDS:  # nor nan
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most {MAXIMUM_SECONDS}")
    return value

"""The `MLmodel` of a model directory and the files beside it, read as untrusted data."""

import json
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from iris_api.errors import IrisError, one_line
from iris_api.schema import FEATURES, feature_of

MAXIMUM_BYTES = 256 * 1024 * 1024
"""Largest model file, in bytes: several times a forest of 10 000 trees on the iris data set."""

MAXIMUM_MLMODEL_BYTES = 1024 * 1024
"""Largest `MLmodel`, in bytes; one with a signature takes about a kibibyte."""

FORMATS = ("skops", "cloudpickle", "pickle", "joblib")

YAML_ERRORS = (
    *(yaml.YAMLError, RecursionError),
    # Raised for scalars that do not fit their tag, such as `!!bool maybe`.
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
)

SIGN_AGAIN = "log the model again with a signature of " + ", ".join(FEATURES)
FIT_AGAIN = (  # renaming the columns in the signature alone would hide what the model was fitted on
    f"rename the columns to {', '.join(FEATURES)}, fit again, "
    "and log the model with infer_signature of those rows"
)
LOG_AS_SKOPS = 'log the model again with mlflow.sklearn and serialization_format="skops"'
LOG_AGAIN = "log the model again with mlflow.sklearn.log_model"


class VettingError(IrisError):
    """A rejected model directory: one line that says why, and how to fix the model."""


@dataclass(frozen=True)
class Flavor:
    """The scikit-learn flavor in `MLmodel`: types and paths are checked, claims are not.

    `model_file` is a path inside the directory, `features` is a permutation of `FEATURES` in the
    order of the signature's columns, and `signature` has the parts of it, each JSON text.
    """

    model_file: str
    serialization_format: str  # one of FORMATS
    sklearn_version: str
    features: tuple[str, ...]
    signature: dict[str, str]


def read_flavor(directory: Path) -> Flavor:
    """Read the `MLmodel` of a model directory.

    Raises:
        VettingError: this service cannot import such a model.
    """
    document = _mapping(_read_mlmodel(directory), "the MLmodel file")
    flavors = _mapping(document.get("flavors"), "flavors in the MLmodel file")
    if "sklearn" not in flavors:
        raise VettingError(
            f"the model has no sklearn flavor (it has: {shorten(flavors)}); {LOG_AGAIN}"
        )
    sklearn = _mapping(flavors["sklearn"], "the sklearn flavor")
    _reject_code(directory, document, flavors)
    model_file = _text(sklearn, "pickled_model")
    _reject_other_loader(flavors.get("python_function"), model_file)
    # MLflow takes a model without a format for a pickle.
    format_ = _text({"serialization_format": "pickle", **sklearn}, "serialization_format")
    if model_file.endswith(".joblib"):
        format_ = "joblib"
    if format_ not in FORMATS:
        raise VettingError(
            f"the serialization format {one_line(format_, 40)} is not known; {LOG_AS_SKOPS}"
        )
    signature = _signature(document.get("signature"))
    return Flavor(
        model_file=model_file,
        serialization_format=format_,
        sklearn_version=_text(sklearn, "sklearn_version"),
        features=_features(signature["inputs"]),
        signature=signature,
    )


def read_file(directory: Path, name: str, limit: int = MAXIMUM_BYTES) -> bytes:
    """Read a file of a model directory by its path inside it, once and as a whole.

    Raises:
        VettingError: it is missing, larger than `limit` in bytes, not a plain file, or not inside
            the directory.
    """
    shown, parts, path = f"the file {one_line(name)}", PurePosixPath(name).parts, directory
    if not parts or parts[0] == "/" or ".." in parts or "\\" in name:
        raise VettingError(f"{shown} is not inside the model's folder; {LOG_AGAIN}")
    for part in parts:
        path /= part
        if path.is_symlink():
            raise VettingError(f"{shown} is behind a symbolic link; {LOG_AGAIN}")
    try:
        # Neither follow a link nor wait for the writer of a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise VettingError(f"{shown} is missing or unreadable; {LOG_AGAIN}") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise VettingError(f"{shown} is not a plain file; {LOG_AGAIN}")
        if status.st_size > limit:
            raise VettingError(f"{shown} is larger than {limit >> 20} MiB; log a smaller one")
        return file.read()


def shorten(names: Collection[str], limit: int = 40) -> str:
    """Return the first five names, each of at most `limit` characters, and how many follow."""
    shown = ", ".join(one_line(name, limit) for name in list(names)[:5]) or "none"
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def check_version(made_by: str) -> None:
    """Reject an estimator of another minor version of scikit-learn.

    Estimators are not compatible across minor versions: one can open, predict, and be wrong, which
    no trial prediction shows. Patch releases bring fixes and no new attributes.

    Raises:
        VettingError: the major or minor version is not the installed one.
    """
    here = version("scikit-learn")
    if made_by.split(".")[:2] != here.split(".")[:2]:
        raise VettingError(
            f"the model was made by scikit-learn {one_line(made_by, 40)} and this is {here}, "
            f"which may read it wrongly; train and register it again with {here}"
        )


class _Loader(yaml.SafeLoader):
    """YAML without `<<`, because nested merges can make a mapping of 10^9 entries."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leave `<<` as a key, which no constructor knows."""


def _read_mlmodel(directory: Path) -> Any:
    data = read_file(directory, "MLmodel", MAXIMUM_MLMODEL_BYTES)
    try:
        return yaml.load(data, _Loader)  # noqa: S506 (it is a SafeLoader)
    except YAML_ERRORS as error:
        raise VettingError(f"the MLmodel file is not valid YAML; {LOG_AGAIN}") from error


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise VettingError(f"{name} should be a mapping; {LOG_AGAIN}")
    return value


def _text(flavor: Mapping[str, Any], key: str, name: str = "sklearn") -> str:
    value = flavor.get(key)
    # The value itself is not shown: a few YAML aliases can stand for a list of 10^9 words.
    if not isinstance(value, str):
        raise VettingError(f"{key} of the {name} flavor should be a string; {LOG_AGAIN}")
    return value


def _reject_code(directory: Path, document: Mapping[str, Any], flavors: Mapping[str, Any]) -> None:
    keys = ("code", "code_path", "code_paths", "model_code_path")
    sections = [part for part in (document, flavors, *flavors.values()) if isinstance(part, dict)]
    named = any(section.get(key) for section in sections for key in keys)
    if named or os.path.lexists(directory / "code"):
        raise VettingError(
            "the model brings its own Python code, which is never run here; "
            "log it again without code_paths"
        )


def _reject_other_loader(flavor: Any, model_file: str) -> None:
    if flavor is None:
        return
    flavor = _mapping(flavor, "the python_function flavor")
    loader = _text(flavor, "loader_module", "python_function")
    if loader != "mlflow.sklearn":
        raise VettingError(
            f"the model is loaded by {one_line(loader, 80)} and not by mlflow.sklearn; {LOG_AGAIN}"
        )
    # MLflow can open the stored model as well, and must then read the same file.
    if flavor.get("model_path", model_file) != model_file:
        raise VettingError(f"the model's two flavors name different files; {LOG_AGAIN}")


def _signature(value: Any) -> dict[str, str]:
    if value is None:
        raise VettingError(f"the model has no signature; {SIGN_AGAIN}")
    parts = _mapping(value, "the signature").items()
    texts = {key: text for key, text in parts if text is not None}
    if "inputs" not in texts or not all(isinstance(text, str) for text in texts.values()):
        raise VettingError(f"the signature has no inputs; {SIGN_AGAIN}")
    return texts


def _features(inputs: str) -> tuple[str, ...]:
    try:
        names = [column.get("name") for column in json.loads(inputs)]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise VettingError(
            f"the signature's inputs are not a list of columns; {SIGN_AGAIN}"
        ) from error
    if not names or not all(isinstance(name, str) for name in names):
        raise VettingError(f"the signature's columns have no names; {SIGN_AGAIN}")
    features = tuple(map(feature_of, names))
    if sorted(features) != sorted(FEATURES):
        missing = [name for name in FEATURES if name not in features]
        foreign = [name for name in features if name not in FEATURES]
        raise VettingError(
            f"the signature's columns are not the four features (missing: {shorten(missing)}; "
            f"foreign: {shorten(foreign)}); {FIT_AGAIN}"
        )
    return features

"""What a model directory says of itself: its `MLmodel`, read as data and believed in nothing."""

import contextlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import yaml

from iris_api.errors import IrisError, one_line
from iris_api.schema import FEATURES, feature_of

MAXIMUM_BYTES = 256 * 1024 * 1024
"""Largest model file, in bytes: several times a forest of 10 000 trees on the iris data set."""

MAXIMUM_MLMODEL_BYTES = 1024 * 1024
"""Largest MLmodel, in bytes; one with a signature takes about a kibibyte."""

ODD_SCALARS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What YAML's constructors raise for scalars that are not what their tag says: `!!bool maybe`."""

FORMATS = ("skops", "cloudpickle", "pickle", "joblib")

SIGN_AGAIN = "log the model again with a signature of " + ", ".join(FEATURES)
FIT_AGAIN = (
    f"rename the columns to {', '.join(FEATURES)}, fit again, "
    "and log the model with infer_signature of those rows"
)
"""Renaming them in the signature alone would only hide on what the estimator was fitted."""
LOG_AS_SKOPS = 'log the model again with mlflow.sklearn and serialization_format="skops"'
LOG_AGAIN = "log the model again with mlflow.sklearn.log_model"


class VettingError(IrisError):
    """A rejected model directory: one line that says why, and how to fix the model."""


@dataclass(frozen=True)
class Flavor:
    """What `MLmodel` says of the scikit-learn flavor, checked for type and place, not for truth."""

    model_file: str
    """The serialized estimator, as a path inside the directory."""
    serialization_format: str
    """One of `FORMATS`."""
    sklearn_version: str
    features: tuple[str, ...]
    """What the signature's input columns hold, in stored order: a permutation of `FEATURES`."""
    signature: dict[str, str]
    """The signature's parts (`inputs`, `outputs`, …), each JSON text."""


def read_flavor(directory: Path) -> Flavor:
    """Read the `MLmodel` of a model directory.

    Raises:
        VettingError: the model is none that this service can import.
    """
    document = _mapping(_read_mlmodel(directory), "the MLmodel file")
    flavors = _mapping(document.get("flavors"), "flavors in the MLmodel file")
    if "sklearn" not in flavors:
        names = ", ".join(one_line(name, 40) for name in list(flavors)[:5]) or "none"
        more = f" and {len(flavors) - 5} more" if len(flavors) > 5 else ""
        raise VettingError(f"the model has no sklearn flavor (it has: {names}{more}); {LOG_AGAIN}")
    sklearn = _mapping(flavors["sklearn"], "the sklearn flavor")
    _refuse_code(directory, document, flavors)
    model_file = _text(sklearn, "pickled_model")
    _refuse_other_loader(flavors.get("python_function"), model_file)
    with _open_model(directory, model_file):
        pass  # it is there, a plain file, and not too large
    # MLflow itself takes a missing format for pickle.
    serialization_format = _text(
        {"serialization_format": "pickle", **sklearn}, "serialization_format"
    )
    if model_file.endswith(".joblib"):
        serialization_format = "joblib"
    if serialization_format not in FORMATS:
        raise VettingError(
            f"the serialization format {one_line(serialization_format, 40)} is not known; "
            f"{LOG_AS_SKOPS}"
        )
    signature = _signature(document.get("signature"))
    return Flavor(
        model_file=model_file,
        serialization_format=serialization_format,
        sklearn_version=_text(sklearn, "sklearn_version"),
        features=_columns(signature["inputs"]),
        signature=signature,
    )


def read_model(directory: Path, model_file: str) -> bytes:
    """Read a model file once, all of it.

    Raises:
        VettingError: it is missing, too large, not a plain file, or not inside the directory.
    """
    with _open_model(directory, model_file) as file:
        return file.read()


def check_version(made_by: str) -> None:
    """Refuse an estimator of another minor version of scikit-learn.

    scikit-learn promises nothing for estimators of another version: one can open, predict, and be
    wrong, which no trial prediction shows. Only releases of the same minor version, which bring
    fixes and no new attributes, are accepted.

    Raises:
        VettingError: the two differ in more than the last number.
    """
    here = version("scikit-learn")
    if made_by.split(".")[:2] != here.split(".")[:2]:
        raise VettingError(
            f"the model was made by scikit-learn {one_line(made_by, 40)} and this is {here}, "
            f"which may read it wrongly; train and register it again with {here}"
        )


def _open_model(directory: Path, model_file: str) -> contextlib.AbstractContextManager[BinaryIO]:
    shown = one_line(model_file)
    parts = PurePosixPath(model_file).parts
    if not parts or parts[0] == "/" or ".." in parts or "\\" in model_file:
        raise VettingError(f"the model file {shown} is not inside the model's folder; {LOG_AGAIN}")
    path = directory
    for part in parts:
        path /= part
        if path.is_symlink():
            raise VettingError(f"the model file {shown} is behind a symbolic link; {LOG_AGAIN}")
    return _open(path, f"the model file {shown}", MAXIMUM_BYTES)


@contextlib.contextmanager
def _open(path: Path, name: str, limit: int) -> Iterator[BinaryIO]:
    try:
        # Neither follow a link nor wait for the writer of a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise VettingError(f"{name} is missing or unreadable; {LOG_AGAIN}") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise VettingError(f"{name} is not a plain file; {LOG_AGAIN}")
        if status.st_size > limit:
            raise VettingError(f"{name} is larger than {limit >> 20} MiB; register a smaller model")
        yield file


def _read_mlmodel(directory: Path) -> Any:
    with _open(directory / "MLmodel", "the MLmodel file", MAXIMUM_MLMODEL_BYTES) as file:
        data = file.read()
    try:
        return yaml.load(data, _Loader)  # noqa: S506 (it is a SafeLoader)
    except (yaml.YAMLError, RecursionError, *ODD_SCALARS) as error:
        raise VettingError(f"the MLmodel file is not valid YAML; {LOG_AGAIN}") from error


class _Loader(yaml.SafeLoader):
    """YAML without `<<`: a few merged merges are a mapping of 10^9 entries."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leave `<<` as a key, which is then refused like any value of an unknown kind."""


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise VettingError(f"{name} should be a mapping; {LOG_AGAIN}")
    return value


def _text(flavor: Mapping[str, Any], key: str, name: str = "sklearn") -> str:
    value = flavor.get(key)
    # Never written out: a few aliases of YAML can stand for a list of 10^9 words.
    if not isinstance(value, str):
        raise VettingError(f"{key} of the {name} flavor should be a string; {LOG_AGAIN}")
    return value


def _refuse_code(directory: Path, *sections: Mapping[str, Any]) -> None:
    named = [section for section in sections if isinstance(section, dict)]
    named += [flavor for flavor in sections[-1].values() if isinstance(flavor, dict)]
    keys = {"code", "code_path", "code_paths", "model_code_path"}
    if any(section.get(key) for section in named for key in keys) or os.path.lexists(
        directory / "code"
    ):
        raise VettingError(
            "the model brings its own Python code, which is never run here; "
            "log it again without code_paths"
        )


def _refuse_other_loader(flavor: Any, model_file: str) -> None:
    if flavor is None:
        return
    flavor = _mapping(flavor, "the python_function flavor")
    loader = _text(flavor, "loader_module", "python_function")
    if loader != "mlflow.sklearn":
        raise VettingError(
            f"the model is loaded by {one_line(loader, 80)} and not by mlflow.sklearn; {LOG_AGAIN}"
        )
    # The stored model can be opened with MLflow too: it must not find another file than this one.
    if flavor.get("model_path", model_file) != model_file:
        raise VettingError(f"the model's two flavors name different files; {LOG_AGAIN}")


def _signature(value: Any) -> dict[str, str]:
    if value is None:
        raise VettingError(f"the model has no signature; {SIGN_AGAIN}")
    parts = _mapping(value, "the signature")
    texts = {key: text for key, text in parts.items() if text is not None}
    if not isinstance(texts.get("inputs"), str) or not all(
        isinstance(text, str) for text in texts.values()
    ):
        raise VettingError(f"the signature has no inputs; {SIGN_AGAIN}")
    return texts


def _columns(inputs: str) -> tuple[str, ...]:
    try:
        columns = json.loads(inputs)
        names = [column.get("name") for column in columns]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise VettingError(
            f"the signature's inputs are not a list of columns; {SIGN_AGAIN}"
        ) from error
    if not names or not all(isinstance(name, str) for name in names):
        raise VettingError(f"the signature's columns have no names; {SIGN_AGAIN}")
    features = tuple(map(feature_of, names))
    missing = [name for name in FEATURES if name not in features]
    foreign = [one_line(name, 40) for name in features if name not in FEATURES]
    if missing or foreign or len(features) != len(FEATURES):
        raise VettingError(
            f"the signature's columns are not the four features (missing: "
            f"{', '.join(missing) or 'none'}; foreign: {', '.join(foreign[:5]) or 'none'}"
            f"{f' and {len(foreign) - 5} more' if len(foreign) > 5 else ''}); {FIT_AGAIN}"
        )
    return features

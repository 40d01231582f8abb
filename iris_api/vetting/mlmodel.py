"""The `MLmodel` of a model directory and the files beside it, read as untrusted data."""

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from iris_api.errors import IrisError, first_problem, one_line

MAXIMUM_BYTES = 256 * 1024 * 1024
"""Largest model file, in bytes: several times a forest of 10 000 trees on the iris data set."""

MAXIMUM_TEXT_BYTES = 1024 * 1024
"""Largest `MLmodel`, example and training profile, in bytes; each usually takes 1 to 5 KiB."""

SIGN_AGAIN = "log the model again with infer_signature of the rows that it was fitted on"
AS_SKOPS = (
    'serialization_format="skops" (MLflow 3.9 or later; autolog, too, writes cloudpickle unless '
    "it is given this)"
)
LOG_AS_SKOPS = f"log the model again with mlflow.sklearn and {AS_SKOPS}"
LOG_AGAIN = "log the model again with mlflow.sklearn.log_model"


class VettingError(IrisError):
    """A rejected model directory: one line that says why, and how to fix the model."""


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _MLmodel(_Part):
    flavors: dict[str, dict[str, Any]]
    signature: dict[str, str | None] | None = None


class _SklearnFlavor(_Part):
    pickled_model: str
    serialization_format: str = "pickle"  # as MLflow reads it
    sklearn_version: str


class _PythonFunction(_Part):
    loader_module: str
    model_path: str | None = None


@dataclass(frozen=True)
class Flavor:
    """The scikit-learn flavor in `MLmodel`: types are checked, claims are not."""

    model_file: str
    serialization_format: str  # skops, cloudpickle, pickle or joblib
    sklearn_version: str
    signature: dict[str, str]  # its parts, each JSON text


def read_flavor(directory: Path) -> Flavor:
    """Read the `MLmodel` of a model directory, or raise a VettingError."""
    content = _read_mlmodel(directory)
    try:
        document = _MLmodel.model_validate(content)
        flavors = document.flavors
        if "sklearn" not in flavors:
            raise VettingError(
                f"the model has no sklearn flavor (it has: {shorten(flavors)}); {LOG_AGAIN}"
            )
        sklearn = _SklearnFlavor.model_validate(flavors["sklearn"])
        if "python_function" in flavors:
            _check_loader(_PythonFunction.model_validate(flavors["python_function"]), sklearn)
    except ValidationError as error:
        # The message has no value: a few YAML aliases can stand for a list of 10^9 words.
        raise VettingError(
            f"the MLmodel file cannot be used: {first_problem(error)}; {LOG_AGAIN}"
        ) from None
    keys = ("code", "code_path", "code_paths", "model_code_path")
    named = any(part.get(key) for part in (content, flavors, *flavors.values()) for key in keys)
    if named or os.path.lexists(directory / "code"):
        raise VettingError(
            "the model brings its own Python code, which is never run here; "
            "log it again without code_paths"
        )
    joblib = sklearn.pickled_model.endswith(".joblib")
    format_ = "joblib" if joblib else sklearn.serialization_format
    # First, and together with the format, so that one new training fixes both.
    check_version(sklearn.sklearn_version, "" if format_ == "skops" else f" and {AS_SKOPS}")
    if format_ not in {"skops", "cloudpickle", "pickle", "joblib"}:
        raise VettingError(
            f"the serialization format {one_line(format_, 40)} is not known; {LOG_AS_SKOPS}"
        )
    signature = {key: text for key, text in (document.signature or {}).items() if text is not None}
    return Flavor(
        model_file=sklearn.pickled_model,
        serialization_format=format_,
        sklearn_version=sklearn.sklearn_version,
        signature=signature,
    )


def read_file(directory: Path, name: str, limit: int = MAXIMUM_BYTES) -> bytes:
    """Read a plain file of at most `limit` bytes by its path inside a model directory."""
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


def check_version(made_by: str, and_more: str = "") -> None:
    """Reject an estimator of another minor version of scikit-learn, and say how to train it again.

    Estimators are not compatible across minor versions: one can open, predict, and be wrong, which
    no trial prediction shows. Patch releases bring fixes and no new attributes.
    """
    here = version("scikit-learn")
    if made_by.split(".")[:2] != here.split(".")[:2]:
        raise VettingError(
            f"the model was made by scikit-learn {one_line(made_by, 40)} and this is {here}, "
            f"which may read it wrongly; train and register it again with {here}{and_more}"
        )


class _Loader(yaml.SafeLoader):
    """YAML without `<<`, because nested merges can make a mapping of 10^9 entries."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leave `<<` as a key, which no constructor knows."""


def _read_mlmodel(directory: Path) -> Any:
    data = read_file(directory, "MLmodel", MAXIMUM_TEXT_BYTES)
    try:
        return yaml.load(data, _Loader)  # noqa: S506 (it is a SafeLoader)
    except (
        *(yaml.YAMLError, RecursionError),
        # Scalars that do not fit their tag, such as `!!bool maybe`.
        *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    ) as error:
        raise VettingError(f"the MLmodel file is not valid YAML; {LOG_AGAIN}") from error


def _check_loader(flavor: _PythonFunction, sklearn: _SklearnFlavor) -> None:
    """Reject a model that MLflow, which can open the stored one as well, would read otherwise."""
    if flavor.loader_module != "mlflow.sklearn":
        raise VettingError(
            f"the model is loaded by {one_line(flavor.loader_module, 80)} and not by "
            f"mlflow.sklearn; {LOG_AGAIN}"
        )
    if flavor.model_path not in {None, sklearn.pickled_model}:
        raise VettingError(f"the model's two flavors name different files; {LOG_AGAIN}")

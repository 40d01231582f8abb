"""The way from an untrusted model directory to a fitted classifier or regressor."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError
from sklearn.linear_model._base import LinearClassifierMixin
from sklearn.utils.validation import check_is_fitted

from iris_api.errors import one_line
from iris_api.schema import Schema, Task, make_columns
from iris_api.vetting import integrity
from iris_api.vetting.archive import open_archive
from iris_api.vetting.columns import add_categories, read_columns, read_examples
from iris_api.vetting.mixed_tables.frames import answer_rows
from iris_api.vetting.mixed_tables.numeric_form import make_numeric
from iris_api.vetting.mlmodel import (
    LOG_AS_SKOPS,
    Flavor,
    VettingError,
    check_version,
    read_file,
    read_flavor,
)
from iris_api.vetting.pickle_conversion import convert_pickle
from iris_api.vetting.training_profile import TrainingProfile

MAXIMUM_CLASSES = 1000
"""Most classes; answers with probabilities grow with their number."""

MAXIMUM_LABEL = 100
"""Longest label, in characters; each row of an answer repeats one."""


@dataclass(frozen=True)
class Vetted:
    """A model that can be used."""

    estimator: Any  # fitted; the classes_ of a classifier are sorted
    predictor: Any  # what answers rows as the estimator does: itself, or by data frames
    numeric: Any  # what should answer the same, and is made of parts that take numbers alone
    schema: Schema
    features: tuple[str, ...]  # plain names of the columns, in the estimator's order
    signature: dict[str, str]  # its parts (inputs, outputs, …), each JSON text
    sklearn_version: str  # that the model was saved with
    profile: TrainingProfile | None
    examples: NDArray[np.float64]  # (n, columns), n >= 1, columns as `features`
    skops: bytes | None  # the file that a pickle was converted to


def vet(directory: Path, *, trust_pickle: bool) -> Vetted:
    """Open a model directory as the registry served it, without changing a file.

    With `trust_pickle` a pickle is converted in a process of its own, in place of being rejected.
    A model that must not be opened, or cannot be served, is a VettingError.
    """
    flavor = read_flavor(directory)
    skops = None
    if trust_pickle and flavor.serialization_format != "skops":
        skops = convert_pickle(directory, flavor)
    estimator = open_estimator(directory, flavor, skops)
    found = read_columns(flavor.signature, estimator)
    profile = TrainingProfile.read(directory)
    columns = make_columns(found, profile.ranges if profile else {})
    task: Task = "classifier" if is_classifier(estimator) else "regressor"
    labels = estimator.classes_.tolist() if task == "classifier" else None
    schema = Schema(columns=columns, task=task, labels=labels)
    if profile:
        profile.check(schema)
    texts = {place: name for place, (name, type_, _) in enumerate(found) if type_ == "string"}
    try:
        numeric, known = make_numeric(estimator, texts)
    except VettingError:
        raise
    except Exception as error:  # a crafted part raises anything
        raise VettingError(
            f"the model's parts do not fit each other ({type(error).__name__}: "
            f"{one_line(error, 160)}); train and register it again"
        ) from error
    schema = schema.model_copy(update={"columns": add_categories(columns, known.values())})
    plain_names = {column.name: column.plain_name for column in columns}
    features = tuple(plain_names[name] for name, _, _ in found)
    ordered = schema.in_order(features)
    examples = read_examples(directory, ordered, profile)
    predictor = answer_rows(estimator, ordered)
    _check_answers(estimator, predictor, examples)
    return Vetted(
        estimator=estimator,
        predictor=predictor,
        numeric=numeric,
        schema=schema,
        features=features,
        signature=flavor.signature,
        sklearn_version=flavor.sklearn_version,
        profile=profile,
        examples=examples,
        skops=skops,
    )


def open_estimator(directory: Path, flavor: Flavor, skops: bytes | None = None) -> Any:
    """Open the skops file of a model directory, or the one that its pickle was converted to."""
    if skops is None and flavor.serialization_format != "skops":
        raise VettingError(
            f"the model is a {flavor.serialization_format}, which can run any code when it is "
            f"opened; {LOG_AS_SKOPS}, or import it with --trust-pickle if you trust its author"
        )
    data = read_file(directory, flavor.model_file) if skops is None else skops
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator = open_archive(data)
        try:
            integrity.check(estimator)
        except Exception as error:  # a crafted part raises anything, also for want of memory
            raise VettingError(f"{one_line(error)}; train and register it again") from error
    for warning in caught:
        # MLmodel may claim any version; the estimators' own record decides.
        if isinstance(warning.message, InconsistentVersionWarning):
            check_version(str(warning.message.original_sklearn_version))
    _check_estimator(estimator)
    return estimator


def _check_estimator(estimator: Any) -> None:
    name = type(estimator).__name__
    last = getattr(estimator, "steps", None)
    shown = f"{name} that ends in {type(last[-1][1]).__name__}" if last else name
    try:
        predicts = isinstance(estimator, BaseEstimator) and (
            is_classifier(estimator) or is_regressor(estimator)
        )
        if not predicts:
            raise VettingError(
                f"the model is a {shown}, neither a classifier nor a regressor; register one of "
                "these"
            )
        check_is_fitted(estimator)
        classes = np.asarray(estimator.classes_) if is_classifier(estimator) else None
        # `read_columns` uses these; they are read here, because they may raise as well.
        estimator.n_features_in_, getattr(estimator, "feature_names_in_", None)
    except (NotFittedError, LookupError, TypeError, ValueError, AttributeError) as error:
        # A meta-estimator asks its parts, which a crafted one may lack.
        raise VettingError(f"the model is a {shown} that is not fitted; fit it first") from error
    if classes is not None:
        _check_classes(classes)


def _check_classes(classes: NDArray[Any]) -> None:
    labels = classes.tolist() if classes.ndim == 1 else [None]
    if not 2 <= len(labels) <= MAXIMUM_CLASSES or not (
        all(type(label) is bool for label in labels)
        or all(type(label) is int and -(2**63) <= label < 2**63 for label in labels)
        or all(type(label) is float and label.is_integer() for label in labels)
        # A lone surrogate, for example, is not printable and cannot be encoded as UTF-8.
        or all(
            type(label) is str and label.isprintable() and len(label) <= MAXIMUM_LABEL
            for label in labels
        )
    ):
        raise VettingError(
            "the model's classes are not one row of 2 to "
            f"{MAXIMUM_CLASSES} printable strings of up to {MAXIMUM_LABEL} characters, 64-bit "
            "integers, whole numbers or booleans; train it with such labels"
        )
    # scikit-learn sorts them, and finds labels in them by bisection.
    if labels != sorted(set(labels)):
        raise VettingError("the model's classes are not sorted and unique; train it again")


def _check_answers(estimator: Any, predictor: Any, rows: NDArray[np.float64]) -> None:
    """Reject an estimator whose parts or answers do not fit its task, by a few rows."""
    for part in integrity.reachable(estimator):
        if isinstance(part, LinearClassifierMixin) and "coef_" in vars(part):
            _check_coefficients(part)
    found: dict[str, NDArray[Any]] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for method in ("predict", "predict_proba", "decision_function"):
                if hasattr(predictor, method):
                    found[method] = np.asarray(getattr(predictor, method)(rows))
    except Exception as error:
        raise VettingError(
            f"the model does not answer a row of its example: {type(error).__name__}: "
            f"{one_line(error, 160)}; train one that does, on the columns of the signature alone"
        ) from error
    if is_classifier(estimator):
        _check_classes_of(np.asarray(estimator.classes_), found, rows)
    else:
        _check_numbers(found["predict"], "predictions", rows)
        if found["predict"].size != len(rows):
            raise VettingError(f"{integrity.SEVERAL_OUTPUTS}; train and register it again")


def _check_classes_of(
    classes: NDArray[Any], found: dict[str, NDArray[Any]], rows: NDArray[np.float64]
) -> None:
    """Reject answers, by their methods, that do not fit the classes."""
    if not np.isin(found["predict"], classes).all():
        raise VettingError("the model predicts labels that are not its classes; train it again")
    for method, name in (("predict_proba", "probabilities"), ("decision_function", "scores")):
        _check_numbers(found.get(method, np.zeros(())), name, rows)
    shape = found.get("predict_proba", np.zeros((len(rows), len(classes)))).shape
    if shape != (len(rows), len(classes)):
        raise VettingError(
            f"the model has {len(classes)} classes, and its probabilities for {len(rows)} rows "
            f"have the shape {shape}; train it again"
        )


def _check_numbers(numbers: NDArray[Any], name: str, rows: NDArray[np.float64]) -> None:
    if numbers.dtype.kind not in "fiu" or not np.isfinite(numbers).all():
        raise VettingError(
            f"the model gives {name} that are not finite numbers, for {rows[0].tolist()} or "
            "another row of its example; train it again on data of this kind"
        )


def _check_coefficients(part: Any) -> None:
    classes = len(part.classes_)
    expected = (1 if classes == 2 else classes, part.n_features_in_)
    shape = np.shape(part.coef_)
    fits = expected in (shape, (1, *shape))  # some have one row for two classes
    if not fits or np.size(part.intercept_) not in (1, expected[0]):
        raise VettingError(
            f"{type(part).__name__} has coefficients of the shape {shape} and "
            f"{np.size(part.intercept_)} intercepts for {classes} classes and {expected[1]} "
            "columns; train it again"
        )

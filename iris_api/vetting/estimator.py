"""Which serialized estimators may be opened, and how.

A model directory comes from a registry that others write to. It becomes a fitted classifier here,
or a refusal, without running any code that the directory brings or names.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, is_classifier
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError
from sklearn.utils.validation import check_is_fitted

from iris_api.errors import one_line
from iris_api.schema import feature_of
from iris_api.vetting import integrity
from iris_api.vetting.archive import open_archive
from iris_api.vetting.input_example import read_examples
from iris_api.vetting.mlmodel import (
    LOG_AS_SKOPS,
    SIGN_AGAIN,
    Flavor,
    VettingError,
    check_version,
    read_flavor,
    read_model,
)
from iris_api.vetting.pickles import convert_pickle
from iris_api.vetting.training_profile import TrainingProfile

MAXIMUM_CLASSES = 1000
"""Most classes; beyond that, answers with probabilities grow out of proportion."""


MAXIMUM_LABEL = 100
"""Longest label, in characters; each row of an answer repeats one."""


@dataclass(frozen=True)
class Vetted:
    """A model that may be used.

    Attributes:
        estimator: a fitted classifier with sorted labels in `classes_`.
        features: the columns of its rows, in its own order: a permutation of `FEATURES`.
        signature: the signature's parts (`inputs`, `outputs`, …), each JSON text.
        sklearn_version: the version of scikit-learn that the model was saved with.
        profile: the training profile, where the model came with one.
        examples: rows in centimetres, shape (n, 4) with n >= 1, in the order of `features`.
        skops: what a pickled estimator was converted to; None where it was skops already.
    """

    estimator: ClassifierMixin
    features: tuple[str, ...]
    signature: dict[str, str]
    sklearn_version: str
    profile: TrainingProfile | None
    examples: NDArray[np.float64]
    skops: bytes | None


def vet(directory: Path, *, trust_pickle: bool) -> Vetted:
    """Open a model directory, as the registry served it.

    Args:
        directory: what `mlflow.sklearn.log_model` wrote; it is only read.
        trust_pickle: convert a pickled estimator in a process of its own, instead of rejecting it.

    Raises:
        VettingError: the model must not be opened, or cannot be served.
    """
    flavor = read_flavor(directory)
    skops = None
    if trust_pickle and flavor.serialization_format != "skops":
        skops = convert_pickle(directory, flavor)
    estimator = open_estimator(directory, flavor, skops)
    return Vetted(
        estimator=estimator,
        features=flavor.features,
        signature=flavor.signature,
        sklearn_version=flavor.sklearn_version,
        profile=TrainingProfile.read(directory),
        examples=read_examples(directory, flavor.features),
        skops=skops,
    )


def open_estimator(directory: Path, flavor: Flavor, skops: bytes | None = None) -> ClassifierMixin:
    """Open the skops file of a model directory with this project's own list of trusted types.

    Args:
        directory: the model directory.
        flavor: from its `MLmodel`.
        skops: what a pickle was converted to, in the place of the directory's file.

    Raises:
        VettingError: the file is not skops, asks for more than is trusted, is damaged, or holds
            something other than a fitted classifier of the flavor's features.
    """
    if skops is None and flavor.serialization_format != "skops":
        raise VettingError(
            f"the model is a {flavor.serialization_format}, which can run any code when it is "
            f"opened; {LOG_AS_SKOPS}, or import it with --trust-pickle if you trust its author"
        )
    check_version(flavor.sklearn_version)
    data = read_model(directory, flavor.model_file) if skops is None else skops
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator = open_archive(data)
        try:
            integrity.check(estimator)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise VettingError(f"{one_line(error)}; train and register it again") from error
    for warning in caught:
        # MLmodel may say anything; the estimators' own record decides.
        if isinstance(warning.message, InconsistentVersionWarning):
            check_version(str(warning.message.original_sklearn_version))
    return _classifier(estimator, flavor.features)


def _classifier(estimator: Any, features: tuple[str, ...]) -> ClassifierMixin:
    name = type(estimator).__name__
    last = getattr(estimator, "steps", None)
    shown = f"{name} that ends in {type(last[-1][1]).__name__}" if last else name
    try:
        if not (isinstance(estimator, BaseEstimator) and is_classifier(estimator)):
            raise VettingError(f"the model is a {shown}, not a classifier; register a classifier")
        check_is_fitted(estimator)
        columns, classes = estimator.n_features_in_, np.asarray(estimator.classes_)
        # An array that was fitted on has no names; a pipeline asks its first step.
        named = np.asarray(getattr(estimator, "feature_names_in_", []), dtype=object).ravel()
    except (NotFittedError, LookupError, TypeError, ValueError, AttributeError) as error:
        # A meta-estimator asks its parts, and a crafted one may have none.
        raise VettingError(f"the model is a {shown} that is not fitted; fit it first") from error
    if columns != len(features):
        raise VettingError(
            f"the model was fitted on {one_line(columns, 40)} features and its signature has "
            f"{len(features)}; {SIGN_AGAIN}"
        )
    if named.size:
        _check_order(named.tolist(), features)
    labels = classes.tolist() if classes.ndim == 1 else [None]
    if not 2 <= len(labels) <= MAXIMUM_CLASSES or not (_are_numbers(labels) or _are_names(labels)):
        raise VettingError(
            "the model's classes are not one row of 2 to "
            f"{MAXIMUM_CLASSES} printable strings of up to {MAXIMUM_LABEL} characters or 64-bit "
            "numbers; train it with such labels"
        )
    # scikit-learn makes them so, and looks labels up by halving.
    if labels != sorted(set(labels)):
        raise VettingError("the model's classes are not sorted and unique; train it again")
    return estimator


def _check_order(columns: list[Any], features: tuple[str, ...]) -> None:
    """Refuse what was fitted on other columns than the signature names, or in another order.

    Each value goes to the estimator by its place in the signature: with two orders, every answer
    would be that of a mixed-up flower.
    """
    names = [column if isinstance(column, str) else "?" for column in columns]
    held = list(map(feature_of, names))
    if held == list(features):
        return
    same = sorted(held) == sorted(features)
    differs = "in another order than" if same else "which are not those of"
    shown = ", ".join(one_line(name, 40) for name in names[: len(features)])
    raise VettingError(
        f"the estimator was fitted on the columns {shown}, {differs} its signature; "
        "log it with infer_signature of the rows that it was fitted on"
    )


def _are_numbers(labels: list[Any]) -> bool:
    return all(type(label) is int and -(2**63) <= label < 2**63 for label in labels)


def _are_names(labels: list[Any]) -> bool:
    # A lone surrogate, for one, cannot be written as UTF-8.
    return all(
        type(label) is str and label.isprintable() and len(label) <= MAXIMUM_LABEL
        for label in labels
    )

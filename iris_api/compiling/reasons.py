"""The reasons why an estimator is not compiled, for those who trained it."""

from typing import Any

from iris_api.errors import IrisError


class NoConverterError(IrisError):
    """The reason why an estimator has no exact compiled form."""


_SEARCHES = "each answer compares the row with all training rows"
_ITERATES = "each answer is found step by step, until it changes little"

_KINDS = (
    ("GaussianProcess", "Gaussian processes have", _SEARCHES),
    ("KNeighbors RadiusNeighbors", "nearest neighbours has", _SEARCHES),
    ("KNNImputer", "imputing by nearest neighbours has", _SEARCHES),
    ("LabelPropagation", "label propagation has", _SEARCHES),
    ("LabelSpreading", "label spreading has", _SEARCHES),
    ("Isomap KernelPCA LocallyLinearEmbedding", "", _SEARCHES),
    ("DictionaryLearning LatentDirichletAllocation MiniBatchDictionaryLearning", "", _ITERATES),
    ("IterativeImputer MiniBatchNMF MiniBatchSparsePCA NMF SparseCoder SparsePCA", "", _ITERATES),
)
"""Beginnings of the names of classes without a converter, their usual name, and the reason."""


def no_converter(part: Any) -> NoConverterError:
    """Return the error for a part of a kind that has no converter."""
    name = type(part).__name__
    for beginnings, usual, reason in _KINDS:
        if name.startswith(tuple(beginnings.split())):
            return NoConverterError(f"{usual or f'{name} has'} no exact compiled form: {reason}")
    return NoConverterError(f"{name} has no exact compiled form")


def why_not(estimator: Any) -> str:
    """Return the beginning of a reason that concerns this one estimator, not its kind."""
    return f"this {type(estimator).__name__} has no exact compiled form"

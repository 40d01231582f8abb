"""The check of each object in an estimator: numbers that compiled code trusts, and unserved kinds.

A trusted type can still contain numbers that make a prediction read or write beyond an array. So
they are checked here, once, before the first prediction.
"""

from collections.abc import Iterator
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np
from scipy.interpolate import BSpline
from sklearn.base import BaseEstimator, OutlierMixin, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.ensemble._gb import BaseGradientBoosting
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.image import PatchExtractor
from sklearn.feature_extraction.text import _VectorizerMixin
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils.validation import check_array

from iris_api.vetting.compiled_code import CHECKS

SEVERAL_OUTPUTS = "the model predicts several outputs for a row, and one is served"

VECTORIZERS = (_VectorizerMixin, DictVectorizer, FeatureHasher, PatchExtractor)
"""Kinds that take no rows of numbers; they fill matrices by what their attributes say."""


def check(estimator: Any) -> None:
    """Check each object that can be reached from an estimator.

    Side effects that change no prediction: every `n_jobs` becomes None and every `verbose` becomes
    0, because a model must not decide how many processes the service starts or what it prints;
    transformers return arrays, unless a later one selects columns by name: data frames need pandas;
    callbacks of the training and results of searches are dropped; and isotonic regression gets its
    number of columns, which scikit-learn gives to all others.

    Raises:
        ValueError: Something is inconsistent or not served; the message names the class.
    """
    found = list(reachable(estimator))
    searches = [part for part in found if isinstance(part, BaseSearchCV)]
    for search in searches:
        vars(search).pop("cv_results_", None)  # has masked arrays, and no prediction needs it
    found = list(reachable(estimator)) if searches else found
    if any(isinstance(part, np.ndarray) and type(part) is not np.ndarray for part in found):
        # The checks of the numbers would not see those that a masked array hides.
        raise ValueError("the model has a masked array, or one of another unusual type")
    if any(isinstance(part, partial) and not _checks_numbers(part) for part in found):
        raise ValueError("the model has a function with arguments, which is not served")
    parts = [part for part in found if isinstance(part, BaseEstimator | BSpline)]
    if not any(map(selects_by_name, parts)):
        for part in parts:
            vars(part).pop("_sklearn_output_config", None)  # of set_output
    for part in parts:
        if isinstance(part, BaseEstimator):
            _check_estimator(part)
        _check_numbers(part)
    for part in parts:
        if isinstance(part, BaseGradientBoosting) and "estimators_" in vars(part):
            _check_initial_scores(part)


def reachable(root: Any) -> Iterator[Any]:
    """Yield each object once that containers, object arrays and attributes lead to."""
    seen: dict[int, Any] = {}
    stack = [root]
    while stack:
        part = stack.pop()
        if id(part) in seen:
            continue
        seen[id(part)] = part  # also keeps it alive, so that no id is used twice
        yield part
        if isinstance(part, dict):
            if isinstance(part.get("out"), np.ndarray | tuple | list):
                # A function could write into an array of the model after it was checked.
                raise ValueError("a function is given an array for its result")  # noqa: TRY004
            stack += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple | set):
            stack += part
        elif isinstance(part, np.ndarray):
            if part.size and not part.itemsize:
                # Any number of elements takes no memory: an endless loop.
                raise ValueError("an array has elements of no size")
            stack += np.asarray(part).flat if part.dtype == object else []
        elif isinstance(part, np.lib.npyio.NpzFile):
            raise ValueError("an archive stands in the place of an array")  # noqa: TRY004
        elif not isinstance(part, type | FunctionType | np.ufunc):
            stack += getattr(part, "__dict__", {}).values()


def _checks_numbers(function: Any) -> bool:
    """Return whether a function is the one that histogram boosting gives numbers to."""
    known = partial(check_array, dtype=[np.float64], ensure_all_finite=False)
    both = [(each.func, each.args, each.keywords, vars(each)) for each in (function, known)]
    return bool(both[0] == both[1])


def selects_by_name(part: Any) -> bool:
    """Return whether a part selects its columns by their names, and so needs a data frame."""
    return isinstance(part, ColumnTransformer) and "feature_names_in_" in vars(part)


def _check_estimator(estimator: Any) -> None:
    name, state = type(estimator).__name__, vars(estimator)
    # scikit-learn never does this. In a crafted file it could replace predict itself.
    if hidden := [key for key in state if callable(getattr(type(estimator), key, None))]:
        raise ValueError(f"{name} has an attribute that hides its method {min(hidden)}")
    for parameter, quiet in (("n_jobs", None), ("verbose", 0), ("_n_threads", 1)):
        if parameter in state:
            setattr(estimator, parameter, quiet)
    state.pop("_skl_callbacks", None)
    if isinstance(estimator, OutlierMixin):
        # Some give rows to compiled code without a check of their width.
        raise ValueError(f"{name} finds outliers, and predicts no labels")  # noqa: TRY004
    if isinstance(estimator, VECTORIZERS):
        raise ValueError(f"{name} takes texts, images or dictionaries, and rows are served")  # noqa: TRY004
    if state.get("_sklearn_output_config", {}).get("transform") not in (None, "default", "pandas"):
        raise ValueError(f"{name} returns data frames of another library than pandas")
    if isinstance(estimator, IsotonicRegression):
        estimator.n_features_in_ = 1
    outputs = 1 if name == "MLPClassifier" else state.get("n_outputs_", 1)  # that of its neurons
    label_type = str(state.get("y_type_"))  # of a LabelBinarizer
    if isinstance(state.get("classes_"), list) or outputs != 1 or "multilabel" in label_type:
        raise ValueError(SEVERAL_OUTPUTS)


def _check_numbers(part: Any) -> None:
    name, state = type(part).__name__, vars(part)
    for family, fitted, requirements in CHECKS:
        # Without the fitted attributes it is a template, which cannot predict.
        if isinstance(part, family) and not state.keys().isdisjoint(fitted):
            try:
                found = requirements(part)
                wrong = next((it for it in found if isinstance(it, str) or not it), None)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                raise ValueError(f"{name} lacks what a fitted one has") from error
            if wrong is not None:
                reason = wrong or "has indices or shapes that do not fit each other"
                raise ValueError(f"{name} {reason}")


def _check_initial_scores(estimator: Any) -> None:
    """Check the scores that trees add to, which another part predicts, checked as well by now."""
    name, first = type(estimator).__name__, type(estimator.init_).__name__
    row = np.zeros((1, estimator.n_features_in_), dtype=np.float32)
    try:
        scores = estimator._raw_predict_init(row)  # noqa: SLF001
    except Exception as error:  # whatever the part raises
        raise ValueError(f"{name} begins with a {first} that answers with an error") from error
    if scores.shape != (1, estimator.estimators_.shape[1]):
        of_others = "several outputs" if is_regressor(estimator) else "other classes"
        raise ValueError(f"{name} begins with a {first} of {of_others}")

"""The numeric form of an estimator of data frames: the same answers from a matrix of numbers.

Names of columns become places, and a text becomes its code: its place among the texts that the
encoders of its column know. So converters and the sampling of a proof need neither.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.calibration import _CalibratedClassifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    TargetEncoder,
)

from iris_api.errors import one_line
from iris_api.schema import MAXIMUM_CATEGORIES
from iris_api.vetting import integrity
from iris_api.vetting.mixed_tables.encoded_cells import (
    EncodedCells,
    ask_encoder,
    for_arrays,
    is_missing,
)
from iris_api.vetting.mixed_tables.texts import Flow, Flows, Text, check_texts, note_categories
from iris_api.vetting.mlmodel import SIGN_AGAIN, VettingError

ENCODERS = (OneHotEncoder, OrdinalEncoder, TargetEncoder)


def make_numeric(estimator: Any, texts: Mapping[int, str]) -> tuple[Any, dict[int, Text]]:
    """Return the numeric form of a fitted estimator, and what it knows of each column of texts.

    Args:
        estimator: It is not changed, and returned itself if it is of numbers alone.
        texts: The names of the columns of texts, by their places.

    Raises:
        VettingError: A text reaches a part that needs numbers.
    """
    found = {place: Text(name) for place, name in texts.items()}
    flows = {place: Flow(text) for place, text in found.items()}
    _convert(estimator, flows)  # finds the texts, which decides on their codes
    for text in found.values():
        check_texts(text)
    numeric, _ = _convert(estimator, flows)
    return numeric, found


def has_own_form(part: Any) -> bool:
    """Return whether a fitted part has a numeric form other than itself."""
    if isinstance(part, ColumnTransformer):
        return hasattr(part, "transformers_")
    if isinstance(part, BaseHistGradientBoosting):
        return getattr(part, "is_categorical_", None) is not None
    return isinstance(part, ENCODERS) and hasattr(part, "categories_")


def _convert(part: Any, flows: Flows) -> tuple[Any, Flows]:
    """Return the numeric form of a part, and the columns of texts that it returns."""
    for kinds, convert in _FORMS:
        if isinstance(part, kinds):
            return convert(part, flows)
    if not flows and not any(map(has_own_form, integrity.reachable(part))):
        return part, {}
    return _of_children(part, flows), {}


def _keep(part: Any, flows: Flows) -> tuple[Any, Flows]:
    return part, flows


def _of_children(part: Any, flows: Flows) -> Any:
    """Return a copy of a part whose fitted children are given the same rows."""
    names = [name for name in _CHILDREN if name in vars(part)]
    if type(part) in _FITTED_IN_PLACE:
        names.append("estimator")
    drawn = "estimators_features_" in vars(part) or getattr(part, "passthrough", False)
    if flows and (drawn or not names):
        name = next(iter(flows.values())).text.name
        raise VettingError(
            f"the texts of the column {name} reach {type(part).__name__}, which needs numbers "
            "here; encode them with OneHotEncoder or OrdinalEncoder in a ColumnTransformer"
        )
    return for_arrays(part, **{name: _each(getattr(part, name), flows) for name in names})


def _each(held: Any, flows: Flows) -> Any:
    if isinstance(held, list | tuple):
        return [_each(each, flows) for each in held]
    return held if isinstance(held, np.ndarray) else _convert(held, flows)[0]


def _of_pipeline(pipeline: Any, flows: Flows) -> tuple[Any, Flows]:
    steps = []
    for name, step in pipeline.steps:
        numeric, flows = _convert(step, flows)
        steps.append((name, numeric))
    return for_arrays(pipeline, steps=steps), flows


def _of_union(union: Any, flows: Flows) -> tuple[Any, Flows]:
    parts = [(name, *_convert(part, flows)) for name, part in union.transformer_list]
    for name, _, left in parts:
        if left:
            raise VettingError(f"the step {one_line(name, 40)} of a FeatureUnion returns texts")
    return for_arrays(union, transformer_list=[(name, part) for name, part, _ in parts]), {}


def _of_columns(transformer: Any, flows: Flows) -> tuple[Any, Flows]:
    steps, indices = [], {}
    found: dict[int, Flow] = {}
    for name, step, _ in transformer.transformers_:
        places = np.asarray(transformer._transformer_to_input_indices[name], dtype=np.int64)  # noqa: SLF001 (names become places here)
        given = {at: flows[place] for at, place in enumerate(places.tolist()) if place in flows}
        dropped = isinstance(step, str) and step == "drop"
        numeric, left = (step, {}) if dropped or not len(places) else _convert(step, given)
        start = transformer.output_indices_[name].start
        found |= {start + at: flow for at, flow in left.items()}
        steps.append((name, numeric, places))
        indices[name] = places
    attributes = {
        "transformers_": steps,
        "_transformer_to_input_indices": indices,
        "sparse_output_": False,
    }
    return for_arrays(transformer, **attributes), found


def _of_function(transformer: Any, flows: Flows) -> tuple[Any, Flows]:
    # The only partial function that vetting accepts checks that its input is an array of numbers.
    if transformer.func is None or isinstance(transformer.func, functools.partial):
        return for_arrays(transformer, func=None), flows
    return (_of_children(transformer, flows) if flows else transformer), {}


def _of_boosting(boosting: Any, flows: Flows) -> tuple[Any, Flows]:
    """Return a copy whose own first step, which encodes categories, is numeric."""
    if not has_own_form(boosting):
        return (_of_children(boosting, flows) if flows else boosting), {}
    numeric, left = _convert(boosting._preprocessor, flows)  # noqa: SLF001 (no public name)
    if left:
        _of_children(boosting, left)
    return for_arrays(boosting, _preprocessor=numeric), {}


def _of_imputer(imputer: Any, flows: Flows) -> tuple[Any, Flows]:
    """Return a copy that imputes codes, and the texts that go on."""
    statistics = np.array(imputer.statistics_, dtype=object)
    marker = imputer.missing_values
    kept, going_on = 0, {}
    for place, fill in enumerate(statistics.tolist()):
        is_kept = imputer.keep_empty_features or not is_missing(fill)
        if (flow := flows.get(place)) is not None:
            text = flow.text
            if marker is None:
                text.missing = None
            if isinstance(fill, str):
                text.fills.append(fill)
                statistics[place] = text.codes[fill]
            if is_kept:
                going_on[kept] = Flow(text, flow.may_miss and not is_missing(marker))
        kept += is_kept
    if flows and isinstance(marker, str):
        raise VettingError(
            "a SimpleImputer takes a text for a missing value; give it missing_values=np.nan, and "
            "rows with missing values"
        )
    indicator = imputer.indicator_
    number = math.nan if is_missing(marker) else marker
    if indicator is not None:
        indicator = for_arrays(indicator, missing_values=number)
    numeric = for_arrays(
        imputer,
        statistics_=statistics.astype(np.float64),
        missing_values=number,
        indicator_=indicator,
        _fit_dtype=np.dtype(np.float64),
        _fill_dtype=np.dtype(np.float64),
    )
    return numeric, going_on


def _of_encoder(encoder: Any, flows: Flows) -> tuple[Any, Flows]:
    tables = []
    for place, categories in enumerate(encoder.categories_):
        if len(categories) > MAXIMUM_CATEGORIES:
            raise VettingError(
                f"a {type(encoder).__name__} has {len(categories)} categories of a column, and "
                f"{MAXIMUM_CATEGORIES} are possible; join rare ones before the model is fitted"
            )
        known = [each for each in categories.tolist() if not is_missing(each)]
        missing: float | None = math.nan
        if (flow := flows.get(place)) is not None:
            note_categories(flow, encoder, categories.tolist())
            codes, missing = flow.text.codes, flow.text.missing
            points = [codes[text] for text in known]
        elif any(isinstance(each, str) for each in known):
            raise VettingError(
                f"a {type(encoder).__name__} knows texts where the signature has numbers; "
                f"{SIGN_AGAIN}"
            )
        else:
            points = [float(each) for each in known]
        tables.append(ask_encoder(encoder, place, points, missing))
    return EncodedCells(tables), {}


_CHILDREN = (
    "best_estimator_",
    "calibrated_classifiers_",
    "estimator_",
    "estimators_",
    "regressor_",
)
"""Attributes with the fitted parts that are given the same rows as the whole."""

_FITTED_IN_PLACE = (FrozenEstimator, _CalibratedClassifier)
"""Kinds whose parameter `estimator` is fitted."""

_FORMS: tuple[tuple[Any, Callable[[Any, Flows], tuple[Any, Flows]]], ...] = (
    ((str, type(None)), _keep),
    (Pipeline, _of_pipeline),
    (FeatureUnion, _of_union),
    (ColumnTransformer, _of_columns),
    (FunctionTransformer, _of_function),
    (SimpleImputer, _of_imputer),
    (BaseHistGradientBoosting, _of_boosting),
    (ENCODERS, _of_encoder),
)

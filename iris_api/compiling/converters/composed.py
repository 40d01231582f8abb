"""Converters of pipelines, and of what else passes rows through other estimators."""

from typing import Any

import numpy as np
from sklearn import (
    compose,
    ensemble,
    feature_selection,
    frozen,
    linear_model,
    model_selection,
    pipeline,
    preprocessing,
    semi_supervised,
)

from iris_api.compiling.converters.committees import (
    convert_team,
    probabilities_of,
    scores_of,
    votes,
)
from iris_api.compiling.graph import Answer, Graph
from iris_api.compiling.reasons import NoConverterError


def _end_of(graph: Graph, estimator: Any, rows: str) -> tuple[Any, str]:
    """Return the estimator that answers for another one, and the rows that it is given."""
    if isinstance(estimator, pipeline.Pipeline):
        for _, step in estimator.steps[:-1]:
            rows = graph.transform(step, rows)
        return estimator.steps[-1][1], rows
    if isinstance(estimator, feature_selection.RFE):
        return estimator.estimator_, graph.transform(estimator, rows)
    for name in ("best_estimator_", "estimator_"):
        if hasattr(estimator, name):
            return getattr(estimator, name), rows
    return estimator.estimator, rows


def _answer_at_end(graph: Graph, classifier: Any, rows: str) -> Answer:
    return graph.answer(*_end_of(graph, classifier, rows))


def _predict_at_end(graph: Graph, regressor: Any, rows: str) -> str:
    return graph.predict(*_end_of(graph, regressor, rows))


def _convert_stacking(graph: Graph, classifier: Any, rows: str) -> Answer:
    columns = []
    methods = [method for method in classifier.stack_method_ if method is not None]
    for part, method in zip(classifier.estimators_, methods, strict=True):
        answer = graph.answer(part, rows)
        if method == "decision_function":
            columns.append(scores_of(part, answer))
        elif method == "predict":
            places = graph.op("Unsqueeze", answer.index, np.array([1]))
            labels = np.asarray(part.classes_, dtype=np.float64)
            columns.append(graph.op("Gather", labels, places))
        else:
            both = probabilities_of(part, answer)
            two = len(classifier.classes_) == 2
            columns.append(graph.columns(both, [1]) if two else both)
    columns += [rows] if classifier.passthrough else []
    return graph.answer(classifier.final_estimator_, graph.beside(*columns))


def _predict_stacked(graph: Graph, regressor: Any, rows: str) -> str:
    columns = [graph.predict(part, rows) for part in regressor.estimators_]
    columns += [rows] if regressor.passthrough else []
    return graph.predict(regressor.final_estimator_, graph.beside(*columns))


def _convert_voting(graph: Graph, classifier: Any, rows: str) -> Answer:
    parts, classes = classifier.estimators_, len(classifier.classes_)
    weights = classifier._weights_not_none  # noqa: SLF001 (leaves out what was dropped)
    if classifier.voting == "hard":
        given = np.ones(len(parts)) if weights is None else np.asarray(weights)
        team = convert_team(graph, parts, rows)
        return Answer(graph.highest(votes(graph, team.index, classes, given, given * 0.0)))
    answers = [graph.answer(part, rows) for part in parts]
    each = [probabilities_of(*pair) for pair in zip(parts, answers, strict=True)]
    probabilities = _average(graph, each, weights)
    return Answer(graph.highest(probabilities), probabilities)


def _average(graph: Graph, each: list[str], weights: list[float] | None) -> str:
    """Return the mean, by weights if there are any."""
    if weights is None:
        return graph.op("Div", graph.total(*each), float(len(each)))
    pairs = zip(each, weights, strict=True)
    weighted = [graph.op("Mul", part, float(weight)) for part, weight in pairs]
    return graph.op("Div", graph.total(*weighted), float(np.sum(weights)))


def _predict_mean(graph: Graph, regressor: Any, rows: str) -> str:
    parts = regressor.estimators_
    drawn = getattr(
        regressor, "estimators_features_", [range(regressor.n_features_in_)] * len(parts)
    )
    width = regressor.n_features_in_
    pairs = zip(parts, drawn, strict=True)
    each = [graph.predict(part, graph.columns(rows, places, width)) for part, places in pairs]
    weights = getattr(regressor, "_weights_not_none", None)
    return _average(graph, each, weights)


def _convert_threshold(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert a classifier of two classes with a threshold of its own."""
    inner = getattr(classifier, "estimator_", classifier.estimator)
    answer = graph.answer(inner, rows)
    by_scores = classifier.response_method == "decision_function" or (
        classifier.response_method == "auto" and not hasattr(inner, "predict_proba")
    )
    tuned = hasattr(classifier, "best_threshold_")
    label = classifier._curve_scorer._get_pos_label() if tuned else classifier.pos_label  # noqa: SLF001
    second = label is None or label == classifier.classes_[1]
    if by_scores:
        score = scores_of(inner, answer)
        score = score if second else graph.op("Neg", score)
    else:
        score = graph.columns(probabilities_of(inner, answer), [int(second)])
    limit = classifier.best_threshold_ if tuned else classifier.threshold
    if limit == "auto":
        limit = 0.0 if by_scores else 0.5
    index = graph.above(score, float(limit), "GreaterOrEqual")
    index = index if second else graph.op("Sub", np.array(1), index)
    return Answer(index, answer.probabilities, answer.scores)


def _predict_transformed(graph: Graph, regressor: Any, rows: str) -> str:
    """Convert a regressor of a target that was transformed, and transform its prediction back."""
    prediction = graph.predict(regressor.regressor_, rows)
    transformer = regressor.transformer_
    if isinstance(transformer, preprocessing.StandardScaler):
        grown = graph.op("Mul", prediction, transformer.scale_)
        return graph.op("Add", grown, transformer.mean_)
    function = getattr(transformer, "inverse_func", transformer)
    if function is None:
        return prediction
    if function is np.expm1:
        return graph.op("Sub", graph.op("Exp", prediction), 1.0)
    if function is np.exp:
        return graph.op("Exp", prediction)
    if function is np.square:
        return graph.op("Mul", prediction, prediction)
    raise NoConverterError("a target transformed by a function of its own cannot be compiled")


def _convert_steps(graph: Graph, steps: Any, rows: str) -> str:
    for _, step in steps.steps:
        rows = graph.transform(step, rows)
    return rows


def _convert_union(graph: Graph, union: Any, rows: str) -> str:
    each = [(name, step, rows) for name, step in union.transformer_list if step != "drop"]
    return _beside(graph, union, each)


def _convert_columns(graph: Graph, transformer: Any, rows: str) -> str:
    places = transformer._transformer_to_input_indices  # noqa: SLF001 (names become places here)
    width = transformer.n_features_in_
    each = [
        (name, step, graph.columns(rows, places[name], width))
        for name, step, _ in transformer.transformers_
        if step != "drop" and len(places[name])
    ]
    return _beside(graph, transformer, each)


def _beside(graph: Graph, whole: Any, each: list[tuple[str, Any, str]]) -> str:
    """Return what steps make of their rows side by side, each by its weight if there is one."""
    parts = []
    for name, step, rows in each:
        part = graph.transform(step, rows)
        weight = (whole.transformer_weights or {}).get(name)
        parts.append(part if weight is None else graph.op("Mul", part, float(weight)))
    return graph.beside(*parts)


_PASSING = (
    feature_selection.RFE,
    feature_selection.RFECV,
    frozen.FrozenEstimator,
    model_selection.GridSearchCV,
    model_selection.RandomizedSearchCV,
    pipeline.Pipeline,
)

CLASSIFIERS = {
    **dict.fromkeys(_PASSING, _answer_at_end),
    ensemble.StackingClassifier: _convert_stacking,
    ensemble.VotingClassifier: _convert_voting,
    model_selection.FixedThresholdClassifier: _convert_threshold,
    model_selection.TunedThresholdClassifierCV: _convert_threshold,
    semi_supervised.SelfTrainingClassifier: _answer_at_end,
}

REGRESSORS = {
    **dict.fromkeys(_PASSING, _predict_at_end),
    compose.TransformedTargetRegressor: _predict_transformed,
    ensemble.BaggingRegressor: _predict_mean,
    ensemble.StackingRegressor: _predict_stacked,
    ensemble.VotingRegressor: _predict_mean,
    linear_model.RANSACRegressor: _predict_at_end,
}

TRANSFORMERS = {
    compose.ColumnTransformer: _convert_columns,
    pipeline.FeatureUnion: _convert_union,
    pipeline.Pipeline: _convert_steps,
}

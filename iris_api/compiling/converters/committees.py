"""Converters of estimators that ask several others of one kind, and of calibrated ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn import calibration, ensemble, isotonic, multiclass

from iris_api.compiling.converters import tree_ensembles
from iris_api.compiling.converters.kernels import pair_sides, score_pairs
from iris_api.compiling.converters.likelihoods import nearest
from iris_api.compiling.converters.transformers import interpolate
from iris_api.compiling.graph import Answer, Graph
from iris_api.compiling.reasons import NoConverterError


def scores_of(classifier: Any, answer: Answer) -> str:
    """Return the scores of a classifier that has `decision_function`."""
    if answer.scores is None:
        raise NoConverterError(
            f"the scores of {type(classifier).__name__} have no exact compiled form"
        )
    return answer.scores


def probabilities_of(classifier: Any, answer: Answer) -> str:
    """Return the probabilities of a classifier."""
    if answer.probabilities is None:
        raise NoConverterError(f"{type(classifier).__name__} has no probabilities")
    return answer.probabilities


def convert_team(graph: Graph, parts: Sequence[Any], rows: str) -> Answer:
    """Convert several classifiers of the same classes; the results are (n, parts, …)."""
    together = graph.converters.teams.get(type(parts[0]))
    if together and len({_kind(part) for part in parts}) == 1:
        return together(graph, list(parts), rows)
    answers = [graph.answer(part, rows) for part in parts]
    return Answer(
        index=graph.beside(
            *(graph.op("Reshape", each.index, np.array([-1, 1])) for each in answers)
        ),
        probabilities=_together(graph, [answer.probabilities for answer in answers]),
        scores=_together(graph, [answer.scores for answer in answers]),
    )


def _kind(classifier: Any) -> tuple[type, int, str]:
    """Return what classifiers have in common that are converted by one formula."""
    parameters = {**classifier.get_params(), "random_state": None}
    return type(classifier), len(classifier.classes_), repr(parameters)


def _together(graph: Graph, results: list[str | None]) -> str | None:
    """Return results, (n, …), of several classifiers as (n, classifiers, …), if all have them."""
    known = [result for result in results if result is not None]
    if len(known) < len(results):
        return None
    return graph.op("Reshape", graph.beside(*known), np.array([0, len(known), -1]))


def _confidences(graph: Graph, parts: Sequence[Any], team: Answer) -> str:
    """Return how much each classifier of two classes is for the second one, (n, parts)."""
    if all(map(_has_scores, parts)):
        each = scores_of(parts[0], team)
    elif not any(map(_has_scores, parts)):
        each = graph.columns(probabilities_of(parts[0], team), [1])
    else:
        raise NoConverterError("parts with scores and parts without have no exact compiled form")
    return graph.op("Squeeze", each, np.array([-1]))


def _has_scores(classifier: Any) -> bool:
    return hasattr(classifier, "decision_function")


def _threshold(classifier: Any) -> float:
    return 0.0 if _has_scores(classifier) else 0.5


def _one_against_rest(graph: Graph, classifier: Any, rows: str) -> Answer:
    parts = classifier.estimators_
    team = convert_team(graph, parts, rows)
    trust = _confidences(graph, parts, team)
    several = len(parts) > 1
    index = graph.highest(trust) if several else graph.above(trust, _threshold(parts[0]))
    probabilities = None
    if team.probabilities is not None:
        second = graph.columns(team.probabilities, [1])
        each = graph.op("Squeeze", second, np.array([-1]))
        shares = each if several else graph.two(each)
        probabilities = graph.shares(shares, shares)
    return Answer(index, probabilities, trust if all(map(_has_scores, parts)) else None)


def _one_against_one(graph: Graph, classifier: Any, rows: str) -> Answer:
    parts, classes = classifier.estimators_, len(classifier.classes_)
    if classifier.pairwise_indices_ is not None:
        raise NoConverterError("one against one by distances has no exact compiled form")
    team = convert_team(graph, parts, rows)
    trust = _confidences(graph, parts, team)
    scores = score_pairs(graph, trust, graph.cast(team.index), pair_sides(classes))
    if classes > 2:
        return Answer(graph.highest(scores), None, scores)
    score = graph.columns(scores, [1])
    return Answer(graph.above(score, _threshold(parts[0])), None, score)


def _output_code(graph: Graph, classifier: Any, rows: str) -> Answer:
    trust = [_confidence(graph, part, rows) for part in classifier.estimators_]
    return Answer(nearest(graph, graph.beside(*trust), classifier.code_book_))


def _confidence(graph: Graph, part: Any, rows: str) -> str:
    """Return how much a classifier of two classes is for the second one, (n, 1)."""
    if isinstance(part, multiclass._ConstantPredictor):  # noqa: SLF001 (of a single class)
        return graph.repeat(np.asarray(part.y_, dtype=np.float64).ravel(), rows)
    answer = graph.answer(part, rows)
    if _has_scores(part):
        return scores_of(part, answer)
    return graph.columns(probabilities_of(part, answer), [1])


def votes(graph: Graph, indices: str, classes: int, given: Any, otherwise: Any) -> str:
    """Add up what each index, (n, parts), gives to its class, and to the others, (n, k)."""
    chosen = graph.op("Equal", graph.op("Unsqueeze", indices, np.array([2])), np.arange(classes))
    values = (np.asarray(vote, dtype=np.float64).reshape(-1, 1) for vote in (given, otherwise))
    return graph.sum_columns(graph.op("Where", chosen, *values), 1, keep=False)


def _mean(graph: Graph, results: str, parts: int) -> str:
    """Return the mean of what a team computes, (n, parts, …)."""
    return graph.op("Div", graph.sum_columns(results, 1, keep=False), float(parts))


def _bagging(graph: Graph, classifier: Any, rows: str) -> Answer:
    if tree_ensembles.of_trees(classifier):
        return tree_ensembles.convert_bagged_trees(graph, classifier, rows)
    classes, parts = len(classifier.classes_), classifier.estimators_
    if any(len(part.classes_) != classes for part in parts):
        raise NoConverterError("bagging whose parts saw fewer classes has no exact compiled form")
    every = np.arange(classifier.n_features_in_)
    if not all(np.array_equal(drawn, every) for drawn in classifier.estimators_features_):
        raise NoConverterError(
            "bagging of parts of the features is compiled for decision trees alone"
        )
    team = convert_team(graph, parts, rows)
    if all(hasattr(part, "predict_proba") for part in parts):
        probabilities = _mean(graph, probabilities_of(parts[0], team), len(parts))
    else:
        chosen = votes(graph, team.index, classes, np.ones(len(parts)), np.zeros(len(parts)))
        probabilities = graph.op("Div", chosen, float(len(parts)))
    scores = None if team.scores is None else _mean(graph, team.scores, len(parts))
    return Answer(graph.highest(probabilities), probabilities, scores)


def _ada_boost(graph: Graph, classifier: Any, rows: str) -> Answer:
    if tree_ensembles.of_trees(classifier):
        return tree_ensembles.convert_boosted_trees(graph, classifier, rows)
    parts, classes = classifier.estimators_, len(classifier.classes_)
    if any(not np.array_equal(part.classes_, classifier.classes_) for part in parts):
        raise NoConverterError("AdaBoost whose parts saw fewer classes has no exact compiled form")
    team = convert_team(graph, parts, rows)
    weights = classifier.estimator_weights_[: len(parts)]
    sums = votes(graph, team.index, classes, weights, -1 / (classes - 1) * weights)
    sums = sums if classes > 2 else graph.columns(sums, [1])
    return tree_ensembles.ada_boost(graph, classifier, sums)


def _calibrated(graph: Graph, classifier: Any, rows: str) -> Answer:
    parts = classifier.calibrated_classifiers_
    inner, classes = parts[0].estimator, len(classifier.classes_)
    if any(len(part.estimator.classes_) != classes for part in parts):
        raise NoConverterError("calibration of fewer classes has no exact compiled form")
    methods = {"isotonic": _isotonic, "sigmoid": _sigmoid}
    if parts[0].method not in methods:
        # scikit-learn takes scores for probabilities where all rows of a call look like some, so
        # that the answer for a row depends on the others.
        raise NoConverterError(
            "temperature scaling has no exact compiled form; use sigmoid calibration"
        )
    team = convert_team(graph, [part.estimator for part in parts], rows)
    by_scores = _has_scores(inner)
    response = scores_of(inner, team) if by_scores else probabilities_of(inner, team)
    if classes == 2 and not by_scores:
        response = graph.columns(response, [1])
    each = methods[parts[0].method](graph, parts, response)
    each = graph.two(each) if classes == 2 else graph.shares(each, 1 / classes)
    probabilities = _mean(graph, each, len(parts))
    return Answer(graph.highest(probabilities), probabilities)


def _sigmoid(graph: Graph, parts: list[Any], response: str) -> str:
    """Put each column through a logistic curve of its own."""
    curves = [[(each.a_, each.b_) for each in part.calibrators] for part in parts]
    slopes, offsets = np.moveaxis(np.array(curves), 2, 0)
    straight = graph.op("Add", graph.op("Mul", response, slopes), offsets)
    return graph.sigmoid(straight, negated=True)


def _isotonic(graph: Graph, parts: list[Any], response: str) -> str:
    """Interpolate between the thresholds of isotonic regressions, one a column."""
    regressions = [each for part in parts for each in part.calibrators]
    if any(each.X_thresholds_.dtype != np.float64 for each in regressions):
        raise NoConverterError(
            "isotonic calibration that was trained on float32 has no exact compiled form"
        )
    flat = graph.op("Reshape", response, np.array([-1, len(regressions)]))
    lowest = np.array([each.X_min_ for each in regressions])
    highest = np.array([each.X_max_ for each in regressions])
    clipped = graph.op("Min", graph.op("Max", flat, lowest), highest)
    curves = [(each.X_thresholds_, each.y_thresholds_) for each in regressions]
    found = graph.op("Min", interpolate(graph, clipped, curves), 1.0)
    return graph.op("Reshape", found, np.array([0, len(parts), -1]))


def _predict_isotonic(graph: Graph, regression: Any, rows: str) -> str:
    places, bounds = regression.X_thresholds_, regression.out_of_bounds
    if places.dtype != np.float64 or bounds == "raise":
        raise NoConverterError("isotonic regression of float32 or that raises is not compiled")
    low, high = float(regression.X_min_), float(regression.X_max_)
    clipped = graph.op("Min", graph.op("Max", rows, low), high)
    found = interpolate(graph, clipped, [(places, regression.y_thresholds_)])
    if bounds == "clip":
        return found
    return graph.op("Where", graph.op("Equal", rows, clipped), found, np.nan)


def _predict_boosted(graph: Graph, regressor: Any, rows: str) -> str:
    """Convert AdaBoost, which predicts the median of its parts by their weights."""
    parts = regressor.estimators_
    if tree_ensembles.of_trees(regressor):
        each = tree_ensembles.predict_each(graph, parts, rows)
    else:
        each = graph.beside(*(graph.predict(part, rows) for part in parts))
    ordered, places = graph.sort(each, len(parts))
    weights = graph.op("Gather", regressor.estimator_weights_[: len(parts)], places)
    sums = graph.op("CumSum", weights, np.array(1))
    half = graph.op("Mul", graph.columns(sums, [-1]), 0.5)
    enough = graph.cast(graph.op("GreaterOrEqual", sums, half))
    first = graph.op("ArgMax", enough, axis=1)
    return graph.op("GatherElements", ordered, first, axis=1)


CLASSIFIERS = {
    calibration.CalibratedClassifierCV: _calibrated,
    ensemble.AdaBoostClassifier: _ada_boost,
    ensemble.BaggingClassifier: _bagging,
    multiclass.OneVsOneClassifier: _one_against_one,
    multiclass.OneVsRestClassifier: _one_against_rest,
    multiclass.OutputCodeClassifier: _output_code,
}

REGRESSORS = {
    ensemble.AdaBoostRegressor: _predict_boosted,
    isotonic.IsotonicRegression: _predict_isotonic,
}

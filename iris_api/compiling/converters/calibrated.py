"""Converters of calibrated classifiers."""

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.pipeline import Pipeline

from iris_api.compiling.converters.composed import (
    convert_team,
    has_scores,
    probabilities_of,
    scores_of,
)
from iris_api.compiling.converters.graph import Answer, Graph, NoConverterError
from iris_api.compiling.converters.piecewise import interpolate


def convert_calibrated(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert the mean of calibrated classifiers."""
    parts = classifier.calibrated_classifiers_
    inner, classes = parts[0].estimator, len(classifier.classes_)
    if any(len(part.estimator.classes_) != classes for part in parts):
        raise NoConverterError("calibration of fewer classes has no exact compiled form")
    team = convert_team(graph, [part.estimator for part in parts], rows)
    by_scores = has_scores(inner)
    response = scores_of(inner, team) if by_scores else probabilities_of(inner, team)
    if classes == 2 and not by_scores:
        response = graph.columns(response, [1])
    calibrated = _METHODS[parts[0].method](graph, parts, response, by_scores)
    total = graph.sum_columns(calibrated, 1, keep=False)
    probabilities = graph.op("Div", total, float(len(parts)))
    return Answer(graph.highest(probabilities), probabilities)


def _sigmoid(graph: Graph, parts: list[Any], response: str, _: bool) -> str:
    """Put each column through a logistic curve of its own."""
    curves = [[(each.a_, each.b_) for each in part.calibrators] for part in parts]
    slopes, offsets = np.moveaxis(np.array(curves), 2, 0)
    straight = graph.op("Add", graph.op("Mul", response, slopes), offsets)
    return _normalized(graph, graph.sigmoid(graph.op("Neg", straight)), parts)


def _isotonic(graph: Graph, parts: list[Any], response: str, _: bool) -> str:
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
    return _normalized(graph, graph.op("Reshape", found, np.array([0, len(parts), -1])), parts)


def _normalized(graph: Graph, calibrated: str, parts: list[Any]) -> str:
    """Make probabilities of what was calibrated class by class."""
    classes = len(parts[0].classes)
    return graph.two(calibrated) if classes == 2 else graph.shares(calibrated, 1 / classes)


def _temperature(graph: Graph, parts: list[Any], response: str, by_scores: bool) -> str:
    """Scale scores, or the logarithms of probabilities, by an inverse temperature."""
    two = len(parts[0].classes) == 2
    if not by_scores:
        probabilities = graph.two(response) if two else response
        logits = graph.op("Log", graph.op("Add", probabilities, 1e-12))
    elif two:
        logits = graph.beside(graph.op("Neg", response), response)
    elif all(_sum_up_to_nothing(part.estimator) for part in parts):
        logits = response
    else:
        # scikit-learn takes scores for probabilities where all rows of a call look like some, so
        # that the answer for a row depends on the others.
        raise NoConverterError(
            "temperature scaling of these scores has no exact compiled form; "
            "use sigmoid calibration"
        )
    betas = np.array([float(part.calibrators[0].beta_) for part in parts])
    return graph.op("Softmax", graph.op("Mul", logits, betas[:, np.newaxis]), axis=-1)


_METHODS = {"isotonic": _isotonic, "sigmoid": _sigmoid, "temperature": _temperature}


def _sum_up_to_nothing(classifier: Any) -> bool:
    """Tell whether a row's scores never add up to 1, as probabilities do."""
    if isinstance(classifier, Pipeline):
        return _sum_up_to_nothing(classifier.steps[-1][1])
    if not isinstance(classifier, LogisticRegression | LogisticRegressionCV):
        return False
    sums = np.abs(np.append(classifier.coef_.sum(axis=0), classifier.intercept_.sum()))
    return bool((sums < 1e-6).all())

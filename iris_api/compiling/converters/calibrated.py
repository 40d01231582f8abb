"""Converters of calibrated classifiers."""

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.pipeline import Pipeline

from iris_api.compiling.converters.composed import (
    has_scores,
    probabilities_of,
    scores_of,
)
from iris_api.compiling.converters.graph import Answer, Graph, NoConverterError
from iris_api.compiling.converters.steps import interpolate


def convert_calibrated(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert the mean of calibrated classifiers."""
    parts = classifier.calibrated_classifiers_
    each = [_calibrate(graph, part, rows) for part in parts]
    probabilities = graph.op("Div", graph.total(*each), float(len(parts)))
    return Answer(graph.highest(probabilities), probabilities)


def _calibrate(graph: Graph, part: Any, rows: str) -> str:
    """Return the probabilities of one calibrated classifier, (n, k)."""
    inner, classes = part.estimator, len(part.classes)
    answer = graph.answer(inner, rows)
    by_scores = has_scores(inner)
    response = scores_of(inner, answer) if by_scores else probabilities_of(inner, answer)
    if part.method == "temperature":
        return _cool(graph, part, response, by_scores=by_scores)
    if classes == 2 and not by_scores:
        response = graph.columns(response, [1])
    if part.method == "sigmoid":
        slopes = np.array([each.a_ for each in part.calibrators])
        offsets = np.array([each.b_ for each in part.calibrators])
        straight = graph.op("Add", graph.op("Mul", response, slopes), offsets)
        calibrated = graph.op("Sigmoid", graph.op("Neg", straight))
    else:
        calibrated = _isotonic(graph, part.calibrators, response)
    if classes == 2:
        return graph.two(calibrated)
    if len(inner.classes_) != classes:
        places = np.searchsorted(part.classes, inner.classes_)
        calibrated = graph.op("MatMul", calibrated, np.eye(classes)[places])
    return graph.op("Min", graph.shares(calibrated, 1 / classes), 1.0)


def _isotonic(graph: Graph, calibrators: Any, response: str) -> str:
    """Interpolate between the thresholds of isotonic regressions, one a column."""
    lowest = np.array([each.X_min_ for each in calibrators])
    highest = np.array([each.X_max_ for each in calibrators])
    clipped = graph.op("Min", graph.op("Max", response, lowest), highest)
    curves = [(each.X_thresholds_, each.y_thresholds_) for each in calibrators]
    return graph.op("Min", interpolate(graph, clipped, curves), 1.0)


def _cool(graph: Graph, part: Any, response: str, *, by_scores: bool) -> str:
    """Scale scores, or the logarithms of probabilities, by an inverse temperature."""
    two = len(part.classes) == 2
    if not by_scores:
        probabilities = graph.two(graph.columns(response, [1])) if two else response
        logits = graph.op("Log", graph.op("Add", probabilities, 1e-12))
    elif two:
        logits = graph.beside(graph.op("Neg", response), response)
    elif _sum_up_to_nothing(part.estimator):
        logits = response
    else:
        # scikit-learn takes scores for probabilities where all rows of a call look like some, so
        # that the answer for a row depends on the others.
        raise NoConverterError(
            "temperature scaling of these scores has no exact compiled form; "
            "use sigmoid calibration"
        )
    beta = float(part.calibrators[0].beta_)
    return graph.op("Softmax", graph.op("Mul", logits, beta), axis=1)


def _sum_up_to_nothing(classifier: Any) -> bool:
    """Tell whether a row's scores never add up to 1, as probabilities do."""
    if isinstance(classifier, Pipeline):
        return _sum_up_to_nothing(classifier.steps[-1][1])
    if not isinstance(classifier, LogisticRegression | LogisticRegressionCV):
        return False
    sums = np.abs(np.append(classifier.coef_.sum(axis=0), classifier.intercept_.sum()))
    return bool((sums < 1e-6).all())

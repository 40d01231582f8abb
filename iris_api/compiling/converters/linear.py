"""Converters of linear models and of multi-layer perceptrons."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import (
    cross_decomposition,
    discriminant_analysis,
    linear_model,
    neural_network,
    svm,
)
from sklearn.linear_model._base import LinearClassifierMixin, LinearModel

from iris_api.compiling.graph import Answer, Graph

_LOGISTIC = (
    linear_model.LogisticRegression,
    linear_model.LogisticRegressionCV,
    discriminant_analysis.LinearDiscriminantAnalysis,
)


def _convert_linear(graph: Graph, classifier: Any, rows: str) -> Answer:
    coefficients, intercepts = _coefficients(classifier)
    scores = graph.affine(rows, coefficients.T, intercepts)
    answer = _decide(graph, classifier, scores)
    if len(classifier.classes_) > 2:
        return answer
    # A first class whose score is always 0 makes one node of the comparison, one of the curve.
    both = np.vstack([coefficients * 0, coefficients]).T
    by_both = graph.most_likely(graph.affine(rows, both, np.append(0.0, intercepts)))
    probabilities = by_both.probabilities if _is_logistic(classifier) else answer.probabilities
    return Answer(by_both.index, probabilities, scores)


def _convert_linear_team(graph: Graph, parts: list[Any], rows: str) -> Answer:
    """Convert several linear classifiers of one kind at once; the results are (n, parts, …)."""
    fitted = [_coefficients(part) for part in parts]
    coefficients = np.vstack([each for each, _ in fitted])
    scores = graph.affine(rows, coefficients.T, np.concatenate([each for _, each in fitted]))
    shape = np.array([-1, len(parts), len(fitted[0][0])])
    return _decide(graph, parts[0], graph.op("Reshape", scores, shape))


def _coefficients(estimator: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    coefficients = np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64))
    intercepts = np.ravel(np.asarray(estimator.intercept_, dtype=np.float64))
    return coefficients, np.broadcast_to(intercepts, len(coefficients))


def _is_logistic(classifier: Any) -> bool:
    """Return whether the score of two classes is put through a logistic curve."""
    return isinstance(classifier, _LOGISTIC) or getattr(classifier, "loss", None) == "log_loss"


def _decide(graph: Graph, classifier: Any, scores: str) -> Answer:
    """Answer as a linear classifier does, from scores along the last axis."""
    many = len(classifier.classes_) > 2
    if many and isinstance(classifier, _LOGISTIC):
        return graph.most_likely(scores)
    index = graph.highest(scores) if many else graph.above(scores)
    if _is_logistic(classifier):
        each = graph.sigmoid(scores)
    elif getattr(classifier, "loss", None) == "modified_huber":
        clipped = graph.op("Clip", scores, -1.0, 1.0)
        each = graph.op("Div", graph.op("Add", clipped, 1.0), 2.0)
    else:
        return Answer(index, None, scores)
    shares = graph.shares(each, 1.0 / len(classifier.classes_)) if many else graph.two(each)
    return Answer(index, shares, scores)


def _predict_linear(graph: Graph, regressor: Any, rows: str) -> str:
    coefficients, intercepts = _coefficients(regressor)
    return graph.affine(rows, coefficients.T, intercepts)


def _predict_by_logarithm(graph: Graph, regressor: Any, rows: str) -> str:
    linear = _predict_linear(graph, regressor, rows)
    link = type(regressor._base_loss.link).__name__  # noqa: SLF001 (chosen by the power)
    return linear if link == "IdentityLink" else graph.op("Exp", linear)


def _predict_centred(graph: Graph, regressor: Any, rows: str) -> str:
    centred = graph.op("Sub", rows, regressor._x_mean)  # noqa: SLF001 (no public name)
    return _predict_linear(graph, regressor, centred)


def _convert_perceptron(graph: Graph, classifier: Any, rows: str) -> Answer:
    last = _last_hidden(graph, classifier, rows)
    matrix, offset = classifier.coefs_[-1], classifier.intercepts_[-1]
    if len(classifier.classes_) == 2:
        matrix, offset = np.hstack([matrix * 0, matrix]), np.array([0.0, *offset])
    probabilities = graph.op("Softmax", graph.affine(last, matrix, offset), axis=-1)
    return Answer(graph.highest(probabilities), probabilities)


def _predict_perceptron(graph: Graph, regressor: Any, rows: str) -> str:
    last = _last_hidden(graph, regressor, rows)
    result = graph.affine(last, regressor.coefs_[-1], regressor.intercepts_[-1])
    return graph.op("Exp", result) if regressor.out_activation_ == "exp" else result


def _last_hidden(graph: Graph, estimator: Any, rows: str) -> str:
    """Return what the last hidden layer of a multi-layer perceptron gives."""
    kinds = {"relu": "Relu", "tanh": "Tanh"}
    for layer in zip(estimator.coefs_[:-1], estimator.intercepts_[:-1], strict=True):
        rows = graph.affine(rows, *layer)
        if estimator.activation == "logistic":
            rows = graph.sigmoid(rows)
        elif estimator.activation != "identity":
            rows = graph.op(kinds[estimator.activation], rows)
    return rows


def _kinds_of(base: type) -> list[type]:
    """Return the linear models that predict as a base class does."""
    models = [getattr(linear_model, name) for name in linear_model.__all__]
    return [each for each in models if isinstance(each, type) and issubclass(each, base)]


_LINEAR_CLASSIFIERS = [
    *_kinds_of(LinearClassifierMixin),
    discriminant_analysis.LinearDiscriminantAnalysis,
    svm.LinearSVC,
]

CLASSIFIERS = {
    **dict.fromkeys(_LINEAR_CLASSIFIERS, _convert_linear),
    neural_network.MLPClassifier: _convert_perceptron,
}

TEAMS = dict.fromkeys(_LINEAR_CLASSIFIERS, _convert_linear_team)

REGRESSORS = {
    **dict.fromkeys(_kinds_of(LinearModel), _predict_linear),
    **dict.fromkeys(
        [
            linear_model.GammaRegressor,
            linear_model.PoissonRegressor,
            linear_model.TweedieRegressor,
        ],
        _predict_by_logarithm,
    ),
    linear_model.PassiveAggressiveRegressor: _predict_linear,
    linear_model.SGDRegressor: _predict_linear,
    svm.LinearSVR: _predict_linear,
    cross_decomposition.PLSRegression: _predict_centred,
    neural_network.MLPRegressor: _predict_perceptron,
}

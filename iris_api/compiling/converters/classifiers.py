"""Converters of classifiers that are a formula: linear ones, naive Bayes, discriminants."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, SGDClassifier

from iris_api.compiling.converters.graph import Answer, Graph, NoConverterError
from iris_api.compiling.converters.piecewise import look_up

_LOGISTIC = (LogisticRegression, LogisticRegressionCV, LinearDiscriminantAnalysis)


def convert_linear(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert a linear classifier: one score for two classes, else one for each class."""
    coefficients, intercepts = _coefficients(classifier)
    return _decide(graph, classifier, graph.affine(rows, coefficients.T, intercepts))


def convert_linear_team(graph: Graph, parts: list[Any], rows: str) -> Answer:
    """Convert several linear classifiers of one kind at once; the results are (n, parts, …)."""
    fitted = [_coefficients(part) for part in parts]
    coefficients = np.vstack([each for each, _ in fitted])
    scores = graph.affine(rows, coefficients.T, np.concatenate([each for _, each in fitted]))
    shape = np.array([-1, len(parts), len(fitted[0][0])])
    return _decide(graph, parts[0], graph.op("Reshape", scores, shape))


def _coefficients(classifier: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    coefficients = np.atleast_2d(np.asarray(classifier.coef_, dtype=np.float64))
    intercepts = np.ravel(np.asarray(classifier.intercept_, dtype=np.float64))
    return coefficients, np.broadcast_to(intercepts, len(coefficients))


def _decide(graph: Graph, classifier: Any, scores: str) -> Answer:
    """Answer as a linear classifier does, from scores along the last axis."""
    many = len(classifier.classes_) > 2
    index = graph.highest(scores) if many else graph.above(scores)
    loss = classifier.loss if type(classifier) is SGDClassifier else None
    if type(classifier) in _LOGISTIC and many:
        return Answer(index, graph.op("Softmax", scores, axis=-1), scores)
    if type(classifier) in _LOGISTIC or loss == "log_loss":
        each = graph.sigmoid(scores)
    elif loss == "modified_huber":
        clipped = graph.op("Clip", scores, -1.0, 1.0)
        each = graph.op("Div", graph.op("Add", clipped, 1.0), 2.0)
    else:
        return Answer(index, None, scores)
    shares = graph.shares(each, 1.0 / len(classifier.classes_)) if many else graph.two(each)
    return Answer(index, shares, scores)


def convert_perceptron(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert a multi-layer perceptron."""
    layers = list(zip(classifier.coefs_, classifier.intercepts_, strict=True))
    for coefficients, intercepts in layers[:-1]:
        rows = _activate(graph, classifier.activation, graph.affine(rows, coefficients, intercepts))
    last = _activate(graph, classifier.out_activation_, graph.affine(rows, *layers[-1]))
    if len(classifier.classes_) == 2:
        return Answer(graph.above(last, 0.5), graph.two(last))
    return Answer(graph.highest(last), last)


def _activate(graph: Graph, kind: str, values: str) -> str:
    if kind == "identity":
        return values
    if kind == "logistic":
        return graph.sigmoid(values)
    if kind == "softmax":
        return graph.op("Softmax", values, axis=-1)
    return graph.op({"relu": "Relu", "tanh": "Tanh"}[kind], values)


def convert_quadratic(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert quadratic discriminant analysis."""
    axes = [
        rotation * scaling**-0.5
        for rotation, scaling in zip(classifier.rotations_, classifier.scalings_, strict=True)
    ]
    apart = _from_each(graph, rows, np.asarray(classifier.means_))
    projected = graph.op("MatMul", apart, block_diag(*axes))
    squares = graph.op("Mul", projected, projected)
    ends = [np.ones((each.shape[1], 1)) for each in axes]
    volumes = np.array([np.log(scaling).sum() for scaling in classifier.scalings_])
    offset = -0.5 * volumes + np.log(classifier.priors_)
    likelihoods = graph.affine(squares, -0.5 * block_diag(*ends), offset)
    answer = _most_likely(graph, likelihoods)
    return Answer(answer.index, answer.probabilities, _discriminant(graph, likelihoods, classifier))


def _from_each(graph: Graph, rows: str, points: NDArray[np.float64]) -> str:
    """Return what lies between a row and each of some points, (n, points * features)."""
    count, width = points.shape
    repeated = graph.columns(rows, np.tile(np.arange(width), count))
    return graph.op("Sub", repeated, points.ravel())


def _discriminant(graph: Graph, likelihoods: str, classifier: Any) -> str:
    """Return the scores of a discriminant analysis."""
    if len(classifier.classes_) > 2:
        return likelihoods
    return graph.op("Sub", graph.columns(likelihoods, [1]), graph.columns(likelihoods, [0]))


def _most_likely(graph: Graph, likelihoods: str) -> Answer:
    """Answer from the logarithms of joint likelihoods, (n, k)."""
    return Answer(graph.highest(likelihoods), graph.op("Softmax", likelihoods, axis=-1))


def convert_gaussian(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert Gaussian naive Bayes."""
    means, variances = classifier.theta_, classifier.var_
    apart = _from_each(graph, rows, means)
    scaled = graph.op("Div", graph.op("Mul", apart, apart), variances.ravel())
    heights = -0.5 * np.log(2.0 * np.pi * variances).sum(axis=1)
    return _most_likely(
        graph,
        graph.affine(
            scaled,
            -0.5 * np.repeat(np.eye(len(means)), means.shape[1], axis=0),
            np.log(classifier.class_prior_) + heights,
        ),
    )


def convert_multinomial(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert multinomial naive Bayes."""
    logs = classifier.feature_log_prob_.T
    return _most_likely(graph, graph.affine(rows, logs, classifier.class_log_prior_))


def convert_complement(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert complement naive Bayes."""
    return _most_likely(graph, graph.affine(rows, classifier.feature_log_prob_.T, 0.0))


def convert_bernoulli(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert Bernoulli naive Bayes."""
    if classifier.binarize is not None:
        rows = graph.cast(graph.op("Greater", rows, float(classifier.binarize)))
    yes = classifier.feature_log_prob_
    no = np.log(1 - np.exp(yes))
    offset = classifier.class_log_prior_ + no.sum(axis=1)
    return _most_likely(graph, graph.affine(rows, (yes - no).T, offset))


def convert_categorical(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert categorical naive Bayes, which cuts numbers down to integers."""
    features = classifier.feature_log_prob_
    found = [
        look_up(
            graph,
            rows,
            [(column, np.arange(1.0, logs.shape[1]), of_class) for of_class in logs],
        )
        for column, logs in enumerate(features)
    ]
    return _most_likely(graph, graph.op("Add", graph.total(*found), classifier.class_log_prior_))


def nearest(graph: Graph, rows: str, points: NDArray[np.float64]) -> str:
    """Return the place of the nearest point by Euclidean distance, the first one of equals."""
    lengths = (points * points).sum(axis=1)
    return graph.op("ArgMin", graph.affine(rows, -2.0 * points.T, lengths), axis=1, keepdims=0)


def convert_centroid(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert nearest centroids."""
    centres, classes = classifier.centroids_, len(classifier.classes_)
    even = np.isclose(classifier.class_prior_, 1 / classes).all()
    sums = np.repeat(np.eye(classes), centres.shape[1], axis=0)
    if classifier.metric == "manhattan":
        if not even:
            raise NoConverterError("nearest centroids with priors are compiled for Euclid alone")
        distances = graph.op("MatMul", graph.op("Abs", _from_each(graph, rows, centres)), sums)
        return Answer(graph.op("ArgMin", distances, axis=1, keepdims=0))
    deviations = classifier.within_class_std_dev_
    spread = np.where(deviations == 0, 1.0, deviations)
    apart = _from_each(graph, graph.op("Div", rows, spread), centres / spread)
    squares = graph.op("Mul", apart, apart)
    likelihoods = graph.affine(squares, -sums, 2.0 * np.log(classifier.class_prior_))
    answer = _most_likely(graph, likelihoods)
    index = nearest(graph, rows, centres) if even else answer.index
    return Answer(index, answer.probabilities, _discriminant(graph, likelihoods, classifier))


def convert_dummy(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert the classifier that does not regard the rows."""
    strategy = classifier.strategy
    if strategy in ("stratified", "uniform"):
        raise NoConverterError("a dummy classifier that answers at random cannot be compiled")
    shares = np.asarray(classifier.class_prior_, dtype=np.float64)
    place = int(shares.argmax())
    if strategy == "constant":
        place = int(np.flatnonzero(classifier.classes_ == classifier.constant)[0])
    if strategy != "prior":
        shares = np.eye(len(shares))[place]
    votes = graph.repeat(np.eye(len(shares), dtype=np.float64)[place], rows)
    return Answer(graph.highest(votes), graph.repeat(shares, rows))


def convert_constant(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert what takes the place of a classifier that saw one class alone."""
    value = np.asarray(classifier.y_, dtype=np.float64).ravel()
    score = graph.repeat(value, rows)
    return Answer(graph.above(score), graph.two(score), score)

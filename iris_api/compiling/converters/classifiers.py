"""Converters of classifiers that are a formula: linear ones, naive Bayes, discriminants."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, SGDClassifier

from iris_api.compiling.converters.graph import Answer, Graph, NoConverterError
from iris_api.compiling.converters.steps import look_up


def convert_linear(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert a linear classifier: one score for two classes, else one for each class."""
    scores = graph.affine(rows, np.asarray(classifier.coef_).T, classifier.intercept_)
    many = len(classifier.classes_) > 2
    index = graph.highest(scores) if many else graph.above(scores)
    return Answer(index, _linear_probabilities(graph, classifier, scores, many=many), scores)


def _linear_probabilities(graph: Graph, classifier: Any, scores: str, *, many: bool) -> str | None:
    kind = type(classifier)
    if kind in (LogisticRegression, LogisticRegressionCV, LinearDiscriminantAnalysis) and many:
        return graph.op("Softmax", scores, axis=1)
    if kind in (LogisticRegression, LogisticRegressionCV, LinearDiscriminantAnalysis):
        return graph.two(graph.op("Sigmoid", scores))
    loss = classifier.loss if kind is SGDClassifier else None
    if loss == "log_loss":
        each = graph.op("Sigmoid", scores)
    elif loss == "modified_huber":
        clipped = graph.op("Clip", scores, -1.0, 1.0)
        each = graph.op("Div", graph.op("Add", clipped, 1.0), 2.0)
    else:
        return None
    return graph.shares(each, 1.0 / len(classifier.classes_)) if many else graph.two(each)


def convert_quadratic(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert quadratic discriminant analysis."""
    fitted = zip(classifier.means_, classifier.rotations_, classifier.scalings_, strict=True)
    norms = [
        graph.sum_columns(graph.op("Mul", axes, axes))
        for mean, rotation, scaling in fitted
        for axes in [graph.op("MatMul", graph.op("Sub", rows, mean), rotation * scaling**-0.5)]
    ]
    volumes = np.array([np.log(scaling).sum() for scaling in classifier.scalings_])
    halves = graph.op("Mul", graph.op("Add", graph.beside(*norms), volumes), -0.5)
    likelihoods = graph.op("Add", halves, np.log(classifier.priors_))
    answer = _most_likely(graph, likelihoods)
    scores = likelihoods
    if len(classifier.classes_) == 2:
        scores = graph.op("Sub", *(graph.columns(likelihoods, [place]) for place in (1, 0)))
    return Answer(answer.index, answer.probabilities, scores)


def _most_likely(graph: Graph, likelihoods: str) -> Answer:
    """Answer from the logarithms of joint likelihoods, (n, k)."""
    return Answer(graph.highest(likelihoods), graph.op("Softmax", likelihoods, axis=1))


def convert_gaussian(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert Gaussian naive Bayes."""
    apart = graph.op("Sub", graph.op("Unsqueeze", rows, np.array([1])), classifier.theta_)
    scaled = graph.op("Div", graph.op("Mul", apart, apart), classifier.var_)
    halves = graph.op("Mul", graph.sum_columns(scaled, axis=2, keep=False), 0.5)
    priors = np.log(classifier.class_prior_)
    heights = priors - 0.5 * np.log(2.0 * np.pi * classifier.var_).sum(axis=1)
    return _most_likely(graph, graph.op("Sub", heights, halves))


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
    classes = len(classifier.classes_)
    even = np.isclose(classifier.class_prior_, 1 / classes).all()
    spread = np.where(classifier.within_class_std_dev_ == 0, 1.0, classifier.within_class_std_dev_)
    centres = classifier.centroids_
    if classifier.metric == "manhattan":
        apart = graph.op("Sub", graph.op("Unsqueeze", rows, np.array([1])), centres)
        distances = graph.sum_columns(graph.op("Abs", apart), axis=2, keep=False)
        index = graph.op("ArgMin", distances, axis=1, keepdims=0)
        if not even:
            raise NoConverterError("nearest centroids with priors are compiled for Euclid alone")
        return Answer(index)
    scaled = graph.op("Unsqueeze", graph.op("Div", rows, spread), np.array([1]))
    apart = graph.op("Sub", scaled, centres / spread)
    squares = graph.sum_columns(graph.op("Mul", apart, apart), axis=2, keep=False)
    likelihoods = graph.op("Sub", 2.0 * np.log(classifier.class_prior_), squares)
    answer = _most_likely(graph, likelihoods)
    index = nearest(graph, rows, centres) if even else answer.index
    scores = likelihoods
    if classes == 2:
        scores = graph.op("Sub", *(graph.columns(likelihoods, [place]) for place in (1, 0)))
    return Answer(index, answer.probabilities, scores)


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

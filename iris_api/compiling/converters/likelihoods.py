"""Converters of classifiers by likelihoods and distances: naive Bayes, discriminants, centroids."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag
from sklearn import discriminant_analysis, dummy, naive_bayes, neighbors

from iris_api.compiling.graph import Answer, Graph
from iris_api.compiling.reasons import NoConverterError
from iris_api.compiling.trees import Tree


def _convert_quadratic(graph: Graph, classifier: Any, rows: str) -> Answer:
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
    return graph.most_likely(likelihoods, _discriminant(graph, likelihoods, classifier))


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


def _convert_gaussian(graph: Graph, classifier: Any, rows: str) -> Answer:
    means, variances = classifier.theta_, classifier.var_
    apart = _from_each(graph, rows, means)
    scaled = graph.op("Div", graph.op("Mul", apart, apart), variances.ravel())
    sums = -0.5 * np.repeat(np.eye(len(means)), means.shape[1], axis=0)
    heights = -0.5 * np.log(2.0 * np.pi * variances).sum(axis=1)
    offset = np.log(classifier.class_prior_) + heights
    return graph.most_likely(graph.affine(scaled, sums, offset))


def _convert_multinomial(graph: Graph, classifier: Any, rows: str) -> Answer:
    complement = isinstance(classifier, naive_bayes.ComplementNB)
    prior = 0.0 if complement else classifier.class_log_prior_
    likelihoods = graph.affine(rows, classifier.feature_log_prob_.T, prior)
    return graph.most_likely(likelihoods)


def _convert_bernoulli(graph: Graph, classifier: Any, rows: str) -> Answer:
    if classifier.binarize is not None:
        rows = graph.cast(graph.op("Greater", rows, float(classifier.binarize)))
    yes = classifier.feature_log_prob_
    no = np.log(1 - np.exp(yes))
    offset = classifier.class_log_prior_ + no.sum(axis=1)
    return graph.most_likely(graph.affine(rows, (yes - no).T, offset))


def _convert_categorical(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert categorical naive Bayes, which cuts numbers down to integers."""
    trees = [
        Tree.of_steps(place, column, np.arange(1.0, logs.shape[1]), of_class)
        for column, logs in enumerate(classifier.feature_log_prob_)
        for place, of_class in enumerate(logs)
    ]
    sums = graph.trees(rows, trees, len(classifier.classes_))
    return graph.most_likely(graph.op("Add", sums, classifier.class_log_prior_))


def nearest(graph: Graph, rows: str, points: NDArray[np.float64]) -> str:
    """Return the place of the nearest point by Euclidean distance, the first one of equals."""
    lengths = (points * points).sum(axis=1)
    return graph.op("ArgMin", graph.affine(rows, -2.0 * points.T, lengths), axis=1, keepdims=0)


def _convert_centroid(graph: Graph, classifier: Any, rows: str) -> Answer:
    if classifier.metric != "euclidean":
        raise NoConverterError("nearest centroids are compiled for the Euclidean distance alone")
    centres, classes = classifier.centroids_, len(classifier.classes_)
    deviations = classifier.within_class_std_dev_
    spread = np.where(deviations == 0, 1.0, deviations)
    apart = _from_each(graph, graph.op("Div", rows, spread), centres / spread)
    squares = graph.op("Mul", apart, apart)
    sums = np.repeat(np.eye(classes), centres.shape[1], axis=0)
    likelihoods = graph.affine(squares, -sums, 2.0 * np.log(classifier.class_prior_))
    answer = graph.most_likely(likelihoods, _discriminant(graph, likelihoods, classifier))
    even = np.isclose(classifier.class_prior_, 1 / classes).all()
    index = nearest(graph, rows, centres) if even else answer.index
    return Answer(index, answer.probabilities, answer.scores)


def _convert_dummy(graph: Graph, classifier: Any, rows: str) -> Answer:
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


def _predict_constant(graph: Graph, regressor: Any, rows: str) -> str:
    return graph.repeat(np.ravel(regressor.constant_).astype(np.float64), rows)


CLASSIFIERS = {
    discriminant_analysis.QuadraticDiscriminantAnalysis: _convert_quadratic,
    dummy.DummyClassifier: _convert_dummy,
    naive_bayes.BernoulliNB: _convert_bernoulli,
    naive_bayes.CategoricalNB: _convert_categorical,
    naive_bayes.ComplementNB: _convert_multinomial,
    naive_bayes.GaussianNB: _convert_gaussian,
    naive_bayes.MultinomialNB: _convert_multinomial,
    neighbors.NearestCentroid: _convert_centroid,
}

REGRESSORS = {dummy.DummyRegressor: _predict_constant}

"""Converters of kernels: support vector machines and approximations of kernels."""

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag
from sklearn import kernel_approximation, kernel_ridge, svm

from iris_api.compiling.graph import Answer, Graph
from iris_api.compiling.reasons import NoConverterError


def _convert_vectors(graph: Graph, classifier: Any, rows: str) -> Answer:
    return _decide(graph, classifier, _decisions(graph, [classifier], rows))


def _convert_vectors_team(graph: Graph, parts: list[Any], rows: str) -> Answer:
    """Convert several machines of one kind at once; the results are (n, parts, …)."""
    shape = np.array([-1, len(parts), len(parts[0].intercept_)])
    decisions = graph.op("Reshape", _decisions(graph, parts, rows), shape)
    return _decide(graph, parts[0], decisions)


def _predict_vectors(graph: Graph, regressor: Any, rows: str) -> str:
    kernel = _kernel(graph, regressor, rows, regressor.support_vectors_, regressor._gamma)  # noqa: SLF001
    return graph.affine(kernel, regressor._dual_coef_.T, regressor._intercept_)


def _predict_ridge(graph: Graph, regressor: Any, rows: str) -> str:
    points = np.asarray(regressor.X_fit_, dtype=np.float64)
    gamma = 1.0 / points.shape[1] if regressor.gamma is None else float(regressor.gamma)
    kernel = _kernel(graph, regressor, rows, points, gamma)
    return graph.op("MatMul", kernel, regressor.dual_coef_.reshape(-1, 1))


def _decisions(graph: Graph, parts: list[Any], rows: str) -> str:
    """Return what libsvm decides between each pair of classes, (n, parts * pairs)."""
    if hasattr(parts[0], "predict_proba"):
        raise NoConverterError(
            "a support vector machine with probability=True has no exact compiled form; "
            "use CalibratedClassifierCV(SVC(), ensemble=False)"
        )
    points = np.vstack([part.support_vectors_ for part in parts])
    gammas = np.concatenate([np.full(len(part.support_), part._gamma) for part in parts])  # noqa: SLF001
    intercepts = np.concatenate([part._intercept_ for part in parts])
    kernel = _kernel(graph, parts[0], rows, points, gammas)
    return graph.affine(kernel, block_diag(*map(_weights, parts)), intercepts)


def _decide(graph: Graph, classifier: Any, decisions: str) -> Answer:
    """Answer as libsvm does, from decisions along the last axis."""
    scores = graph.op("Neg", decisions)
    classes = len(classifier.classes_)
    if classes == 2:
        return Answer(graph.above(decisions, 0.0, "LessOrEqual"), None, scores)
    sides = pair_sides(classes)
    second = graph.cast(graph.op("Less", decisions, 0.0))
    by_class = score_pairs(graph, scores, second, sides)
    index = graph.highest(by_class)
    if not classifier.break_ties:
        first = graph.cast(graph.op("Greater", decisions, 0.0))
        votes = graph.op("MatMul", first, sides[0] - sides[1])
        index = graph.highest(graph.op("Add", votes, sides[1].sum(axis=0)))
    each = classifier.decision_function_shape == "ovr"
    return Answer(index, None, by_class if each else decisions)


def _weights(classifier: Any) -> NDArray[np.float64]:
    """Return the weight of each support vector for each pair of classes."""
    pairs = list(combinations(range(len(classifier.classes_)), 2))
    coefficients = classifier._dual_coef_
    ends = np.cumsum(classifier.n_support_)
    starts = ends - classifier.n_support_
    weights = np.zeros((coefficients.shape[1], len(pairs)))
    for place, (low, high) in enumerate(pairs):
        mine, theirs = slice(starts[low], ends[low]), slice(starts[high], ends[high])
        weights[mine, place] = coefficients[high - 1, mine]
        weights[theirs, place] = coefficients[low, theirs]
    return weights


def _kernel(
    graph: Graph,
    classifier: Any,
    rows: str,
    points: NDArray[np.float64],
    gammas: NDArray[np.float64] | float,
) -> str:
    """Return the kernel of each row with each support vector."""
    if classifier.kernel == "linear":
        return graph.op("MatMul", rows, np.ascontiguousarray(points.T))
    if classifier.kernel == "rbf":
        return _gaussian(graph, rows, points, gammas)
    if classifier.kernel not in ("poly", "sigmoid"):
        raise NoConverterError("a kernel that is a function of its own cannot be compiled")
    inner = graph.affine(rows, gammas * points.T, float(classifier.coef0))
    if classifier.kernel == "sigmoid":
        return graph.op("Tanh", inner)
    return graph.op("Pow", inner, float(classifier.degree))


def _gaussian(
    graph: Graph, rows: str, points: NDArray[np.float64], gammas: NDArray[np.float64] | float
) -> str:
    gammas = np.broadcast_to(np.asarray(gammas, dtype=np.float64), len(points))
    lengths = graph.op("ReduceSumSquare", rows, np.array([-1]))
    own = graph.op("Mul", lengths, -gammas)
    crossed = graph.affine(rows, 2.0 * gammas * points.T, -gammas * (points * points).sum(axis=1))
    return graph.op("Exp", graph.op("Add", crossed, own))


def pair_sides(classes: int) -> NDArray[np.float64]:
    """Return for each pair which class is its first, [0], and which its second, [1]."""
    pairs = list(combinations(range(classes), 2))
    sides: NDArray[np.float64] = np.eye(classes)[np.array(pairs).T]
    return sides


def score_pairs(graph: Graph, trust: str, second: str, sides: NDArray[np.float64]) -> str:
    """Make scores of the classes from decisions between pairs, as `_ovr_decision_function` does.

    Args:
        graph: The graph.
        trust: float64 (n, …, pairs), how much each decision is for the second class.
        second: float64 (n, …, pairs), 1 where the second class has the vote, else 0.
        sides: As `pair_sides` returns them.
    """
    sums = graph.op("MatMul", trust, sides[1] - sides[0])
    spread = graph.op("Mul", graph.op("Add", graph.op("Abs", sums), 1.0), 3.0)
    won = graph.op("MatMul", second, sides[1] - sides[0])
    votes = graph.op("Add", won, sides[0].sum(axis=0))
    return graph.op("Add", votes, graph.op("Div", sums, spread))


def _convert_fourier(graph: Graph, sampler: Any, rows: str) -> str:
    waves = graph.affine(rows, sampler.random_weights_, sampler.random_offset_)
    return graph.op("Mul", graph.op("Cos", waves), (2.0 / sampler.n_components) ** 0.5)


def _convert_nystroem(graph: Graph, transformer: Any, rows: str) -> str:
    if transformer.kernel != "rbf":
        raise NoConverterError("kernels other than rbf are not compiled")
    points = np.asarray(transformer.components_, dtype=np.float64)
    gamma = 1.0 / points.shape[1] if transformer.gamma is None else float(transformer.gamma)
    kernel = _gaussian(graph, rows, points, gamma)
    return graph.op("MatMul", kernel, np.ascontiguousarray(transformer.normalization_.T))


CLASSIFIERS = {svm.NuSVC: _convert_vectors, svm.SVC: _convert_vectors}

TEAMS = {svm.NuSVC: _convert_vectors_team, svm.SVC: _convert_vectors_team}

REGRESSORS = {
    kernel_ridge.KernelRidge: _predict_ridge,
    svm.NuSVR: _predict_vectors,
    svm.SVR: _predict_vectors,
}

TRANSFORMERS = {
    kernel_approximation.Nystroem: _convert_nystroem,
    kernel_approximation.RBFSampler: _convert_fourier,
}

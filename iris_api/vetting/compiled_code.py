"""The numbers that scikit-learn's compiled code trusts, family by family.

scikit-learn checks the rows of a request against `n_features_in_`, and then follows the child
indices, feature indices and counts of the fitted model without bounds checks.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from scipy.interpolate import BSpline
from sklearn.base import is_regressor
from sklearn.cluster._kmeans import _BaseKMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble._forest import BaseForest
from sklearn.ensemble._gb import BaseGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
from sklearn.metrics import DistanceMetric
from sklearn.neighbors import BallTree, KDTree
from sklearn.neighbors._base import NeighborsBase
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder
from sklearn.preprocessing._encoders import _BaseEncoder
from sklearn.svm._base import BaseLibSVM
from sklearn.tree import BaseDecisionTree

from iris_api.errors import one_line

KERNELS = ("linear", "poly", "rbf", "sigmoid")
"""Kernels of support vector machines that need the rows alone."""

METRICS = ("euclidean", "l2", "manhattan", "l1", "cityblock", "chebyshev", "minkowski")
"""Distances without a parameter per feature, whose length compiled code would trust."""


def _shown(parameter: Any) -> str:
    return one_line(parameter, 40) if isinstance(parameter, str) else "a function"


def _children_follow(nodes: Any, left: str, right: str, inner: Any) -> bool:
    """Return whether the children of each inner node exist and come after it, without a cycle."""
    index = np.flatnonzero(inner)
    children = np.stack([nodes[left][inner], nodes[right][inner]])
    return bool(((children > index) & (children < len(nodes))).all())


def _within(values: Any, limit: int) -> bool:
    return bool(((values >= 0) & (values < limit)).all())


def _decision_tree(estimator: Any) -> Iterator[bool]:
    tree = estimator.tree_
    # In this order: the arrays may only be read once the count is known to be their length.
    yield 0 < tree.node_count == tree.capacity
    yield tree.n_outputs == 1
    yield tree.n_features == estimator.n_features_in_
    nodes = tree.__getstate__()["nodes"]
    inner = nodes["left_child"] != -1
    yield _children_follow(nodes, "left_child", "right_child", inner)
    yield _within(nodes["feature"][inner], tree.n_features)


def _classes(estimator: Any) -> int:
    """Return the number of classes; a regressor has the arrays of a classifier of two."""
    return 2 if is_regressor(estimator) else len(estimator.classes_)


def _forest(estimator: Any) -> Iterator[bool]:
    # scikit-learn checks the width of a row with the first tree alone.
    yield len(estimator.estimators_) > 0
    yield from _trees(estimator, estimator.estimators_)


def _trees(estimator: Any, trees: Any) -> Iterator[bool]:
    for tree in trees:
        yield isinstance(tree, BaseDecisionTree)
        yield tree.n_features_in_ == estimator.n_features_in_


def _gradient_boosting(estimator: Any) -> Iterator[bool]:
    trees, classes = estimator.estimators_, _classes(estimator)
    columns = classes if classes > 2 else 1
    yield trees.shape[1:] == (columns,) == (estimator.n_trees_per_iteration_,)
    yield from _trees(estimator, trees.ravel())
    for tree in trees.ravel():
        yield tree.tree_.max_n_classes == 1
        yield all(_decision_tree(tree))


def _hist_gradient_boosting(estimator: Any) -> Iterator[bool]:
    categorical = np.asarray(estimator._bin_mapper.is_categorical_)  # noqa: SLF001
    yield categorical.shape == (estimator.n_features_in_,)
    if estimator._preprocessor is not None:  # noqa: SLF001
        yield from _encoded_columns(estimator, estimator._preprocessor)  # noqa: SLF001
    for predictor in [tree for row in estimator._predictors for tree in row]:  # noqa: SLF001
        nodes, categories = predictor.nodes, predictor.raw_left_cat_bitsets
        inner = nodes["is_leaf"] == 0
        yield nodes.ndim == 1
        yield len(nodes) > 0
        by_category = inner & (nodes["is_categorical"] != 0)
        yield _within(nodes["feature_idx"][inner], estimator.n_features_in_)
        yield bool(categorical[nodes["feature_idx"][by_category]].all())
        yield categories.shape[1:] == (8,)  # 256 bits
        yield _within(nodes["bitset_idx"][by_category], len(categories))
        yield _children_follow(nodes, "left", "right", inner)


def _encoded_columns(estimator: Any, first: Any) -> Iterator[bool]:
    """Check that the first step returns as many columns as compiled code reads."""
    yield isinstance(first, ColumnTransformer)
    (_, encoder, some), (_, numbers, others) = first.transformers_[:2]
    places = first._transformer_to_input_indices  # noqa: SLF001
    yield [name for name, _, _ in first.transformers_[:2]] == ["encoder", "numerical"]
    yield sum(map(len, places.values())) == estimator.n_features_in_
    yield isinstance(encoder, OrdinalEncoder)
    yield isinstance(numbers, FunctionTransformer)
    yield isinstance(numbers.func, partial)
    width = estimator.n_features_in_
    yield np.array_equal(np.flatnonzero(some), places["encoder"])
    yield np.array_equal(np.flatnonzero(others), places["numerical"])
    yield np.array_equal(np.sort([*places["encoder"], *places["numerical"]]), np.arange(width))
    yield len(encoder.categories_) == len(places["encoder"]) == encoder.n_features_in_


def _encoder(estimator: Any) -> Iterator[bool]:
    for known in estimator.categories_:
        yield known.ndim == 1
        if known.dtype.kind not in "OUS":  # these are looked up in a dictionary, others bisected
            numbers = known[:-1] if np.isnan(known[-1]) else known
            yield bool((numbers[:-1] < numbers[1:]).all())


def _one_hot_encoder(estimator: Any) -> Iterator[bool]:
    # A sparse matrix is filled by these numbers without a check of its bounds.
    columns = len(estimator.categories_)
    widths, rare, unknown = estimator._n_features_outs, [None] * columns, [None] * columns  # noqa: SLF001
    yield type(widths) is list  # to which scikit-learn adds a list
    yield columns == estimator.n_features_in_ == len(widths)
    if estimator._infrequent_enabled:  # noqa: SLF001
        rare = estimator._default_to_infrequent_mappings  # noqa: SLF001
        unknown = estimator._infrequent_indices  # noqa: SLF001
    dropped = estimator._drop_idx_after_grouping  # noqa: SLF001
    dropped = np.full(columns, None) if dropped is None else dropped
    yield dropped.shape == (columns,)
    for known, mapping, group, drop, width in zip(
        estimator.categories_, rare, unknown, dropped, widths, strict=True
    ):
        count = len(known)
        yield (mapping is None) == (group is None)
        if mapping is not None:
            yield mapping.shape == (count,)
            yield _within(mapping, count)
            count = int(mapping.max()) + 1
        yield drop is None or (isinstance(drop, int | np.integer) and bool(0 <= drop < count))
        yield width == count - (drop is not None)


def _libsvm(estimator: Any) -> Iterator[bool | str]:
    state, classes = vars(estimator), _classes(estimator)
    pairs = classes * (classes - 1) // 2
    count, width = state["support_vectors_"].shape
    yield "_impl" not in state
    if state["kernel"] not in KERNELS:
        yield f"has {_shown(state['kernel'])} as its kernel, and not one of {', '.join(KERNELS)}"
    if state["_sparse"] is not False:
        yield "was fitted on a sparse matrix, and rows are arrays"
    yield width == estimator.n_features_in_
    yield count > 0
    yield state["support_"].shape == (count,)
    yield state["_n_support"].shape == (classes,)
    yield _within(state["_n_support"], count + 1)
    if not is_regressor(estimator):  # where each number is the count
        yield int(state["_n_support"].sum(dtype=np.int64)) == count
    yield state["_dual_coef_"].shape == (classes - 1, count)
    yield state["_intercept_"].shape == (pairs,)
    calibrated = pairs if state.get("_effective_probability", state["probability"]) is True else 0
    yield state["_probA"].shape == state["_probB"].shape == (calibrated,)


def _neighbors(estimator: Any) -> Iterator[bool | str]:
    if not (isinstance(estimator.metric, str) and estimator.metric in METRICS):
        yield f"has {_shown(estimator.metric)} as its metric, and not one of {', '.join(METRICS)}"
    # Weights of a distance would need the length of a row.
    unweighted = all(k == "p" or v is None for k, v in estimator.effective_metric_params_.items())
    if estimator.metric_params or not unweighted:
        yield "has parameters of its metric, and a metric without any is served"
    yield estimator.effective_metric_ in METRICS
    data = estimator._fit_X  # noqa: SLF001
    yield isinstance(data, np.ndarray)
    yield data.shape[1:] == (estimator.n_features_in_,)
    if hasattr(estimator, "weights"):
        if estimator.weights not in (None, "uniform", "distance"):
            yield "has a function as its weights, and not uniform or distance"
        labels = estimator._y  # noqa: SLF001
        if labels.ndim == 2:
            yield "predicts several outputs for a row, and one is served"
        yield labels.shape == (len(data),)
        yield is_regressor(estimator) or _within(labels, len(estimator.classes_))
    if estimator._fit_method in ("kd_tree", "ball_tree"):  # noqa: SLF001
        yield all(_ball_or_kd_tree(estimator._tree, data.shape))  # noqa: SLF001


def _ball_or_kd_tree(tree: Any, shape: tuple[int, int]) -> Iterator[bool]:
    yield isinstance(tree, BallTree | KDTree)
    state = tree.__getstate__()
    data, order, nodes, bounds = state[:4]
    n_nodes, distance = state[6], state[11]
    yield all(type(array) is np.ndarray for array in state[:4])  # none is masked
    yield data.shape == shape
    yield np.array_equal(np.sort(order), np.arange(len(data)))
    yield 0 < n_nodes == len(nodes)
    yield bounds.shape == (2 if isinstance(tree, KDTree) else 1, n_nodes, shape[1])
    yield _within(np.stack([nodes["idx_start"], nodes["idx_end"]]), len(data) + 1)
    inner = np.flatnonzero(nodes["is_leaf"] == 0)
    yield bool((2 * inner + 2 < n_nodes).all())
    yield isinstance(distance, DistanceMetric)
    yield distance.__getstate__()[1].size == 0 or "Minkowski" not in type(distance).__name__


def _spline(spline: BSpline) -> Iterator[bool]:
    knots, coefficients, degree = spline._t, spline._c, spline.k  # noqa: SLF001
    for array, dimensions in ((knots, 1), (coefficients, 2)):
        yield type(array) is np.ndarray and array.dtype == np.float64
        yield array.ndim == dimensions
    yield type(degree) is int and 0 <= degree <= len(knots) // 2 - 1
    yield len(coefficients) >= len(knots) - degree - 1
    yield bool(np.isfinite(knots).all() and (np.diff(knots) >= 0).all())


def _k_means(estimator: Any) -> Iterator[bool]:
    yield estimator.cluster_centers_.ndim == 2
    yield estimator.cluster_centers_.shape[1] == estimator.n_features_in_


CHECKS: tuple[tuple[type, tuple[str, ...], Callable[[Any], Iterator[bool | str]]], ...] = (
    (BSpline, ("_t", "_c"), _spline),
    (BaseDecisionTree, ("tree_",), _decision_tree),
    (BaseForest, ("estimators_",), _forest),
    (BaseGradientBoosting, ("estimators_",), _gradient_boosting),
    (BaseHistGradientBoosting, ("_predictors",), _hist_gradient_boosting),
    (BaseLibSVM, ("support_vectors_",), _libsvm),
    (_BaseKMeans, ("cluster_centers_",), _k_means),
    (NeighborsBase, ("_fit_X", "_tree"), _neighbors),
    (_BaseEncoder, ("categories_",), _encoder),
    (OneHotEncoder, ("categories_",), _one_hot_encoder),
)
"""A family, the fitted attributes that its compiled code reads, and the requirements on them.

A model that is sound and cannot be served yields the reason, which continues the
estimator's name.
"""

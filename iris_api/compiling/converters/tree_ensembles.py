"""Converters of decision trees and their ensembles, exact to the last bit for all that average.

Each adds up its trees and does with the sums what scikit-learn does: the probabilities in its
order of operations, and the label by the same comparison, so that ties go the same way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import ensemble, tree

from iris_api.compiling.graph import Answer, Graph
from iris_api.compiling.reasons import NoConverterError
from iris_api.compiling.trees import Tree


def of_trees(estimator: Any) -> bool:
    """Return whether an ensemble is made of decision trees alone."""
    return all(isinstance(each, tree.BaseDecisionTree) for each in estimator.estimators_)


def _convert_tree(graph: Graph, classifier: Any, rows: str) -> Answer:
    classes = len(classifier.classes_)
    shares = graph.trees(rows, _values(classifier, range(classes)), classes)
    return Answer(graph.highest(shares), shares)


def _convert_forest(graph: Graph, classifier: Any, rows: str) -> Answer:
    places = range(len(classifier.classes_))
    trees = (tree for each in classifier.estimators_ for tree in _values(each, places))
    return _mean(graph, classifier, rows, trees)


def convert_bagged_trees(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert bagging of decision trees, each with columns and perhaps classes of its own."""
    drawn = zip(classifier.estimators_, classifier.estimators_features_, strict=True)
    trees = (tree for each, columns in drawn for tree in _values(each, each.classes_, columns))
    return _mean(graph, classifier, rows, trees)


def _mean(graph: Graph, classifier: Any, rows: str, trees: Iterator[Tree]) -> Answer:
    parts, classes = len(classifier.estimators_), len(classifier.classes_)
    probabilities = graph.trees(rows, trees, classes, mean_of=parts)
    return Answer(graph.highest(probabilities), probabilities)


def _values(
    estimator: Any,
    targets: Sequence[int] | NDArray[np.int64],
    columns: NDArray[np.int64] | None = None,
    factor: float = 1.0,
) -> Iterator[Tree]:
    """Yield the trees of what a leaf holds: the share of each class, or the prediction."""
    return Tree.of_estimator(
        estimator.tree_, factor * estimator.tree_.value[:, 0, :], targets, columns
    )


def convert_boosted_trees(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert AdaBoost of decision trees."""
    classes = len(classifier.classes_)
    targets = range(classes) if classes > 2 else [1]

    def trees() -> Iterator[Tree]:
        pairs = zip(classifier.estimators_, classifier.estimator_weights_, strict=False)
        for each, weight in pairs:
            chosen = each.classes_[each.tree_.value[:, 0, :].argmax(axis=1)]
            mine = chosen[:, np.newaxis] == classifier.classes_[targets]
            votes = np.where(mine, weight, -1 / (classes - 1) * weight)
            yield from Tree.of_estimator(each.tree_, votes, range(len(targets)))

    return ada_boost(graph, classifier, graph.trees(rows, trees(), len(targets)))


def ada_boost(graph: Graph, classifier: Any, sums: str) -> Answer:
    """Answer as AdaBoost does, from the sums of the weighted votes.

    Args:
        graph: The graph.
        classifier: The fitted AdaBoost.
        sums: float64 (n, k); for two classes, (n, 1), those of the second one, because those of
            the first one are the same with another sign.
    """
    total, classes = float(classifier.estimator_weights_.sum()), len(classifier.classes_)
    if classes == 2:
        score = graph.op("Div", sums, total / 2)
        return graph.most_likely(graph.against_zero(score), score)
    scores = graph.op("Div", sums, total)
    spread = graph.op("Div", scores, classes - 1.0)
    return Answer(graph.highest(scores), graph.op("Softmax", spread, axis=-1), scores)


def _boost_gradients(graph: Graph, estimator: Any, rows: str) -> str:
    """Return the scores of gradient boosting that begins with a constant."""
    if estimator.init not in (None, "zero"):
        raise NoConverterError(
            "gradient boosting that begins with another estimator has no exact compiled form"
        )
    row = np.zeros((1, estimator.n_features_in_), dtype=np.float32)
    start = estimator._raw_predict_init(row).ravel()  # noqa: SLF001 (no public name)

    def trees() -> Iterator[Tree]:
        yield from (Tree.constant(place, value) for place, value in enumerate(start))
        for stage in estimator.estimators_:
            for place, each in enumerate(stage):
                yield from _values(each, [place], factor=estimator.learning_rate)

    return graph.trees(rows, trees(), len(start))


def _convert_gradient_boosting(graph: Graph, classifier: Any, rows: str) -> Answer:
    scores = _boost_gradients(graph, classifier, rows)
    if len(classifier.classes_) > 2:
        return graph.most_likely(scores)
    scaled = graph.op("Mul", scores, 2.0) if classifier.loss == "exponential" else scores
    return graph.most_likely(graph.against_zero(scaled), scores, last=True)


def _boost_histograms(graph: Graph, estimator: Any, rows: str) -> str:
    """Return the scores of histogram boosting, which compares in float64."""
    start = estimator._baseline_prediction.ravel()  # noqa: SLF001 (no public name)
    stages = estimator._predictors  # noqa: SLF001 (no public name)
    trees = [Tree.constant(place, value) for place, value in enumerate(start)]
    trees += [
        Tree.of_predictor(each, place) for stage in stages for place, each in enumerate(stage)
    ]
    if estimator.is_categorical_ is not None:
        rows = graph.transform(estimator._preprocessor, rows)  # noqa: SLF001 (no public name)
        sides = _Sides(estimator.n_features_in_)
        predictors = [None] * len(start) + [each for stage in stages for each in stage]
        trees = [
            tree if predictor is None else sides.replace_categories(tree, predictor)
            for tree, predictor in zip(trees, predictors, strict=True)
        ]
        rows = graph.beside(rows, *([graph.look_up(rows, sides.tables)] if sides.tables else []))
    return graph.trees(rows, trees, len(start))


class _Sides:
    """Columns that say to which side of a split each category goes: 0 to the left, 1 to the right.

    Attributes:
        tables: What looks up these columns, in encoded rows.
    """

    def __init__(self, width: int) -> None:
        self.tables: list[tuple[int, NDArray[np.float64], NDArray[np.float64]]] = []
        self._width = width
        self._places: dict[tuple[int, bytes, bool], int] = {}

    def replace_categories(self, tree: Tree, predictor: Any) -> Tree:
        """Return a tree whose splits of categories compare such columns."""
        feature, threshold = tree.feature.copy(), tree.threshold.copy()
        splits = np.flatnonzero((tree.left >= 0) & (predictor.nodes["is_categorical"] != 0))
        for node in splits.tolist():
            bits = predictor.raw_left_cat_bitsets[predictor.nodes["bitset_idx"][node]]
            feature[node] = self._width + self._place(
                int(tree.feature[node]), bits, bool(tree.missing_left[node])
            )
            threshold[node] = 0.5
        return replace(tree, feature=feature, threshold=threshold)

    def _place(self, column: int, bits: NDArray[np.uint32], missing_left: bool) -> int:
        key = column, bits.tobytes(), missing_left
        if key not in self._places:
            self._places[key] = len(self.tables)
            left = np.unpackbits(bits.astype("<u4").view(np.uint8), bitorder="little")
            # Below the first category is none, and above infinity is a missing number.
            missing = 0.0 if missing_left else 1.0
            values = np.concatenate([[missing], 1.0 - left, [missing]])
            self.tables.append((column, np.append(np.arange(256.0), np.inf), values))
        return self._places[key]


def _convert_histogram_boosting(graph: Graph, classifier: Any, rows: str) -> Answer:
    scores = _boost_histograms(graph, classifier, rows)
    if len(classifier.classes_) > 2:
        return graph.most_likely(scores)
    return graph.most_likely(graph.against_zero(scores), scores)


def _predict_tree(graph: Graph, regressor: Any, rows: str) -> str:
    return graph.trees(rows, _values(regressor, [0]), 1)


def _predict_forest(graph: Graph, regressor: Any, rows: str) -> str:
    parts = regressor.estimators_
    trees = (tree for each in parts for tree in _values(each, [0]))
    return graph.trees(rows, trees, 1, mean_of=len(parts))


def predict_each(graph: Graph, parts: Sequence[Any], rows: str) -> str:
    """Return what each of several trees predicts, (n, parts)."""
    trees = (tree for place, each in enumerate(parts) for tree in _values(each, [place]))
    return graph.trees(rows, trees, len(parts))


def _predict_histogram_boosting(graph: Graph, regressor: Any, rows: str) -> str:
    scores = _boost_histograms(graph, regressor, rows)
    return graph.op("Exp", scores) if regressor.loss in ("poisson", "gamma") else scores


CLASSIFIERS = {
    ensemble.ExtraTreesClassifier: _convert_forest,
    ensemble.GradientBoostingClassifier: _convert_gradient_boosting,
    ensemble.HistGradientBoostingClassifier: _convert_histogram_boosting,
    ensemble.RandomForestClassifier: _convert_forest,
    tree.DecisionTreeClassifier: _convert_tree,
    tree.ExtraTreeClassifier: _convert_tree,
}

REGRESSORS = {
    ensemble.ExtraTreesRegressor: _predict_forest,
    ensemble.GradientBoostingRegressor: _boost_gradients,
    ensemble.HistGradientBoostingRegressor: _predict_histogram_boosting,
    ensemble.RandomForestRegressor: _predict_forest,
    tree.DecisionTreeRegressor: _predict_tree,
    tree.ExtraTreeRegressor: _predict_tree,
}

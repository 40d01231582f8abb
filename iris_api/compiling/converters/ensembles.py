"""Converters of ensembles of decision trees, exact to the last bit for all that average.

Each adds up its trees and does with the sums what scikit-learn does: the probabilities in its
order of operations, and the label by the same comparison, so that ties go the same way.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier

from iris_api.compiling.converters.graph import Answer, Graph, NoConverterError
from iris_api.compiling.converters.trees import Tree


def of_trees(ensemble: Any) -> bool:
    """Tell whether an ensemble is made of decision trees alone."""
    kinds = {type(each) for each in ensemble.estimators_}
    return kinds <= {DecisionTreeClassifier, ExtraTreeClassifier}


def convert_tree(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert a single decision tree."""
    classes = len(classifier.classes_)
    shares = graph.trees(graph.rounded(rows), _shares(classifier, range(classes)), classes)
    return Answer(graph.highest(shares), shares)


def convert_forest(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert a forest or extra trees."""
    places = range(len(classifier.classes_))
    trees = (tree for each in classifier.estimators_ for tree in _shares(each, places))
    return _mean(graph, classifier, rows, trees)


def convert_bagged_trees(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert bagging of decision trees, each with columns and perhaps classes of its own."""
    drawn = zip(classifier.estimators_, classifier.estimators_features_, strict=True)
    trees = (tree for each, columns in drawn for tree in _shares(each, each.classes_, columns))
    return _mean(graph, classifier, rows, trees)


def _shares(
    estimator: Any,
    places: Sequence[int] | NDArray[np.int64],
    columns: NDArray[np.int64] | None = None,
) -> Iterator[Tree]:
    """Yield the trees of the share of each class in each leaf."""
    return Tree.of_estimator(estimator.tree_, estimator.tree_.value[:, 0, :], places, columns)


def _mean(graph: Graph, classifier: Any, rows: str, trees: Iterator[Tree]) -> Answer:
    sums = graph.trees(graph.rounded(rows), trees, len(classifier.classes_))
    probabilities = graph.op("Div", sums, float(len(classifier.estimators_)))
    return Answer(graph.highest(probabilities), probabilities)


def convert_boosted_trees(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert AdaBoost of decision trees."""
    classes = len(classifier.classes_)

    def trees() -> Iterator[Tree]:
        pairs = zip(classifier.estimators_, classifier.estimator_weights_, strict=False)
        for each, weight in pairs:
            chosen = each.classes_[each.tree_.value[:, 0, :].argmax(axis=1)]
            mine = chosen[:, np.newaxis] == classifier.classes_
            votes = np.where(mine, weight, -1 / (classes - 1) * weight)
            yield from Tree.of_estimator(each.tree_, votes, range(classes))

    return ada_boost(graph, classifier, graph.trees(graph.rounded(rows), trees(), classes))


def ada_boost(graph: Graph, classifier: Any, sums: str) -> Answer:
    """Answer as AdaBoost does, from the sums of the weighted votes, (n, k)."""
    classes = len(classifier.classes_)
    scores = graph.op("Div", sums, float(classifier.estimator_weights_.sum()))
    if classes > 2:
        spread = graph.op("Div", scores, classes - 1.0)
        return Answer(graph.highest(scores), graph.op("Softmax", spread, axis=-1), scores)
    first = graph.op("Neg", graph.columns(scores, [0]))
    score = graph.op("Add", first, graph.columns(scores, [1]))
    both = graph.op("Div", graph.beside(graph.op("Neg", score), score), 2.0)
    return Answer(graph.above(score), graph.op("Softmax", both, axis=1), score)


def convert_gradient_boosting(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert gradient boosting that begins with a constant."""
    row = np.zeros((1, classifier.n_features_in_), dtype=np.float32)
    start = classifier._raw_predict_init(row).ravel()  # noqa: SLF001 (no public name)
    if classifier.init not in (None, "zero"):
        raise NoConverterError(
            "gradient boosting that begins with another estimator has no exact compiled form"
        )

    def trees() -> Iterator[Tree]:
        yield from (Tree.constant(place, value) for place, value in enumerate(start))
        for stage in classifier.estimators_:
            for place, each in enumerate(stage):
                weights = classifier.learning_rate * each.tree_.value[:, 0, :]
                yield from Tree.of_estimator(each.tree_, weights, [place])

    scores = graph.trees(graph.rounded(rows), trees(), len(start))
    if len(start) > 1:
        return Answer(graph.highest(scores), graph.op("Softmax", scores, axis=-1), scores)
    scaled = graph.op("Mul", scores, 2.0) if classifier.loss == "exponential" else scores
    probabilities = graph.two(graph.sigmoid(scaled))
    return Answer(graph.above(scores, comparison="GreaterOrEqual"), probabilities, scores)


def convert_histogram_boosting(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert histogram boosting, which compares in float64 and takes missing values."""
    if classifier.is_categorical_ is not None:
        raise NoConverterError(
            "histogram boosting with categorical features has no exact compiled form"
        )
    start = classifier._baseline_prediction.ravel()  # noqa: SLF001 (no public name)

    def trees() -> Iterator[Tree]:
        yield from (Tree.constant(place, value) for place, value in enumerate(start))
        for stage in classifier._predictors:  # noqa: SLF001 (no public name)
            yield from (Tree.of_predictor(each, place) for place, each in enumerate(stage))

    scores = graph.trees(rows, trees(), len(start))
    if len(start) > 1:
        return Answer(graph.highest(scores), graph.op("Softmax", scores, axis=-1), scores)
    return Answer(graph.above(scores), graph.two(graph.sigmoid(scores)), scores)

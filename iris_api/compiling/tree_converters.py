"""Converters of tree ensembles for skl2onnx, which keep scikit-learn's answers to the last bit.

Each gives the sums of `trees.ensemble` and what the estimator does with them: probabilities as
scikit-learn computes them, and the label by the same comparison, so that ties go the same way.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier

from iris_api.compiling.trees import DOMAIN, VERSION, Tree, ensemble

Votes = Iterator[tuple[int, Tree]]


class _Graph:
    """The nodes of one estimator, with names that are free in the whole graph."""

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        self._scope = scope
        self._container = container
        self.estimator = operator.raw_operator
        self._rows = operator.inputs[0].full_name
        self._is_float = isinstance(operator.inputs[0].type, FloatTensorType)
        self._label, self._probabilities = (out.full_name for out in operator.outputs)

    def node(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """Add a node and return the name of its result."""
        result = out or self._scope.get_unique_variable_name(kind.lower())
        self._container.add_node(
            kind,
            list(inputs),
            result,
            op_version=attributes.pop("op_version", None),
            name=self._scope.get_unique_operator_name(kind),
            **attributes,
        )
        return result

    def constant(self, values: NDArray[Any] | float) -> str:
        """Add a constant, float64 or int64, and return its name."""
        array = np.asarray(values)
        kind = TensorProto.INT64 if array.dtype == np.int64 else TensorProto.DOUBLE
        name: str = self._scope.get_unique_variable_name("constant")
        self._container.add_initializer(name, kind, list(array.shape), array.ravel().tolist())
        return name

    def rows(self, *, rounded: bool) -> str:
        """Return the rows in float64, rounded to float32 where the estimator does so."""
        rows = self._rows
        if rounded and not self._is_float:
            rows = self.node("Cast", rows, to=TensorProto.FLOAT)
        if rounded or self._is_float:
            rows = self.node("Cast", rows, to=TensorProto.DOUBLE)
        return rows

    def sums(self, rows: str, trees: Votes, targets: int) -> str:
        """Add up trees, and return the name of the sums, float64 (n, targets)."""
        attributes = ensemble(trees, targets)
        return self.node(
            "TreeEnsemble", rows, op_domain=DOMAIN, op_version=3, **attributes
        )

    def finish(self, index: str, probabilities: str) -> None:
        """Set the outputs from the index of the class, int64 (n,), and the probabilities."""
        self.node("Gather", self.constant(self.estimator.classes_), index, out=self._label)
        kind = TensorProto.FLOAT if self._is_float else TensorProto.DOUBLE
        self.node("Cast", probabilities, out=self._probabilities, to=kind)

    def highest(self, scores: str) -> str:
        """Return the index of the highest score, the first one of equals, as numpy does."""
        return self.node("ArgMax", scores, axis=1, keepdims=0)

    def two(self, second: str) -> str:
        """Return the probabilities of two classes, (n, 2), of the second one's, (n, 1)."""
        first = self.node("Sub", self.constant(1.0), second)
        return self.node("Concat", first, second, axis=1)


def _averaged(graph: _Graph, trees: Votes) -> None:
    """Finish estimators whose probabilities are the mean of their trees'."""
    estimator = graph.estimator
    count = float(len(getattr(estimator, "estimators_", [estimator])))
    sums = graph.sums(graph.rows(rounded=True), trees, len(estimator.classes_))
    probabilities = graph.node("Div", sums, graph.constant(count))
    graph.finish(graph.highest(probabilities), probabilities)


def _shares(tree: Any) -> NDArray[np.float64]:
    """Return the share of each class in each node, float64 (nodes, classes)."""
    shares: NDArray[np.float64] = tree.value[:, 0, :]
    return shares


def convert_tree(scope: Any, operator: Any, container: Any) -> None:
    """Convert a single decision tree."""
    graph = _Graph(scope, operator, container)
    tree, classes = graph.estimator.tree_, len(graph.estimator.classes_)
    votes = ((index, Tree.of_estimator(tree, _shares(tree)[:, index])) for index in range(classes))
    _averaged(graph, votes)


def convert_forest(scope: Any, operator: Any, container: Any) -> None:
    """Convert a forest or extra trees."""
    graph = _Graph(scope, operator, container)
    _averaged(
        graph,
        (
            (index, Tree.of_estimator(each.tree_, _shares(each.tree_)[:, index]))
            for each in graph.estimator.estimators_
            for index in range(len(graph.estimator.classes_))
        ),
    )


def convert_bagging(scope: Any, operator: Any, container: Any) -> None:
    """Convert bagging of decision trees, each with columns and perhaps classes of its own."""
    graph = _Graph(scope, operator, container)
    estimator = graph.estimator
    _averaged(
        graph,
        (
            (int(label), Tree.of_estimator(each.tree_, _shares(each.tree_)[:, index], columns))
            for each, columns in zip(
                estimator.estimators_, estimator.estimators_features_, strict=True
            )
            for index, label in enumerate(each.classes_)
        ),
    )


def convert_ada_boost(scope: Any, operator: Any, container: Any) -> None:
    """Convert boosting of decision trees by the weights of their votes."""
    graph = _Graph(scope, operator, container)
    estimator = graph.estimator
    classes = len(estimator.classes_)
    weights = estimator.estimator_weights_[: len(estimator.estimators_)]

    def votes() -> Votes:
        for each, weight in zip(estimator.estimators_, weights, strict=True):
            chosen = each.classes_[_shares(each.tree_).argmax(axis=1)]
            for index, label in enumerate(estimator.classes_):
                vote = np.where(chosen == label, weight, -1 / (classes - 1) * weight)
                yield index, Tree.of_estimator(each.tree_, vote)

    sums = graph.sums(graph.rows(rounded=True), votes(), classes)
    scores = graph.node("Div", sums, graph.constant(float(estimator.estimator_weights_.sum())))
    if classes == 2:
        first, second = graph.constant(np.array([0])), graph.constant(np.array([1]))
        negative = graph.node("Neg", graph.node("Gather", scores, first, axis=1))
        score = graph.node("Add", negative, graph.node("Gather", scores, second, axis=1))
        both = graph.node("Concat", graph.node("Neg", score), score, axis=1)
        probabilities = graph.node("Softmax", graph.node("Div", both, graph.constant(2.0)), axis=1)
        graph.finish(_above(graph, score, "Greater"), probabilities)
        return
    shrunk = graph.node("Div", scores, graph.constant(classes - 1.0))
    graph.finish(graph.highest(scores), graph.node("Softmax", shrunk, axis=1))


def convert_gradient_boosting(scope: Any, operator: Any, container: Any) -> None:
    """Convert gradient boosting that begins with a constant."""
    graph = _Graph(scope, operator, container)
    estimator = graph.estimator
    row = np.zeros((1, estimator.n_features_in_), dtype=np.float32)
    first = estimator._raw_predict_init(row).ravel()  # noqa: SLF001 (no public name)

    def votes() -> Votes:
        yield from ((index, Tree.constant(value)) for index, value in enumerate(first))
        for stage in estimator.estimators_:
            for index, each in enumerate(stage):
                weight = estimator.learning_rate * each.tree_.value[:, 0, 0]
                yield index, Tree.of_estimator(each.tree_, weight)

    sums = graph.sums(graph.rows(rounded=True), votes(), len(first))
    if len(first) > 1:
        graph.finish(graph.highest(sums), graph.node("Softmax", sums, axis=1))
        return
    scaled = sums
    if estimator.loss == "exponential":
        scaled = graph.node("Mul", sums, graph.constant(2.0))
    probabilities = graph.two(graph.node("Sigmoid", scaled))
    graph.finish(_above(graph, sums, "GreaterOrEqual"), probabilities)


def convert_histogram_boosting(scope: Any, operator: Any, container: Any) -> None:
    """Convert histogram boosting, which compares in float64 and takes missing values."""
    graph = _Graph(scope, operator, container)
    estimator = graph.estimator
    first = estimator._baseline_prediction.ravel()  # noqa: SLF001 (no public name)

    def votes() -> Votes:
        yield from ((index, Tree.constant(value)) for index, value in enumerate(first))
        for stage in estimator._predictors:  # noqa: SLF001
            yield from ((index, Tree.of_predictor(each)) for index, each in enumerate(stage))

    sums = graph.sums(graph.rows(rounded=False), votes(), len(first))
    if len(first) > 1:
        graph.finish(graph.highest(sums), graph.node("Softmax", sums, axis=1))
        return
    probabilities = graph.two(graph.node("Sigmoid", sums))
    graph.finish(_above(graph, sums, "Greater"), probabilities)


def _above(graph: _Graph, score: str, comparison: str) -> str:
    """Return the index 1 where a score, (n, 1), is above 0, else 0, as int64 (n,)."""
    above = graph.node(comparison, score, graph.constant(0.0))
    flat = graph.node("Squeeze", above, graph.constant(np.array([1])))
    return graph.node("Cast", flat, to=TensorProto.INT64)


CONVERTERS: dict[type, Callable[[Any, Any, Any], None]] = {
    DecisionTreeClassifier: convert_tree,
    ExtraTreeClassifier: convert_tree,
    RandomForestClassifier: convert_forest,
    ExtraTreesClassifier: convert_forest,
    GradientBoostingClassifier: convert_gradient_boosting,
    HistGradientBoostingClassifier: convert_histogram_boosting,
}
"""The estimators that are always converted here."""

OF_TREES: dict[type, Callable[[Any, Any, Any], None]] = {
    AdaBoostClassifier: convert_ada_boost,
    BaggingClassifier: convert_bagging,
}
"""The estimators that are converted here where they are made of decision trees."""

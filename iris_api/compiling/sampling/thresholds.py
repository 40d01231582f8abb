"""The numbers that fitted parts compare their columns with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.isotonic import IsotonicRegression
from sklearn.naive_bayes import BernoulliNB, CategoricalNB
from sklearn.preprocessing import (
    Binarizer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    SplineTransformer,
)
from sklearn.tree._tree import Tree

from iris_api.vetting.mixed_tables.encoded_cells import EncodedCells

Rows = NDArray[np.float64]

REPEATS = 3
"""Most rows for one edge."""


_THRESHOLDS: dict[type, Callable[[Any, int], list[Any]]] = {
    BernoulliNB: lambda part, width: [[] if part.binarize is None else part.binarize] * width,
    Binarizer: lambda part, width: [part.threshold] * width,
    CategoricalNB: lambda part, _: [np.arange(1, count) for count in part.n_categories_],
    EncodedCells: lambda part, _: [table.points for table in part.tables],
    IsotonicRegression: lambda part, _: [part.X_thresholds_],
    KBinsDiscretizer: lambda part, _: list(part.bin_edges_),
    MaxAbsScaler: lambda part, _: [[-most, most] for most in part.max_abs_],
    MinMaxScaler: lambda part, _: list(zip(part.data_min_, part.data_max_, strict=True)),
    PowerTransformer: lambda _, width: [0.0] * width,
    QuantileTransformer: lambda part, _: list(part.quantiles_.T),
    SplineTransformer: lambda part, _: [spline.t for spline in part.bsplines_],
}
"""The functions that list the limits of a kind of part: one list for each column."""


@dataclass(frozen=True)
class Edges:
    """Thresholds, each in one column and in a box of the rows that come to it.

    Attributes:
        column: int64 (m,).
        value: float64 (m,).
        rounded: bool (m,), whether the part rounds to float32 before it compares.
        low: float64 (m, k), the smallest numbers of the boxes.
        high: float64 (m, k), the largest ones.
    """

    column: NDArray[np.int64]
    value: NDArray[np.float64]
    rounded: NDArray[np.bool_]
    low: Rows
    high: Rows

    def take(self, chosen: NDArray[Any]) -> "Edges":
        """Return some of the edges."""
        return Edges(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def on_both_sides(self) -> "Edges":
        """Return twice as many: what is above the edge, and what is on it or above."""
        before = np.nextafter(self.value, -np.inf)
        twice = self.take(np.tile(np.arange(len(self.value)), 2))
        value = np.concatenate([self.value, before])
        return Edges(twice.column, value, twice.rounded, twice.low, twice.high)

    def are_below(self, given: Rows) -> NDArray[np.float64]:
        """Return 1 for each edge that its row is up to, and else 0, (m, 1)."""
        numbers = given[np.arange(len(given)), self.column]
        with np.errstate(over="ignore"):
            numbers = np.where(self.rounded, numbers.astype(np.float32), numbers)
        return (numbers <= self.value).astype(np.float64)[:, np.newaxis]

    def are_passed(self, low: Rows, high: Rows) -> NDArray[np.bool_]:
        """Return for each edge whether it lies between its two rows."""
        return (self.are_below(low) > self.are_below(high))[:, 0]


@dataclass(frozen=True)
class _Nodes:
    """The nodes of a tree; `feature` is negative in leaves."""

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]

    def inner(self) -> NDArray[np.int64]:
        """Return the nodes that compare with a number.

        A tree that was fitted with missing values has infinite splits, which no number reaches.
        """
        return np.flatnonzero((self.feature >= 0) & np.isfinite(self.threshold))

    def narrow(self, nodes: NDArray[np.int64], low: Rows, high: Rows) -> None:
        """Narrow boxes, (m, k), to the rows that come to each of m nodes."""
        parents = np.full(len(self.feature), -1)
        inner = np.flatnonzero(self.feature >= 0)
        parents[self.left[inner]] = parents[self.right[inner]] = inner
        box = np.arange(len(nodes))
        while True:
            above = parents[nodes]
            box, nodes, above = box[above >= 0], nodes[above >= 0], above[above >= 0]
            if not len(box):
                break
            split, limit = self.feature[above], self.threshold[above]
            finite = np.isfinite(limit)  # others part rows with the number from those without it
            left, right = (finite & (side[above] == nodes) for side in (self.left, self.right))
            for side, bound, nearer in ((left, high, np.minimum), (right, low, np.maximum)):
                place = box[side], split[side]
                bound[place] = nearer(bound[place], limit[side])
            nodes = above


def draw_edges(
    parts: list[Any], low: Rows, high: Rows, count: int, rng: np.random.Generator
) -> Edges | None:
    """Return the edges of parts that are given the same rows, or None without any.

    Args:
        parts: Parts of an estimator.
        low: (k,), the smallest numbers that the parts are given.
        high: (k,), the largest ones.
        count: Most edges; of more, as many are drawn, and fewer are repeated.
        rng: What draws.
    """
    found = [each for part in parts for each in _thresholds_of(part, len(low))]
    total = sum(len(each.value) for each in found)
    if not total:
        return None
    drawn = np.zeros(total, dtype=np.bool_)
    drawn[rng.permutation(total)[:count]] = True
    edges, first = [], 0
    for each in found:
        chosen = np.flatnonzero(drawn[first : first + len(each.value)])
        first += len(each.value)
        boxes = np.tile(low, (len(chosen), 1)), np.tile(high, (len(chosen), 1))
        if each.nodes is not None:
            each.nodes.narrow(each.nodes.inner()[chosen], *boxes)
        rounded = np.full(len(chosen), each.rounded)
        # The box of a split that no row comes to is empty.
        edges.append(
            (each.column[chosen], each.value[chosen], rounded, boxes[0], np.maximum(*boxes))
        )
    all_ = Edges(*(np.concatenate(field) for field in zip(*edges, strict=True)))
    # Beside an edge, answers may differ in a part of its box alone.
    return all_.take(np.tile(np.arange(len(all_.value)), min(REPEATS, max(1, count // total))))


@dataclass(frozen=True)
class _Thresholds:
    """The limits of one part; those of a tree are in the order of its inner nodes."""

    column: NDArray[np.int64]
    value: NDArray[np.float64]
    rounded: bool = False
    nodes: _Nodes | None = None


def _of_nodes(nodes: _Nodes, *, rounded: bool) -> _Thresholds:
    inner = nodes.inner()
    return _Thresholds(nodes.feature[inner], nodes.threshold[inner], rounded, nodes)


def _thresholds_of(part: Any, width: int) -> Iterator[_Thresholds]:
    if getattr(part, "n_features_in_", width) != width:
        return  # it is given something else than the part that contains it
    tree = getattr(part, "tree_", None)
    if isinstance(tree, Tree):
        nodes = _Nodes(tree.feature, tree.threshold, tree.children_left, tree.children_right)
        yield _of_nodes(nodes, rounded=True)
    elif isinstance(part, TreePredictor):
        array = part.nodes
        feature = np.where(array["is_leaf"], -1, array["feature_idx"].astype(np.int64))
        nodes = _Nodes(feature, array["num_threshold"], array["left"], array["right"])
        yield _of_nodes(nodes, rounded=False)
    elif type(part) in _THRESHOLDS:
        for column, values in enumerate(_THRESHOLDS[type(part)](part, width)):
            numbers = np.ravel(values).astype(np.float64)
            numbers = numbers[np.isfinite(numbers)]
            yield _Thresholds(np.full(len(numbers), column), numbers)

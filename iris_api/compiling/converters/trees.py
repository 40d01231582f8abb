"""Trees of scikit-learn in the form of ONNX, to the last bit.

The operators that skl2onnx writes compare and add in float32. `TreeEnsemble` of ai.onnx.ml 5 works
in float64, and adds the trees of a target in their order, which is scikit-learn's as well. A leaf
has one target, so that a tree stands once for each class; where all leaves below a node have the
same weight, the copy ends at that node.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper


@dataclass(frozen=True)
class Tree:
    """A binary tree: one entry a node, the root first, children after their parents.

    Attributes:
        feature: int64 (n,), the column that an inner node compares.
        threshold: float64 (n,). Values up to it go left.
        left: int64 (n,), the left child; negative in a leaf.
        right: int64 (n,), the right child.
        missing_left: bool (n,), whether NaN goes left.
        weight: float64 (n,), what a leaf adds; ignored in inner nodes.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    missing_left: NDArray[np.bool_]
    weight: NDArray[np.float64]

    @classmethod
    def constant(cls, weight: float) -> "Tree":
        """Return a tree of one leaf."""
        leaf = np.array([-1])
        none = np.zeros(1)
        return cls(leaf, none, leaf, leaf, none.astype(bool), np.array([weight]))

    @classmethod
    def of_steps(
        cls, column: int, edges: NDArray[np.float64], values: NDArray[np.float64]
    ) -> "Tree":
        """Return the tree that looks up a value between edges.

        Args:
            column: The column that is compared.
            edges: float64 (m,), strictly increasing. A number on an edge belongs above it.
            values: float64 (m + 1,), from below the first edge to above the last one.
        """
        if not len(edges):
            return cls.constant(float(values[0]))
        below = np.nextafter(edges, -np.inf)
        count = 2 * len(edges) + 1
        left, right = np.full(count, -1), np.full(count, -1)
        threshold, weight = np.zeros(count), np.zeros(count)
        free, pending = 1, [(0, 0, len(edges))]
        while pending:
            node, first, last = pending.pop()
            if first == last:
                weight[node] = values[first]
                continue
            middle = (first + last) // 2
            threshold[node], left[node], right[node] = below[middle], free, free + 1
            pending += [(free, first, middle), (free + 1, middle + 1, last)]
            free += 2
        return cls(np.full(count, column), threshold, left, right, left < -1, weight)

    @classmethod
    def of_estimator(
        cls, tree: Any, weight: NDArray[np.float64], columns: NDArray[np.int64] | None = None
    ) -> "Tree":
        """Return the tree of a decision tree estimator.

        Args:
            tree: Its `tree_`.
            weight: float64 (n,), the weight of each node.
            columns: int64, the column of the row behind each feature, where they differ.
        """
        feature = tree.feature if columns is None else columns[tree.feature]
        missing_left = tree.missing_go_to_left.astype(bool)
        left, right = tree.children_left, tree.children_right
        return cls(feature, tree.threshold, left, right, missing_left, weight)

    @classmethod
    def of_predictor(cls, predictor: Any) -> "Tree":
        """Return the tree of a predictor of histogram boosting."""
        nodes = predictor.nodes
        leaf = nodes["is_leaf"] != 0
        return cls(
            nodes["feature_idx"].astype(np.int64),
            nodes["num_threshold"],
            np.where(leaf, -1, nodes["left"].astype(np.int64)),
            np.where(leaf, -1, nodes["right"].astype(np.int64)),
            nodes["missing_go_to_left"] != 0,
            nodes["value"],
        )

    def leaf_weights(self) -> NDArray[np.float64]:
        """Return the one weight of all leaves below each node; NaN where they differ."""
        lowest, highest = self.weight.copy(), self.weight.copy()
        for node in np.flatnonzero(self.left >= 0)[::-1]:
            children = [self.left[node], self.right[node]]
            lowest[node], highest[node] = lowest[children].min(), highest[children].max()
        return np.where(lowest == highest, lowest, np.nan)


@dataclass
class _Nodes:
    """The attributes of `TreeEnsemble`, as they grow."""

    roots: list[int] = field(default_factory=list)
    features: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    true: list[tuple[int, int]] = field(default_factory=list)  # place, and whether it is a leaf
    false: list[tuple[int, int]] = field(default_factory=list)
    leaves: list[tuple[int, float]] = field(default_factory=list)  # target and weight

    def add(self, target: int, tree: Tree) -> None:
        """Append a tree whose leaves add to a target."""
        weights = tree.leaf_weights()
        self.roots.append(len(self.features))
        if not np.isnan(weights[0]):
            # A tree of one leaf is a node whose branches both lead to it.
            leaf = self._leaf(target, weights[0])
            self._node(0, 0.0, 0, leaf, leaf)
            return
        inner = list(_inner_nodes(tree, weights))
        place = {node: self.roots[-1] + index for index, node in enumerate(inner)}
        for node in inner:
            branches = [
                (place[child], 0) if child in place else self._leaf(target, weights[child])
                for child in (int(tree.left[node]), int(tree.right[node]))
            ]
            feature, split = int(tree.feature[node]), float(tree.threshold[node])
            self._node(feature, split, int(tree.missing_left[node]), *branches)

    def _leaf(self, target: int, weight: float) -> tuple[int, int]:
        self.leaves.append((target, float(weight)))
        return len(self.leaves) - 1, 1

    def _node(
        self,
        feature: int,
        split: float,
        missing: int,
        true: tuple[int, int],
        false: tuple[int, int],
    ) -> None:
        self.features.append(feature)
        self.splits.append(split)
        self.missing.append(missing)
        self.true.append(true)
        self.false.append(false)


def _inner_nodes(tree: Tree, weights: NDArray[np.float64]) -> Iterator[int]:
    """Yield the nodes that have to compare, depth first, as ONNX Runtime wants them."""
    stack = [0]
    while stack:
        node = stack.pop()
        yield node
        children = (int(tree.right[node]), int(tree.left[node]))
        stack += [child for child in children if np.isnan(weights[child])]


def ensemble(trees: Iterable[tuple[int, Tree]], targets: int) -> dict[str, Any]:
    """Return the attributes of the `TreeEnsemble` that adds up trees.

    Args:
        trees: The target of each tree, 0 to `targets` - 1, and the tree, in the order of adding.
        targets: The number of columns of the result.
    """
    nodes = _Nodes()
    for target, tree in trees:
        nodes.add(target, tree)
    count = [len(nodes.features)]
    weights = [weight for _, weight in nodes.leaves]
    modes = helper.make_tensor("modes", TensorProto.UINT8, count, [0] * count[0])  # BRANCH_LEQ
    return {
        "aggregate_function": 1,  # SUM
        "post_transform": 0,  # NONE
        "n_targets": targets,
        "tree_roots": nodes.roots,
        "nodes_featureids": nodes.features,
        "nodes_modes": modes,
        "nodes_splits": helper.make_tensor("splits", TensorProto.DOUBLE, count, nodes.splits),
        "nodes_missing_value_tracks_true": nodes.missing,
        "nodes_truenodeids": [place for place, _ in nodes.true],
        "nodes_trueleafs": [leaf for _, leaf in nodes.true],
        "nodes_falsenodeids": [place for place, _ in nodes.false],
        "nodes_falseleafs": [leaf for _, leaf in nodes.false],
        "leaf_targetids": [target for target, _ in nodes.leaves],
        "leaf_weights": helper.make_tensor("weights", TensorProto.DOUBLE, [len(weights)], weights),
    }

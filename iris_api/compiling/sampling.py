"""Rows that tell a compiled model from the estimator it was made of."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.tree._tree import Tree

from iris_api.schema import MAXIMUM_CM, MINIMUM_CM
from iris_api.vetting import integrity
from iris_api.vetting.training_profile import TrainingProfile

Floats = NDArray[np.float64]

ACCEPTED = (float(MINIMUM_CM), float(MAXIMUM_CM))
"""The range that the service accepts, in cm."""

USUAL = (0.0, 10.0)
"""The range of each feature of a model without a training profile, in cm."""

RANDOM_ROWS = 2048
"""Random rows in the training range, and in the accepted range; all rows are some 10 000."""

MEASURED_ROWS = 4096
"""Random rows rounded to 0.1 cm, as people measure: on splits, and as far from two neighbors.

Nearest neighbors went wrong for about one such row in 2000; this is twice as many.
"""

GRID_STEPS = 6
"""Values of each feature in the grid: 6**4 is 1296 rows."""

MAX_SPLITS = 8192
"""Most splits that are sampled, six rows each: 1000 unlimited trees on the iris rows have 8000."""

BOUNDARIES = 256
"""Decision boundaries that are searched, each between two random rows."""

BISECTIONS = 60
"""Steps that bring two float64 between 0 and 100 to neighbors: 53 bits of mantissa and 7 above."""


def parts_of(estimator: object) -> Iterator[Any]:
    """Yield the estimator and each object inside it that has attributes."""
    parts = integrity.reachable(estimator)
    return (part for part in parts if hasattr(part, "__dict__") and not isinstance(part, type))


def has_trees(estimator: object) -> bool:
    """Return whether any part of the estimator is a decision tree."""
    return next(_trees(estimator), None) is not None


def ranges_of(profile: TrainingProfile | None, features: tuple[str, ...]) -> Floats:
    """Return the training range of each feature: float64 (4, 2), minimum and maximum in cm."""
    if profile is None:
        return np.tile(USUAL, (len(features), 1))
    found = [(profile.features[name].minimum, profile.features[name].maximum) for name in features]
    return np.clip(found, *ACCEPTED)


def sample_rows(estimator: ClassifierMixin, ranges: Floats, examples: Floats, seed: int) -> Floats:
    """Choose the rows of the proof.

    Args:
        estimator: fitted on four features.
        ranges: (4, 2), minimum and maximum in cm of each feature.
        examples: (m, 4), more rows in cm.
        seed: the same seed gives the same random rows.

    Returns:
        (n, 4) in the accepted range: random rows in the training range, in the accepted range, and
        rounded to 0.1 cm; a grid; the corners; the examples; the training rows of neighbors; and,
        for trees, both sides of each split and of some decision boundaries.

    Raises:
        Exception: whatever the estimator raises for a row that it cannot answer.
    """
    rng = np.random.default_rng(seed)
    low, high = ranges.T
    corners = [sorted({*ACCEPTED, *limits}) for limits in ranges.tolist()]
    found = [
        rng.uniform(low, high, (RANDOM_ROWS, 4)),
        rng.uniform(*ACCEPTED, (RANDOM_ROWS, 4)),
        rng.uniform(low, high, (MEASURED_ROWS, 4)).round(1),
        np.array(list(product(*np.linspace(low, high, GRID_STEPS).T))),
        np.array(list(product(*corners))),
        examples,
    ]
    stored = [vars(part).get("_fit_X") for part in parts_of(estimator)]
    found += [rows[:RANDOM_ROWS] for rows in stored if np.shape(rows)[1:] == (4,)]
    if has_trees(estimator):
        found += [_split_rows(estimator, ranges, rng), _boundary_rows(estimator, ranges, rng)]
    rows: Floats = np.vstack(found).clip(*ACCEPTED)
    return rows


def _trees(estimator: object) -> Iterator[tuple[NDArray[Any], ...]]:
    """Yield feature (negative in a leaf), threshold, left and right child of each tree's nodes."""
    for part in parts_of(estimator):
        tree = vars(part).get("tree_")
        if isinstance(tree, Tree):
            yield tree.feature, tree.threshold, tree.children_left, tree.children_right
        elif isinstance(part, TreePredictor):
            nodes = part.nodes
            feature = np.where(nodes["is_leaf"], -1, nodes["feature_idx"])
            yield feature, nodes["num_threshold"], nodes["left"], nodes["right"]


def _split_rows(estimator: object, ranges: Floats, rng: np.random.Generator) -> Floats:
    """Choose rows on each split, and on the nearest numbers to both sides of it.

    Each split has six rows: its threshold with both neighbors, in float64 and rounded to float32,
    because scikit-learn's trees compare a float32 row with a float64 threshold. The other features
    are random within the box of the rows that reach the split; an error would not show elsewhere.
    """
    boxes = [_boxes(tree, ranges) for tree in _trees(estimator)]
    feature, threshold, low, high = (np.concatenate(part) for part in zip(*boxes, strict=True))
    if len(feature) > MAX_SPLITS:
        drawn = rng.choice(len(feature), MAX_SPLITS, replace=False)
        feature, threshold, low, high = feature[drawn], threshold[drawn], low[drawn], high[drawn]
    values = [
        np.nextafter(exact, side).astype(np.float64)
        for exact in (threshold, threshold.astype(np.float32))
        for side in (exact, exact.dtype.type(-np.inf), exact.dtype.type(np.inf))
    ]
    rows = np.repeat(rng.uniform(low, high)[np.newaxis], len(values), axis=0)
    rows[:, np.arange(len(feature)), feature] = values
    return rows.reshape(-1, 4)


def _boxes(tree: tuple[NDArray[Any], ...], ranges: Floats) -> tuple[NDArray[Any], ...]:
    """Return feature (m,), threshold (m,), and lowest and highest row (m, 4) of a tree's splits.

    After a step that adds or removes features, the tree's features are not those of the rows. Such
    a tree is left to `_boundary_rows`.
    """
    feature, threshold, left, right = tree
    low = np.tile(ranges[:, 0], (len(feature), 1))
    high = np.tile(ranges[:, 1], (len(feature), 1))
    inner = np.flatnonzero((feature >= 0) & (feature < 4))
    for node in inner:  # parents come before their children
        split = feature[node]
        for child in (left[node], right[node]):
            low[child], high[child] = low[node], high[node]
        high[left[node], split] = min(high[node, split], threshold[node])
        low[right[node], split] = max(low[node, split], threshold[node])
    return feature[inner], threshold[inner], low[inner], np.maximum(low, high)[inner]


def _boundary_rows(estimator: ClassifierMixin, ranges: Floats, rng: np.random.Generator) -> Floats:
    """Bisect between pairs of random rows until they are neighbors with different answers.

    After a step such as a scaler, the thresholds of a tree are not values of the rows. The answers
    show where its decision boundaries are. The second half of the rows are the other sides.
    """
    answer = getattr(estimator, "predict_proba", estimator.predict)
    low, high = rng.uniform(ranges[:, 0], ranges[:, 1], (2, BOUNDARIES, 4))
    first = np.asarray(answer(low)).reshape(BOUNDARIES, -1)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        same = (np.asarray(answer(middle)).reshape(BOUNDARIES, -1) == first).all(axis=1)
        low[same], high[~same] = middle[same], middle[~same]
    return np.vstack([low, high])

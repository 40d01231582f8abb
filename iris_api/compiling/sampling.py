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

# The service accepts 0 to 100 cm.
ACCEPTED = (float(MINIMUM_CM), float(MAXIMUM_CM))
# The range of every feature, in cm, where the model came without a training profile.
USUAL = (0.0, 10.0)
# Rows at random in the range, and as many in all that is accepted. With the measured ones and the
# grid some 10 000: a fraction of a second for most estimators.
RANDOM_ROWS = 2048
# Rows rounded to 0.1 cm, as people measure: there two neighbours are equally far, or a row is just
# on a split. Nearest neighbours went wrong for about one in 2000, so twice as many.
MEASURED_ROWS = 4096
# Values a feature in the grid: 6**4 is 1296 rows.
GRID_STEPS = 6
# A forest of 1000 unlimited trees on the 150 iris rows has about 8000 splits. Of a larger one, as
# many are drawn; each gets six rows.
MAX_SPLITS = 8192
# Steps of the answer that are looked for, each between two random rows.
STEPS = 256
# Halvings that bring two float64 between 0 and 100 to neighbours: a 53-bit mantissa and 7 bits.
HALVINGS = 60


def parts_of(estimator: object) -> Iterator[Any]:
    """Yield the estimator and every object inside it that has attributes."""
    things = integrity.reachable(estimator)
    return (thing for thing in things if hasattr(thing, "__dict__") and not isinstance(thing, type))


def has_trees(estimator: object) -> bool:
    """Tell whether any part of the estimator is a decision tree."""
    return next(_trees(estimator), None) is not None


def ranges_of(profile: TrainingProfile | None, features: tuple[str, ...]) -> NDArray[np.float64]:
    """Return the range of each of the features in cm, float64 of shape (4, 2)."""
    if profile is None:
        return np.tile(USUAL, (len(features), 1))
    found = [(profile.features[name].minimum, profile.features[name].maximum) for name in features]
    return np.clip(found, *ACCEPTED)


def probe_rows(
    estimator: ClassifierMixin,
    *,
    ranges: NDArray[np.float64],
    examples: NDArray[np.float64] | None,
    seed: int,
) -> NDArray[np.float64]:
    """Choose the rows that scikit-learn and the compiled model are both asked.

    Args:
        estimator: Fitted on four features.
        ranges: (4, 2), minimum and maximum in cm per feature.
        examples: (m, 4) rows in cm, or None.
        seed: Of the random rows: the same one gives the same rows.

    Returns:
        float64 (n, 4) within the 0 to 100 cm that the service accepts: random rows of the range,
        of all that is accepted, and rounded to 0.1 cm as people measure; a grid; the corners; the
        examples; the training rows that nearest neighbours keep; and, for trees, both sides of
        every split and of some steps of the answer.

    Raises:
        Exception: Whatever the estimator raises for a row that it cannot answer.
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
    ]
    if examples is not None:
        found.append(examples)
    found += [
        remembered[:RANDOM_ROWS]
        for part in parts_of(estimator)
        if np.shape(remembered := vars(part).get("_fit_X"))[1:] == (4,)
    ]
    if has_trees(estimator):
        found += [_split_rows(estimator, ranges, rng), _step_rows(estimator, ranges, rng)]
    rows: NDArray[np.float64] = np.vstack(found).clip(*ACCEPTED)
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


def _split_rows(
    estimator: object, ranges: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Put rows on every split, and on the nearest numbers to both sides of it.

    The other features are drawn from the box of rows that come to this split: elsewhere, an error
    in it would not be seen.

    Returns:
        float64 (n, 4), six rows a split: its threshold with both neighbours, in float64 and as it
        is in float32, because scikit-learn's trees compare a float32 row with a float64 threshold.
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


def _boxes(
    tree: tuple[NDArray[Any], ...], ranges: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Find feature (m,), threshold (m,), and lowest and highest row (m, 4) of a tree's splits.

    Behind a step that adds or drops features the tree's features are not the row's, which leaves
    such a tree to the search for steps.
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


def _step_rows(
    estimator: ClassifierMixin, ranges: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Halve the way between two random rows until scikit-learn's answer changes in one number.

    Where something stands before a tree, such as a scaler, its splits are not the row's numbers;
    this finds them by the answer.

    Returns:
        float64 (n, 4): the last row with the one answer, the first with another, for each pair.
    """
    answer = getattr(estimator, "predict_proba", estimator.predict)
    low, high = rng.uniform(ranges[:, 0], ranges[:, 1], (2, STEPS, 4))
    first = np.asarray(answer(low)).reshape(STEPS, -1)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        same = (np.asarray(answer(middle)).reshape(STEPS, -1) == first).all(axis=1)
        low[same], high[~same] = middle[same], middle[~same]
    return np.vstack([low, high])

"""Numbers that compiled code would follow out of its arrays are found before it does."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from support.saved_models import (
    SPECIES,
    Copy,
    X,
    edited,
    message,
    opened,
    text_node,
    y,
)


def _corrupt_tree(field: str, value: int) -> bytes:
    tree = DecisionTreeClassifier(max_depth=2).fit(X, SPECIES)
    _, arguments, state = tree.tree_.__reduce__()
    state["nodes"] = state["nodes"].copy()
    state["nodes"][field][0] = value
    tree.tree_ = type(tree.tree_)(*arguments)
    tree.tree_.__setstate__(state)
    return bytes(skops.io.dumps(tree))


def _shorter_tree() -> bytes:
    def count(state: dict[str, Any]) -> None:
        state["tree_"]["content"]["content"]["node_count"] = text_node(1)

    return edited(DecisionTreeClassifier(max_depth=2).fit(X, SPECIES), count)


def _corrupt(estimator: Any, change: Callable[[Any], Any]) -> bytes:
    estimator.fit(X, SPECIES)
    change(estimator)
    return bytes(skops.io.dumps(estimator))


def _predictor(field: str, value: int) -> Callable[[Any], Any]:
    def change(estimator: Any) -> None:
        estimator._predictors[0][0].nodes[field][0] = value  # noqa: SLF001

    return change


def _neighbours(position: int, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda estimator: change(estimator._tree.__getstate__()[position])  # noqa: SLF001


def _first(field: str, value: int) -> Callable[[Any], Any]:
    return lambda nodes: nodes[field].__setitem__(0, value)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (_corrupt_tree("left_child", 10**9), "DecisionTreeClassifier"),
        (_corrupt_tree("right_child", -7), "DecisionTreeClassifier"),
        (_corrupt_tree("left_child", 0), "DecisionTreeClassifier"),
        (_corrupt_tree("feature", 4), "DecisionTreeClassifier"),
        (_shorter_tree(), "DecisionTreeClassifier"),
        (
            _corrupt(
                RandomForestClassifier(2),
                lambda e: e.estimators_.__setitem__(
                    1, DecisionTreeClassifier().fit(np.hstack([X, X]), y)
                ),
            ),
            "RandomForestClassifier",
        ),
        (
            _corrupt(
                GradientBoostingClassifier(n_estimators=2),
                lambda e: setattr(e, "init_", DummyClassifier(strategy="prior").fit(X, y > 0)),
            ),
            "GradientBoostingClassifier",
        ),
        (
            _corrupt(
                GradientBoostingClassifier(n_estimators=2),
                lambda e: setattr(e, "estimators_", np.hstack([e.estimators_] * 9)),
            ),
            "GradientBoostingClassifier",
        ),
        *[
            (
                _corrupt(HistGradientBoostingClassifier(max_iter=1), _predictor(field, value)),
                "HistGradientBoostingClassifier",
            )
            for field, value in [
                ("left", 10**6),
                ("right", 0),
                ("feature_idx", -1),
                ("is_categorical", 1),
            ]
        ],
        (_corrupt(SVC(), lambda e: e._n_support.__setitem__(0, 10**6)), "SVC"),  # noqa: SLF001
        (_corrupt(SVC(), lambda e: setattr(e, "_intercept_", np.zeros(1))), "SVC"),
        (_corrupt(SVC(), lambda e: setattr(e, "_dual_coef_", np.zeros((1, 1)))), "SVC"),
        (_corrupt(SVC(), lambda e: setattr(e, "_effective_probability", True)), "SVC"),
        (
            _corrupt(
                KNeighborsClassifier(algorithm="brute"),
                lambda e: e._y.__setitem__(0, 10**6),  # noqa: SLF001
            ),
            "KNeighborsClassifier",
        ),
        (
            _corrupt(KNeighborsClassifier(), _neighbours(1, lambda a: a.__setitem__(0, 10**6))),
            "KNeighborsClassifier",
        ),
        (
            _corrupt(KNeighborsClassifier(), _neighbours(2, _first("idx_end", 10**6))),
            "KNeighborsClassifier",
        ),
        (
            _corrupt(
                KNeighborsClassifier(algorithm="ball_tree"),
                _neighbours(2, lambda nodes: nodes["is_leaf"].__setitem__(-1, 0)),
            ),
            "KNeighborsClassifier",
        ),
    ],
)
def test_number_that_compiled_code_would_follow(copied: Copy, model: bytes, name: str) -> None:
    """An index or a shape that leads out of an array is found before a prediction follows it."""
    directory = copied(model=model)

    assert message(lambda: opened(directory)) == (
        f"{name} has indices or shapes that do not fit each other; train and register it again"
    )

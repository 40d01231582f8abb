"""The proof finds every kind of mistake, because its rows are where mistakes would show."""

import copy
from itertools import product
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from support.irises import (
    CLASSIFIERS,
    RANGES,
    compile_iris,
    fit,
    forest,
    fresh_rows,
    kind,
    logistic,
    sample_iris,
    scaled,
)

from iris_api.compiling import sampling
from iris_api.compiling.conversion import convert_and_prove
from iris_api.compiling.proof import CompileError, UnansweredError, ask


def test_almost_the_same_estimator_is_caught() -> None:
    """A graph of an estimator that was regularized a little more does not pass."""
    right, wrong = fit(logistic()), fit(LogisticRegression(C=0.99, max_iter=1000))

    with pytest.raises(CompileError, match="differ"):
        convert_and_prove(wrong, ask(right, sample_iris(right)))


@pytest.mark.parametrize(
    ("scaler", "share"),
    [
        pytest.param(None, 1.0, id="bare"),
        # Decision boundaries are searched between random rows, which misses those of small boxes.
        pytest.param(StandardScaler(), 0.5, id="scaled"),
    ],
)
def test_a_split_moved_by_one_float32_is_caught(scaler: Any, share: float) -> None:
    """The smallest mistake in any split of a tree is found, and in most of those after a scaler."""
    right = fit(make_pipeline(scaler, DecisionTreeClassifier(random_state=0)))
    reference = ask(right, sample_iris(right))
    splits = np.flatnonzero(right[-1].tree_.feature >= 0)

    caught = []
    for node, side in product(splits, (-np.inf, np.inf)):
        wrong = copy.deepcopy(right)
        thresholds = wrong[-1].tree_.threshold
        thresholds[node] = np.nextafter(np.float32(thresholds[node]), np.float32(side))
        try:
            convert_and_prove(wrong, reference)
        except CompileError:
            caught.append((node, side))

    assert len(caught) >= 2 * len(splits) * share


@pytest.mark.parametrize(
    ("method", "spoil", "reason"),
    [
        pytest.param("predict", lambda a: np.roll(a, 1), "labels differ", id="labels"),
        pytest.param(
            "predict",
            lambda a: np.where(np.arange(len(a)) == 2000, "rose", a),
            "not among its classes",
            id="no class",
        ),
        pytest.param(
            "predict",
            lambda a: np.where(np.arange(len(a)) == 2000, np.roll(np.unique(a), 1)[0], a),
            r"\b1 of \d+ labels",
            id="one label",
        ),
        pytest.param("predict_proba", lambda a: a + 2e-5, "probability differs", id="probability"),
        pytest.param("predict_proba", lambda a: a * np.nan, "that are not finite", id="nan"),
        pytest.param("predict_proba", lambda a: a[:, :2], "have the shape", id="shape"),
    ],
)
def test_an_overridden_method_is_caught(method: str, spoil: Any, reason: str) -> None:
    """The answers of the estimator count, not those that a converter expects of its class."""
    estimator = fit(logistic())
    honest = getattr(estimator, method)
    setattr(estimator, method, lambda rows: spoil(honest(rows)))

    with pytest.raises((CompileError, UnansweredError), match=reason):
        compile_iris(estimator)


def test_a_clear_vote_for_another_class_is_no_tie() -> None:
    """Ties are few, and a forest alone does not pass for a vote with others."""
    estimator = fit(CLASSIFIERS["soft voting with a forest"][0])

    proof = compile_iris(estimator).proof

    assert proof.ties < proof.rows / 100
    with pytest.raises(CompileError, match="labels differ"):
        convert_and_prove(fit(forest()), ask(estimator, fresh_rows()))


@pytest.mark.parametrize(
    "classifier",
    [forest(100), GradientBoostingClassifier(random_state=0), BaggingClassifier(random_state=0)],
    ids=kind,
)
def test_every_split_is_probed_on_both_sides(classifier: Any) -> None:
    """Each threshold of each tree, and its neighbours in both precisions, is among the rows."""
    estimator = fit(classifier)

    rows = sample_iris(estimator)

    probed = [set(column) for column in rows.T.tolist()]
    for tree in (each.tree_ for each in np.ravel(estimator.estimators_)):
        for feature, exact in zip(tree.feature, tree.threshold, strict=True):
            for value in (exact, np.float32(exact)) if feature >= 0 else ():
                sides = np.nextafter(value, np.array([0, 100], dtype=value.dtype))
                assert {float(value), *sides.tolist()} <= probed[feature]


def test_the_rows_on_a_split_come_to_it() -> None:
    """The other features of a split's rows are such that the rows reach the split."""
    estimator = fit(ExtraTreesClassifier(20, random_state=0))

    rows = sample_iris(estimator)

    for tree in (each.tree_ for each in estimator.estimators_):
        comes = tree.decision_path(rows.astype(np.float32)).tocsc()
        for node in np.flatnonzero(tree.feature >= 0):
            values = rows[comes[:, node].indices, tree.feature[node]]
            assert tree.threshold[node] in values


def test_a_huge_forest_is_sampled_and_the_proof_says_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Above the limit that many splits are drawn, always the same, and the rows are counted."""
    estimator = fit(forest())
    without_trees = compile_iris(fit(logistic())).proof.rows
    monkeypatch.setattr(sampling, "MAX_SPLITS", 10)

    proofs = [compile_iris(estimator).proof for _ in range(2)]

    assert proofs[0].rows == without_trees + 6 * 10 + 2 * sampling.BOUNDARIES
    assert proofs[0] == proofs[1]


@pytest.mark.parametrize(
    ("classifier", "rounds"),
    [
        (DecisionTreeClassifier(random_state=0), True),
        (forest(), True),
        (GradientBoostingClassifier(random_state=0), True),
        (HistGradientBoostingClassifier(max_iter=3), False),
    ],
    ids=lambda value: value if isinstance(value, bool) else kind(value),
)
def test_which_trees_round_to_float32(classifier: Any, *, rounds: bool) -> None:
    """The cast to float32 loses nothing for scikit-learn's trees, save for histogram boosting."""
    estimator = fit(classifier)
    rows = sample_iris(estimator)

    exact = estimator.predict_proba(rows)
    rounded = estimator.predict_proba(rows.astype(np.float32).astype(np.float64))

    assert np.array_equal(exact, rounded) is rounds


def test_the_search_for_decision_boundaries_ends_at_neighbors() -> None:
    """After a scaler, rows are pairs of neighbors on two sides of a decision boundary."""
    estimator = fit(scaled(DecisionTreeClassifier(random_state=0)))

    rows = sample_iris(estimator)

    low, high = rows[-2 * sampling.BOUNDARIES :].reshape(2, sampling.BOUNDARIES, 4)
    step = (estimator.predict_proba(low) != estimator.predict_proba(high)).any(axis=1)
    assert step.sum() > sampling.BOUNDARIES / 2
    assert np.abs(high[step] - low[step]).max() <= 2 * np.spacing(RANGES.max())

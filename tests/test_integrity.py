"""Numbers that compiled code would follow out of its arrays are found before a prediction."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.image import PatchExtractor
from sklearn.feature_extraction.text import (
    CountVectorizer,
    HashingVectorizer,
    TfidfVectorizer,
)
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    SplineTransformer,
    TargetEncoder,
)
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from support.saved_models import SPECIES, Copy, X, edited, opened, problem, text_node, y

from iris_api.vetting import integrity

TREE = DecisionTreeClassifier(max_depth=2)
FOREST = RandomForestClassifier(2)
BOOSTING = GradientBoostingClassifier(n_estimators=2)
HISTOGRAMS = HistGradientBoostingClassifier(max_iter=1)
NEIGHBORS = KNeighborsClassifier()
BALL_TREE = KNeighborsClassifier(algorithm="ball_tree")
BRUTE_FORCE = KNeighborsClassifier(algorithm="brute")


def _node(field: str, value: int) -> Callable[[Any], Any]:
    """Change the root of a decision tree."""
    return lambda e: e.tree_.__getstate__()["nodes"][field].__setitem__(0, value)


def _bin_node(field: str, value: int) -> Callable[[Any], Any]:
    """Change the root of a tree of histogram boosting."""
    return lambda e: e._predictors[0][0].nodes[field].__setitem__(0, value)  # noqa: SLF001


def _search_tree(e: Any, part: int) -> Any:
    return e._tree.__getstate__()[part]  # noqa: SLF001


def _mask_search_tree(e: Any) -> None:
    state = list(e._tree.__getstate__())  # noqa: SLF001
    state[1] = np.ma.MaskedArray(state[1])
    e._tree.__setstate__(tuple(state))  # noqa: SLF001


def _wide_tree() -> Any:
    return DecisionTreeClassifier().fit(np.hstack([X, X]), y)


@pytest.mark.parametrize(
    ("estimator", "change"),
    [
        (TREE, _node("left_child", 10**9)),
        (TREE, _node("right_child", -7)),
        (TREE, _node("left_child", 0)),
        (TREE, _node("feature", 4)),
        (FOREST, lambda e: e.estimators_.__setitem__(1, _wide_tree())),
        (BOOSTING, lambda e: setattr(e, "estimators_", np.hstack([e.estimators_] * 9))),
        (HISTOGRAMS, _bin_node("left", 10**6)),
        (HISTOGRAMS, _bin_node("right", 0)),
        (HISTOGRAMS, _bin_node("feature_idx", -1)),
        (HISTOGRAMS, _bin_node("is_categorical", 1)),
        (SVC(), lambda e: e._n_support.__setitem__(0, 10**6)),  # noqa: SLF001
        (SVC(), lambda e: setattr(e, "_intercept_", np.zeros(1))),
        (SVC(), lambda e: setattr(e, "_dual_coef_", np.zeros((1, 1)))),
        (SVC(), lambda e: setattr(e, "_effective_probability", True)),
        (BRUTE_FORCE, lambda e: e._y.__setitem__(0, 10**6)),  # noqa: SLF001
        (NEIGHBORS, lambda e: _search_tree(e, 1).__setitem__(0, 10**6)),
        (NEIGHBORS, lambda e: _search_tree(e, 2)["idx_end"].__setitem__(0, 10**6)),
        (NEIGHBORS, _mask_search_tree),
        (BALL_TREE, lambda e: _search_tree(e, 2)["is_leaf"].__setitem__(-1, 0)),
    ],
)
def test_number_that_compiled_code_would_follow(
    copied: Copy, estimator: Any, change: Callable[[Any], Any]
) -> None:
    """An index or a shape that leads out of an array is found before a prediction follows it."""
    change(estimator.fit(X, SPECIES))

    assert problem(copied(model=skops.io.dumps(estimator))) == _inconsistent(estimator)


ROUNDED = np.round(X)
RARE = {"min_frequency": 10, "handle_unknown": "infrequent_if_exist"}
FIRST = {"drop": "first"}


def _second_categories(values: Any) -> Callable[[Any], Any]:
    return lambda e: e.categories_.__setitem__(1, values)


@pytest.mark.parametrize(
    ("encoder", "change"),
    [
        *(
            (encoder, _second_categories(values))
            for encoder in (OneHotEncoder(), OrdinalEncoder(), TargetEncoder())
            for values in (np.array([4.0, 2.0, 3.0]), np.array([2, 3, 3]))
        ),
        (OneHotEncoder(), _second_categories(np.array([np.nan, 2.0, 3.0]))),
        (OneHotEncoder(), lambda e: setattr(e, "_n_features_outs", np.array([5, 3, 7, 3]))),
        (OneHotEncoder(**RARE), lambda e: setattr(e, "_infrequent_indices", [np.array([99])] * 4)),
        (OneHotEncoder(**RARE), lambda e: setattr(e, "_infrequent_enabled", False)),
        (OneHotEncoder(**FIRST), lambda e: e._drop_idx_after_grouping.__setitem__(1, 0.5)),  # noqa: SLF001
        (
            OneHotEncoder(**FIRST),
            lambda e: setattr(e, "_drop_idx_after_grouping", np.zeros((4, 1), dtype=int)),
        ),
    ],
)
def test_encoder_that_does_not_fit_its_categories(
    copied: Copy, encoder: Any, change: Callable[[Any], Any]
) -> None:
    """A category is found by bisection, and its place fills a matrix without a check."""
    estimator = make_pipeline(encoder, GaussianNB())
    if isinstance(encoder, OneHotEncoder):
        encoder.set_params(sparse_output=False)
    change(estimator.fit(ROUNDED, y)[0])

    assert problem(copied(model=skops.io.dumps(estimator))) == _inconsistent(encoder)


@pytest.mark.parametrize(
    "encoder",
    [
        OneHotEncoder(sparse_output=False, handle_unknown="ignore"),
        OneHotEncoder(sparse_output=False, **RARE),
        OneHotEncoder(sparse_output=False, handle_unknown="ignore", drop="first"),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        TargetEncoder(),
    ],
)
def test_sound_encoder(encoder: Any) -> None:
    """Categories as scikit-learn has them are accepted, a missing one the last."""
    missing = ROUNDED.copy()
    missing[::9] = np.nan
    for table in (ROUNDED, missing, missing > 3, np.where(missing > 3, "a", "b").astype(object)):
        integrity.check(clone(encoder).fit(table, y))


MASKED = "the model has a masked array, or one of another unusual type"


@pytest.mark.parametrize(
    "counts",
    [
        np.ma.MaskedArray(np.array([10**6, 150, 0], dtype=np.int32), mask=[True, False, False]),
        np.zeros(3, dtype=np.int32).view(np.recarray),
    ],
)
def test_array_of_another_type(counts: Any) -> None:
    """A masked array would hide numbers from their checks, wherever it is."""
    svc = SVC().fit(X, SPECIES)
    vars(svc)["_n_support"] = counts

    with pytest.raises(ValueError, match=MASKED):
        integrity.check(svc)


def test_masked_array_in_an_array(copied: Copy) -> None:
    """The elements of an array of objects are checked, masked ones as well."""
    forest = RandomForestClassifier(2).fit(X, SPECIES)
    forest.estimators_ = np.array([*forest.estimators_, None], dtype=object)
    forest.estimators_[2] = np.ma.MaskedArray([1])

    assert problem(copied(model=skops.io.dumps(forest))) == f"{MASKED}; train and register it again"


@pytest.mark.parametrize(
    "search",
    [
        GridSearchCV(SVC(), [{"C": [0.1, 1]}, {"kernel": ["linear"]}], cv=2),
        RandomizedSearchCV(SVC(), {"C": [0.1, 1]}, n_iter=2, cv=2),
    ],
)
def test_masked_results_of_a_search(copied: Copy, search: Any) -> None:
    """A search has masked arrays in its results alone, which no prediction needs."""
    fitted = search.fit(X, SPECIES)

    estimator = opened(copied(model=skops.io.dumps(fitted)))

    assert not hasattr(estimator, "cv_results_")
    assert (estimator.predict(X) == fitted.predict(X)).all()


@pytest.mark.parametrize(
    "vectorizer",
    [
        CountVectorizer(),
        TfidfVectorizer(),
        HashingVectorizer(),
        DictVectorizer(),
        FeatureHasher(),
        PatchExtractor(),
    ],
)
def test_part_that_takes_no_rows(vectorizer: Any) -> None:
    """A vocabulary is a place to write to, so that parts of documents are rejected."""
    columns = ColumnTransformer([("documents", vectorizer, 0)])

    with pytest.raises(
        ValueError, match=f"{type(vectorizer).__name__} takes texts, images or dict"
    ):
        integrity.check(make_pipeline(columns, GaussianNB()))


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("_t", np.arange(6.0)),
        ("_t", np.arange(10.0)[::-1].copy()),
        ("_t", np.arange(10, dtype=np.float32)),
        ("_t", np.array([*range(9), np.nan])),
        ("_c", np.eye(3)),
        ("_c", np.ones(9)),
        ("k", -1),
        ("k", 10**6),
        ("k", "3"),
    ],
)
def test_spline_that_does_not_fit_its_knots(copied: Copy, attribute: str, value: Any) -> None:
    """A spline is checked wherever it is: its knots, its coefficients and its degree."""
    estimator = make_pipeline(SplineTransformer(), GaussianNB()).fit(X, SPECIES)
    spline = estimator[0].bsplines_[1]
    vars(spline)[attribute] = value

    assert problem(copied(model=skops.io.dumps(estimator))) == _inconsistent(spline)


def test_part_with_narrower_rows_than_its_own(copied: Copy) -> None:
    """Clusters and outlier detectors give rows to compiled code, which trusts their width."""
    voting = VotingClassifier([("tree", TREE)]).fit(X, SPECIES)
    clusters, outliers = KMeans(3, n_init=1).fit(X), IsolationForest(n_estimators=2).fit(X)
    clusters.cluster_centers_ = np.ones((3, 9))
    for part, expected in (
        (clusters, _inconsistent(clusters)),
        (
            outliers,
            "IsolationForest finds outliers, and predicts no labels; train and register it again",
        ),
    ):
        voting.estimators_ = [part]

        assert problem(copied(model=skops.io.dumps(voting), to=type(part).__name__)) == expected


def test_function_that_writes_into_the_model(copied: Copy) -> None:
    """A function cannot be given an array of the model for its result."""
    svc = SVC().fit(X, SPECIES)
    writing = FunctionTransformer(
        np.abs, kw_args={"out": vars(svc)["_n_support"], "casting": "unsafe"}
    )
    pipeline = Pipeline([("writing", writing), ("svc", svc)])

    assert problem(copied(model=skops.io.dumps(pipeline))) == (
        "a function is given an array for its result; train and register it again"
    )


def test_fewer_nodes_than_counted(copied: Copy) -> None:
    """The count of a tree's nodes is the length of its arrays."""
    tree = DecisionTreeClassifier(max_depth=2).fit(X, SPECIES)

    def count(state: dict[str, Any]) -> None:
        state["tree_"]["content"]["content"]["node_count"] = text_node(1)

    assert problem(copied(model=edited(tree, count))) == _inconsistent(tree)


@pytest.mark.parametrize(
    ("first", "problem_"),
    [
        (DummyClassifier().fit(X, y > 0), "of other classes"),
        (GaussianNB().fit(X, y > 0), "of other classes"),
        (GaussianNB().fit(X[:, :2], y), "that answers with an error"),
        (GaussianNB(), "that answers with an error"),
    ],
)
def test_initial_scores(copied: Copy, first: Any, problem_: str) -> None:
    """The scores that boosting begins with have a column for each class."""
    estimator = GradientBoostingClassifier(n_estimators=2).fit(X, SPECIES)
    estimator.init_ = first

    assert problem(copied(model=skops.io.dumps(estimator))) == (
        f"GradientBoostingClassifier begins with a {type(first).__name__} {problem_}; "
        "train and register it again"
    )


def _inconsistent(estimator: Any) -> str:
    name = type(estimator).__name__
    return f"{name} has indices or shapes that do not fit each other; train and register it again"

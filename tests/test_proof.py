"""The proof finds every kind of mistake, because its rows are where mistakes would show."""

import copy
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import CategoricalNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    KBinsDiscretizer,
    MinMaxScaler,
    OrdinalEncoder,
    PolynomialFeatures,
    StandardScaler,
)
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from support.estimators import ESTIMATORS
from support.irises import (
    CLASSIFIERS,
    IRIS,
    ROWS,
    compile_iris,
    fit,
    forest,
    kind,
    logistic,
    sample_iris,
    scaled,
)
from support.mutations import choose_last, survivors

from iris_api.compiling.converters.lookup import convert
from iris_api.compiling.proof import CompileError, Reference, UnansweredError, ask, prove
from iris_api.compiling.sampling import edges
from iris_api.compiling.sampling.domain import Domain
from iris_api.compiling.sampling.rows import sample_rows
from iris_api.model.engines import open_session

TWO = np.where(IRIS.target == 1, 1, 0)


def reference(estimator: Any, *, missing: bool = False) -> Reference:
    """Ask an estimator the rows of its proof."""
    return ask(estimator, sample_iris(estimator, missing=missing))


def not_found(estimator: Any, each: int, kinds: int) -> list[str]:
    """Return the mistakes in the graph of an estimator that its proof does not find."""
    missing = isinstance(estimator, HistGradientBoostingClassifier)
    answers = reference(estimator, missing=missing)
    return survivors(convert(estimator), answers, each, kinds, missing=missing)


MUTATED = {
    "logistic regression": 7,
    "tree": 6,
    "bins > logistic regression": 10,
    "clipped range > logistic regression": 7,
    "binarizer > logistic regression": 8,
    "linear SVC": 6,
    "Bernoulli Bayes": 8,
    "perceptron of layers": 8,
    "histogram boosting": 8,
    "gradient boosting": 7,
    "standard > forest": 9,
    "soft voting": 11,
    "SVC, rbf": 6,
    "sigmoid of svc, one": 7,
    "Gaussian Bayes": 8,
    "multinomial Bayes": 7,
    "quadratic discriminant": 7,
    "linear discriminant": 7,
    "AdaBoost": 8,
    "one against one": 7,
    "stacking": 11,
    "polynomials > logistic regression": 8,
}
"""Kinds of estimators that are computed in different ways, and the kinds of mistakes in each."""

FEWER = dict.fromkeys(list(MUTATED)[14:], 3)
"""Graphs of each mistake in the kinds that are computed like parts of the others."""

MUTATED_CLASSES = {
    (name, classes) for name in MUTATED for classes in ("two classes", "three classes")
} - {
    ("multinomial Bayes", "three classes"),  # a prior that is the same for all
    ("one against one", "two classes"),  # its score has no limit but 0
    ("stacking", "two classes"),  # the column of the first class is not read
}
"""Without those whose graphs have numbers on which no answer depends."""


HARMLESS = {
    # What scales the small part of a score that decides between equal votes changes no order.
    "one against one": {"a constant is off by 1e-6"},
    "SVC, rbf": {"a constant is off by 1e-6"},
    "sigmoid of svc, one": {"a constant is off by 1e-6", "a normalisation is left out"},
    # A split between two others of its path, or of a leaf without a row, decides nothing.
    "soft voting": {"a split is moved", "a tie of a split is turned"},
}
"""Mistakes that change no answer in some place of a graph."""


@pytest.mark.parametrize("name", list(MUTATED)[:8])
def test_a_mistake_of_each_kind_is_found(name: str) -> None:
    """One graph with each mistake that is possible in it does not pass."""
    assert not_found(fit(ESTIMATORS[name]), 1, MUTATED[name]) == []


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("name", "classes"), sorted(MUTATED_CLASSES))
def test_mistakes_in_many_places_are_found(name: str, classes: str) -> None:
    """Graphs with one mistake in one of many places do not pass."""
    estimator = fit(ESTIMATORS[name], TWO if classes == "two classes" else IRIS.target)

    found = not_found(estimator, FEWER.get(name, 10), MUTATED[name])

    assert set(found) <= HARMLESS.get(name, set())


def equally_boosted() -> AdaBoostClassifier:
    """Return AdaBoost of lines whose votes count the same, so that they can be equal."""
    estimator = fit(AdaBoostClassifier(logistic(), n_estimators=6, random_state=0))
    estimator.estimator_weights_[:] = 1.0
    return estimator


def calibrated_in_halves() -> CalibratedClassifierCV:
    """Return an isotonic calibration that answers 0, one half or 1 to most scores of a forest."""
    estimator = fit(CalibratedClassifierCV(forest(), method="isotonic", ensemble=False), TWO)
    [isotonic] = estimator.calibrated_classifiers_[0].calibrators
    halves = np.linspace(0, 2, len(isotonic.y_thresholds_)).round() / 2
    isotonic.y_thresholds_ = halves
    isotonic._build_f(isotonic.X_thresholds_, halves)  # noqa: SLF001 (it has no other way)
    return estimator


@pytest.mark.parametrize(
    "estimator",
    [
        fit(forest(), TWO),
        fit(BaggingClassifier(random_state=0), TWO),
        fit(BaggingClassifier(LinearSVC(random_state=0), random_state=0), TWO),
        calibrated_in_halves(),
        fit(CLASSIFIERS["hard voting"][0]),
        equally_boosted(),
    ],
    ids=kind,
)
def test_the_other_class_of_a_tied_vote_is_found(estimator: Any) -> None:
    """Votes are counted, not computed: of two equal ones, the first class is the right one."""
    answers, right = reference(estimator), convert(estimator)

    prove(open_session(right.SerializeToString()), answers)
    with pytest.raises(CompileError, match="labels differ"):
        prove(open_session(choose_last(right).SerializeToString()), answers)


def test_probabilities_of_tied_labels_are_compared() -> None:
    """Rounding turns a label, and never a probability by more than the limit."""
    estimator = fit(logistic(), TWO)
    answers = reference(estimator)
    probabilities = answers.numbers
    assert probabilities is not None
    tied = np.flatnonzero(np.abs(probabilities[:, 0] - 0.5) < 1e-13)[0]
    probabilities[tied] += [2e-9, -2e-9]

    with pytest.raises(CompileError, match=r"^1 of \d+ probabilities differ"):
        prove(open_session(convert(estimator).SerializeToString()), answers)


def bins() -> KBinsDiscretizer:
    """Return a step that was wrong beside its edges."""
    return KBinsDiscretizer(5, encode="ordinal", quantile_method="averaged_inverted_cdf")


FAULTY = {
    "binarizer": (make_pipeline(Binarizer(threshold=1.7), logistic()), DoubleTensorType),
    "bins before Bayes": (make_pipeline(bins(), CategoricalNB()), FloatTensorType),
    "bins": (make_pipeline(bins(), logistic()), FloatTensorType),
    "bins in a vote": (
        VotingClassifier(
            [("bins", make_pipeline(bins(), logistic())), ("bayes", GaussianNB())],
            voting="soft",
            flatten_transform=False,
        ),
        FloatTensorType,
    ),
    "bins of columns": (
        make_pipeline(
            ColumnTransformer([("bins", bins(), [0, 2])], remainder="passthrough"), logistic()
        ),
        FloatTensorType,
    ),
    "ordinals": (
        make_pipeline(
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), logistic()
        ),
        FloatTensorType,
    ),
    "polynomials": (
        make_pipeline(StandardScaler(), PolynomialFeatures(2), logistic()),
        FloatTensorType,
    ),
    "clipping before neighbours": (
        make_pipeline(MinMaxScaler(clip=True), KNeighborsClassifier()),
        DoubleTensorType,
    ),
    "calibrated pipeline": (CalibratedClassifierCV(scaled(logistic()), cv=2), DoubleTensorType),
    "forest": (forest(), DoubleTensorType),
}
"""Estimators that skl2onnx and onnxruntime answer wrongly, without an error, in the best precision
that they have for them."""


@pytest.mark.filterwarnings("ignore")  # of skl2onnx
@pytest.mark.parametrize(
    ("name", "labels"),
    [*((name, IRIS.target) for name in FAULTY), ("forest", TWO)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_faults_of_other_converters_are_found(name: str, labels: NDArray[Any]) -> None:
    """Graphs that skl2onnx makes, which answer something else in places, do not pass."""
    classifier, type_ = FAULTY[name]
    estimator = fit(classifier, labels)
    model = to_onnx(
        estimator, initial_types=[("rows", type_([None, 4]))], options={"zipmap": False}
    )
    session = open_session(model.SerializeToString())

    class Cast:
        def run(self, names: Any, inputs: dict[str, NDArray[Any]]) -> Any:
            dtype = np.float64 if type_ is DoubleTensorType else np.float32
            return session.run(names, {"rows": inputs["rows"].astype(dtype)})

    with pytest.raises(CompileError, match="differ from scikit-learn's"):
        prove(Cast(), reference(estimator))


def test_almost_the_same_estimator_is_caught() -> None:
    """A graph of an estimator that was regularized a little more does not pass."""
    right, wrong = fit(logistic()), fit(LogisticRegression(C=0.99, max_iter=1000))

    with pytest.raises(CompileError, match="differ"):
        prove(open_session(convert(wrong).SerializeToString()), reference(right))


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
        pytest.param("predict_proba", lambda a: a + 2e-9, "probabilities differ", id="probability"),
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


def test_labels_that_rounding_decides_are_counted() -> None:
    """Only between neighbours may another label be a tie; a forest for a vote is none."""
    estimator = fit(CLASSIFIERS["soft voting with a forest"][0])

    proof = compile_iris(estimator).proof

    assert proof.ties < proof.rows / 100
    with pytest.raises(CompileError, match="labels differ"):
        prove(open_session(convert(fit(forest())).SerializeToString()), reference(estimator))


def test_a_classifier_of_ties_alone_is_not_proved() -> None:
    """Where rounding decides every label, nothing can be said of the labels."""
    estimator = fit(logistic())
    estimator.coef_[:] = estimator.intercept_[:] = 0.0
    other = copy.deepcopy(estimator)
    other.intercept_[1] = 1e-15

    with pytest.raises(CompileError, match="are ties with another answer"):
        prove(open_session(convert(other).SerializeToString()), reference(estimator))


def test_numbers_as_programs_make_them_are_probed() -> None:
    """The rows have rounding errors, zeros of both signs, the smallest numbers, and none at all."""
    rows = sample_iris(fit(HistGradientBoostingClassifier(max_iter=3)), missing=True).rows

    tenths = np.arange(1, 100)
    inexact = set((tenths * 0.1)[tenths * 0.1 != tenths / 10].tolist())
    assert 17 * 0.1 in inexact
    for column in rows.T:
        zeros = column[column == 0]
        assert 2.0**-1074 in column
        assert set(np.signbit(zeros).tolist()) == {False, True}
        assert np.isnan(column).any()
        assert len(inexact & set(column.tolist())) > 5


@pytest.mark.parametrize(
    "classifier",
    [forest(), GradientBoostingClassifier(n_estimators=20), BaggingClassifier(random_state=0)],
    ids=kind,
)
def test_every_split_is_probed_on_both_sides(classifier: Any) -> None:
    """Each threshold of each tree, and its neighbours in both precisions, is among the rows."""
    estimator = fit(classifier)

    rows = sample_iris(estimator).rows

    probed = [set(column) for column in rows.T.tolist()]
    for tree in (each.tree_ for each in np.ravel(estimator.estimators_)):
        for feature, exact in zip(tree.feature, tree.threshold, strict=True):
            for value in (exact, np.float32(exact)) if feature >= 0 else ():
                sides = np.nextafter(value, np.array([0, 100], dtype=value.dtype))
                assert {float(value), *sides.tolist()} <= probed[feature]


@pytest.mark.parametrize("scaler", [None, StandardScaler()], ids=["bare", "scaled"])
def test_the_rows_on_a_split_come_to_it(scaler: Any) -> None:
    """Rows on both sides of each split, and nearest to it, come to it, also after a scaler."""
    estimator = fit(make_pipeline(scaler, ExtraTreesClassifier(20, random_state=0)))

    rows = sample_iris(estimator).rows

    given = estimator[:-1].transform(rows).astype(np.float32)
    for tree in (each.tree_ for each in estimator[-1].estimators_):
        comes = tree.decision_path(given).tocsc()
        for node in np.flatnonzero(tree.feature >= 0):
            values = given[comes[:, node].indices, tree.feature[node]]
            below = values[values <= tree.threshold[node]].max()
            above = values[values > tree.threshold[node]].min()
            assert above == np.nextafter(below, np.float32(np.inf))


@pytest.mark.parametrize(
    ("step", "column", "edge"),
    [
        (Binarizer(threshold=1.7), 2, 1.7),
        (bins(), 1, fit(make_pipeline(bins()))[0].bin_edges_[1][2]),
        (MinMaxScaler(clip=True), 3, 2.5),
        (ColumnTransformer([("bins", bins(), [1])]), 1, fit(bins()).bin_edges_[1][2]),
        (make_pipeline("passthrough", Binarizer(threshold=1.7)), 2, 1.7),
    ],
    ids=kind,
)
def test_the_edges_of_steps_are_probed_on_both_sides(step: Any, column: int, edge: float) -> None:
    """Each threshold that a step compares with is among the rows, with its neighbours."""
    rows = sample_iris(fit(make_pipeline(step, logistic()))).rows

    below, above = np.nextafter(edge, [-np.inf, np.inf])
    assert {below, edge, above} <= set(rows[:, column].tolist())


def test_a_huge_forest_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit that many splits are drawn, always the same, and the rows are counted."""
    estimator = fit(forest())
    monkeypatch.setattr(edges, "MAX_EDGES", 10)

    drawn = [
        edges.edge_rows(estimator, ROWS, np.zeros(4, dtype=np.bool_), np.random.default_rng(0))
        for _ in range(2)
    ]

    assert drawn[0].shape == (90, 4)
    assert np.array_equal(drawn[0], drawn[1])


def test_missing_values_make_no_infinite_rows() -> None:
    """A forest that was fitted with missing values has infinite splits, and is proved."""
    rows = ROWS.copy()
    rows[np.random.default_rng(0).random(rows.shape) < 0.3] = np.nan
    estimator = RandomForestClassifier(20, random_state=0).fit(rows, IRIS.target)
    splits = np.concatenate([each.tree_.threshold for each in estimator.estimators_])

    proof = compile_iris(estimator).proof

    assert np.isinf(splits).any()
    assert proof.steps > 100


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
    rows = sample_iris(estimator).rows

    exact = estimator.predict_proba(rows)
    rounded = estimator.predict_proba(rows.astype(np.float32).astype(np.float64))

    assert np.array_equal(exact, rounded) is rounds


def test_lines_end_at_neighbours_between_which_the_label_steps() -> None:
    """The last rows are pairs of neighbours; where labels change, they do so between the two."""
    estimator = fit(logistic())

    sample = sample_iris(estimator)

    one, other = (sample.rows[pair] for pair in sample.pairs)
    steps = estimator.predict(one) != estimator.predict(other)
    assert steps.sum() > 500
    assert np.abs(one - other).max() <= np.spacing(100.0)


def test_columns_of_all_magnitudes() -> None:
    """Any number of columns is sampled in all of their ranges, in bounded time and memory."""
    rng = np.random.default_rng(0)
    columns = 500
    size = 10.0 ** rng.integers(-6, 7, columns)
    training = rng.uniform(-1, 1, (200, columns)) * size
    labels = (training / size)[:, :5].sum(axis=1) > 0
    estimator = make_pipeline(StandardScaler(), logistic()).fit(training, labels.astype(int))
    usual = np.column_stack([training.min(axis=0), training.max(axis=0)])
    start = time.process_time()

    sample = sample_rows(
        estimator,
        Domain(usual, 100 * usual, *np.zeros((2, columns), dtype=np.bool_)),
        training[:0],
        seed=0,
    )
    proof = prove(open_session(convert(estimator).SerializeToString()), ask(estimator, sample))

    assert time.process_time() - start < 20
    assert sample.rows.size < 10_000_000
    assert proof.steps > 500
    beyond = (sample.rows < usual[:, 0]) | (sample.rows > usual[:, 1])
    assert beyond.any(axis=0).all()

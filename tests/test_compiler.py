"""Every common classifier either compiles to the very answers of scikit-learn, or says why not."""

import copy
import json
import pickle
import warnings
from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    PassiveAggressiveClassifier,
    Perceptron,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.naive_bayes import (
    BernoulliNB,
    CategoricalNB,
    ComplementNB,
    GaussianNB,
    MultinomialNB,
)
from sklearn.neighbors import (
    KNeighborsClassifier,
    NearestCentroid,
    RadiusNeighborsClassifier,
)
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    PolynomialFeatures,
    StandardScaler,
)
from sklearn.semi_supervised import LabelSpreading
from sklearn.svm import SVC, LinearSVC, NuSVC
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier

from iris_api import probe
from iris_api.compiler import Compiled, CompileError, compile_classifier, convert_and_prove
from iris_api.onnx_session import open_session
from iris_api.proof import PROBABILITY_LIMIT, consult

IRIS = load_iris()
ROWS: NDArray[np.float64] = IRIS.data
SPECIES: NDArray[Any] = IRIS.target_names[IRIS.target]
RANGES = np.column_stack([ROWS.min(axis=0), ROWS.max(axis=0)])


def logistic() -> LogisticRegression:
    """Make one that converges without a warning."""
    return LogisticRegression(max_iter=1000)


def forest(trees: int = 20) -> RandomForestClassifier:
    """Make one that is the same in each run."""
    return RandomForestClassifier(trees, random_state=0)


def scaled(classifier: Any) -> Any:
    """Put a scaler in front."""
    return make_pipeline(StandardScaler(), classifier)


def kind(parameter: Any) -> str:
    """Name a parameter of a test by its class."""
    last = parameter[-1] if isinstance(parameter, Pipeline) else parameter
    return type(last).__name__ if last is parameter else f"scaled {type(last).__name__}"


PAIR = [("logistic", logistic()), ("bayes", GaussianNB())]

# Each classifier with the precision that it compiles in, or None where scikit-learn stays: what
# changes here is what a new scikit-learn, skl2onnx or onnxruntime brings.
CLASSIFIERS: dict[str, tuple[Any, str | None]] = {
    "logistic regression": (logistic(), "float64"),
    "logistic regression with cross-validation": (
        LogisticRegressionCV(
            cv=3, max_iter=1000, l1_ratios=(0,), use_legacy_attributes=False, scoring="accuracy"
        ),
        "float64",
    ),
    "ridge": (RidgeClassifier(), "float32"),
    "SGD, hinge": (SGDClassifier(random_state=0), "float64"),
    "SGD, log loss": (SGDClassifier(loss="log_loss", random_state=0), None),
    "perceptron": (Perceptron(random_state=0), "float64"),
    "passive aggressive": (PassiveAggressiveClassifier, "float64"),
    "linear SVC": (LinearSVC(random_state=0), "float32"),
    "SVC": (SVC(), "float64"),
    "SVC with probabilities": (SVC(probability=True, random_state=0), "float64"),
    "nu SVC": (NuSVC(), "float64"),
    "Gaussian naive Bayes": (GaussianNB(), "float64"),
    "Bernoulli naive Bayes": (BernoulliNB(binarize=2.0), "float64"),
    "multinomial naive Bayes": (MultinomialNB(), "float64"),
    "complement naive Bayes": (ComplementNB(), "float64"),
    "categorical naive Bayes": (CategoricalNB(min_categories=101), "float64"),
    "linear discriminant": (LinearDiscriminantAnalysis(), "float64"),
    "quadratic discriminant": (QuadraticDiscriminantAnalysis(), "float64"),
    "nearest neighbours": (KNeighborsClassifier(), None),
    "nearest neighbours by distance": (KNeighborsClassifier(weights="distance"), None),
    "radius neighbours": (RadiusNeighborsClassifier(radius=1.0), None),
    "radius neighbours, all": (RadiusNeighborsClassifier(radius=1000.0), "float64"),
    "nearest centroid": (NearestCentroid(), None),
    "decision tree": (DecisionTreeClassifier(random_state=0), "float32"),
    "extra tree": (ExtraTreeClassifier(random_state=0), "float32"),
    "random forest": (forest(100), "float32"),
    "extra trees": (ExtraTreesClassifier(50, random_state=0), "float32"),
    "gradient boosting": (GradientBoostingClassifier(random_state=0), "float32"),
    "histogram boosting": (HistGradientBoostingClassifier(max_iter=3), None),
    "AdaBoost": (AdaBoostClassifier(n_estimators=20, random_state=0), "float32"),
    "bagged trees": (BaggingClassifier(random_state=0), "float32"),
    "bagged trees on parts of the features": (
        BaggingClassifier(max_features=0.5, random_state=0),
        "float32",
    ),
    "bagged logistic regressions": (BaggingClassifier(logistic(), random_state=0), "float64"),
    "hard voting": (VotingClassifier(PAIR), "float64"),
    "soft voting": (VotingClassifier(PAIR, voting="soft"), "float64"),
    "soft voting with a forest": (
        VotingClassifier([*PAIR, ("forest", forest())], voting="soft"),
        "float32",
    ),
    "stacking": (StackingClassifier(PAIR, final_estimator=logistic()), "float64"),
    "multi-layer perceptron": (scaled(MLPClassifier(max_iter=2000, random_state=0)), "float64"),
    "Gaussian process": (GaussianProcessClassifier(), None),
    "calibrated": (CalibratedClassifierCV(LinearSVC(random_state=0)), "float64"),
    "one versus rest": (OneVsRestClassifier(logistic()), None),
    "one versus one": (OneVsOneClassifier(logistic()), "float64"),
    "output code": (OutputCodeClassifier(logistic(), random_state=0), None),
    "label spreading": (LabelSpreading(), None),
    "dummy": (DummyClassifier(), None),
    "scaled logistic regression": (scaled(logistic()), "float64"),
    "polynomial logistic regression": (
        make_pipeline(PolynomialFeatures(2, include_bias=False), scaled(logistic())),
        "float64",
    ),
    "scaled decision tree": (scaled(DecisionTreeClassifier(random_state=0)), "float64"),
    "scaled forest": (scaled(forest()), "float64"),
    "scaled gradient boosting": (scaled(GradientBoostingClassifier(random_state=0)), "float64"),
    "scaled AdaBoost": (scaled(AdaBoostClassifier(n_estimators=10, random_state=0)), None),
    "columns": (
        make_pipeline(
            ColumnTransformer(
                [("standard", StandardScaler(), [3, 0]), ("unit", MinMaxScaler(), [1, 2])]
            ),
            logistic(),
        ),
        "float64",
    ),
    "grid search": (GridSearchCV(scaled(logistic()), {"logisticregression__C": [1, 9]}), "float64"),
    "grid search of forests": (GridSearchCV(forest(), {"max_depth": [2, None]}), "float32"),
}


def fit(classifier: Any, labels: NDArray[Any] = SPECIES) -> Any:
    """Fit a copy of a classifier on the iris rows."""
    return copy.deepcopy(classifier).fit(ROWS, labels)


def compile_iris(estimator: ClassifierMixin, **options: Any) -> Compiled:
    """Compile with the ranges of the iris rows."""
    return compile_classifier(estimator, ranges=RANGES, **options)


def fresh_rows(seed: int = 20) -> NDArray[np.float64]:
    """Make rows that the proof has not seen, behind the iris rows themselves."""
    rng = np.random.default_rng(seed)
    low, high = RANGES.T
    within = rng.uniform(low, high, (2000, 4))
    return np.vstack([ROWS, within, within.round(1), rng.uniform(0, 100, (2000, 4))])


def assert_same_answers(estimator: Any, compiled: Compiled, rows: NDArray[np.float64]) -> None:
    """Check all rows at once, and the first one alone, without the help of the proof."""
    session = open_session(compiled.model)
    cast = rows.astype(compiled.proof.precision)
    got = session.run(None, {"rows": cast})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # overflows at 100 cm
        labels = estimator.predict(rows)
        if hasattr(estimator, "predict_proba"):
            difference = np.abs(got[1] - estimator.predict_proba(rows)).max()
            assert difference < PROBABILITY_LIMIT
    for row in np.flatnonzero(estimator.classes_[got[0]] != labels):
        second, best = np.sort(estimator.predict_proba(rows[row : row + 1])[0])[-2:]
        assert best - second < 1e-6
    alone = session.run(None, {"rows": cast[:1]})
    assert alone[0].shape == (1,)
    assert alone[0].dtype == np.int64
    assert len(alone) == (2 if hasattr(estimator, "predict_proba") else 1)


@pytest.mark.filterwarnings("ignore:Class PassiveAggressiveClassifier is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:The `probability` parameter was deprecated:FutureWarning")
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_compiles_to_the_same_answers_or_says_why_not(name: str) -> None:
    """Each classifier is as good as in the table, and what compiles is right on fresh rows."""
    classifier, expected = CLASSIFIERS[name]
    # One that warns as soon as it is made is given as its class.
    estimator = fit(classifier(random_state=0) if isinstance(classifier, type) else classifier)

    compiled, reason = None, ""
    try:
        compiled = compile_iris(estimator, examples=ROWS[:5])
    except CompileError as error:
        reason = str(error)

    if compiled is None:
        assert expected is None, reason
        assert reason
        assert "\n" not in reason
    else:
        assert compiled.proof.precision == expected
        assert_same_answers(estimator, compiled, fresh_rows())


@pytest.mark.parametrize(
    "classifier",
    [logistic(), forest(), LinearSVC(random_state=0), SVC(), scaled(forest())],
    ids=kind,
)
@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(IRIS.target, id="0 1 2"),
        pytest.param(IRIS.target * 10 - 7, id="-7 3 13"),
        pytest.param(IRIS.target + 1, id="1 2 3"),
        pytest.param(SPECIES.astype(object), id="objects"),
        pytest.param(np.array(["zzz", "b", "Ä"])[IRIS.target], id="sorted another way"),
        pytest.param(np.where(IRIS.target == 2, "virginica", "other"), id="two, unlike in number"),
        pytest.param(np.where(IRIS.target == 2, 5, 3), id="two numbers"),
        pytest.param(IRIS.target == 1, id="bool"),
    ],
)
def test_labels_are_indices_into_the_classes(classifier: Any, labels: NDArray[Any]) -> None:
    """Whatever the labels are, and however many, the graph gives their places in classes_."""
    estimator = fit(classifier, labels)

    compiled = compile_iris(estimator)

    assert_same_answers(estimator, compiled, fresh_rows())


def test_fractions_as_labels_stay_with_scikit_learn() -> None:
    """Labels that ONNX has no type for are refused, not rounded."""
    estimator = fit(DecisionTreeClassifier())
    estimator.classes_ = np.array([0.25, 0.5, 0.75])

    with pytest.raises(CompileError):
        compile_iris(estimator)


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(logistic(), id="not fitted"),
        pytest.param(LinearRegression().fit(ROWS, IRIS.target), id="no classifier"),
        pytest.param(fit(DecisionTreeClassifier(), np.eye(3)[IRIS.target]), id="many labels"),
    ],
)
def test_what_is_no_fitted_classifier_of_one_label_stays(estimator: Any) -> None:
    """An estimator without one list of classes is refused in words."""
    with pytest.raises(CompileError, match="not a fitted classifier of one label"):
        compile_iris(estimator)


def test_the_graph_has_the_names_and_types_that_the_service_expects() -> None:
    """One input "rows", outputs "label" and "probabilities", nothing outside, no strings."""
    compiled = compile_iris(fit(forest()))

    session = open_session(compiled.model)
    model = onnx.load_from_string(compiled.model)
    inputs = [(each.name, each.type, each.shape[1:]) for each in session.get_inputs()]
    assert inputs == [("rows", "tensor(float)", [4])]
    assert [(each.name, each.type, each.shape) for each in session.get_outputs()] == [
        ("label", "tensor(int64)", ["n"]),
        ("probabilities", "tensor(float)", ["n", 3]),
    ]
    assert not any(each.external_data for each in model.graph.initializer)
    assert [(each.domain, each.version) for each in model.opset_import] == [
        ("", 21),
        ("ai.onnx.ml", 3),
    ]
    assert b"setosa" not in compiled.model


def test_a_classifier_without_probabilities_has_one_output() -> None:
    """Where scikit-learn gives no probabilities, neither does the graph, and nothing differs."""
    compiled = compile_iris(fit(RidgeClassifier()))

    assert [each.name for each in open_session(compiled.model).get_outputs()] == ["label"]
    assert compiled.proof.largest_difference == 0.0


@pytest.mark.parametrize(
    "classifier", [logistic(), forest(), scaled(VotingClassifier(PAIR))], ids=kind
)
def test_the_same_estimator_gives_the_same_bytes_and_is_left_alone(classifier: Any) -> None:
    """Compiling twice gives equal bytes and proofs, and changes nothing in the estimator."""
    estimator = fit(classifier)
    before = pickle.dumps(estimator)

    first, second = compile_iris(estimator), compile_iris(estimator)

    assert first == second
    assert pickle.dumps(estimator) == before


def test_an_estimator_with_feature_names_compiles() -> None:
    """One that was trained on a data frame neither warns nor fails."""
    frame = load_iris(as_frame=True).data
    estimator = scaled(forest()).fit(frame, SPECIES)

    compiled = compile_iris(estimator)

    got = open_session(compiled.model).run(None, {"rows": ROWS})
    assert np.array_equal(estimator.classes_[got[0]], estimator.predict(frame))


@pytest.mark.parametrize(
    "step",
    [
        ColumnTransformer([("petals", StandardScaler(), IRIS.feature_names[2:])]),
        FunctionTransformer(lambda frame: frame.iloc[:, 2:]),
    ],
    ids=kind,
)
def test_columns_by_name_stay_with_scikit_learn(step: Any) -> None:
    """Steps that need a data frame cannot answer rows of numbers, however they fail."""
    frame = load_iris(as_frame=True).data
    estimator = make_pipeline(step, logistic()).fit(frame, SPECIES)

    with pytest.raises(CompileError, match="cannot answer every row"):
        compile_iris(estimator)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """The importer's standard output is its tag alone, and its standard error its own words."""
    compile_iris(fit(VotingClassifier(PAIR, voting="soft")))
    for name in ("scaled AdaBoost", "histogram boosting", "one versus rest"):
        with pytest.raises(CompileError):
            compile_iris(fit(CLASSIFIERS[name][0]))

    assert capfd.readouterr() == ("", "")


def test_the_proof_is_plain_data() -> None:
    """The metadata survives JSON and says how many rows were compared, and by which packages."""
    proof = compile_iris(fit(logistic()), examples=ROWS).proof
    without_examples = compile_iris(fit(logistic())).proof

    assert json.loads(json.dumps(proof.to_metadata())) == proof.to_metadata()
    assert proof.rows == without_examples.rows + len(ROWS)
    assert set(proof.versions) == {"scikit-learn", "skl2onnx", "onnx", "onnxruntime"}


def test_almost_the_same_estimator_is_caught() -> None:
    """A graph of one that was regularized a little more does not pass for this one."""
    right, wrong = fit(logistic()), fit(LogisticRegression(C=0.99, max_iter=1000))
    rows = probe.probe_rows(right, ranges=RANGES, examples=None, seed=0)

    with pytest.raises(CompileError, match="differ"):
        convert_and_prove(wrong, consult(right, rows), "float64")


@pytest.mark.parametrize(
    ("scaler", "precision", "share"),
    [
        pytest.param(None, "float32", 1.0, id="bare"),
        # Its steps are looked for between random rows, so that those in small boxes are missed.
        pytest.param(StandardScaler(), "float64", 0.5, id="scaled"),
    ],
)
def test_a_split_moved_by_one_float32_is_caught(scaler: Any, precision: str, share: float) -> None:
    """The smallest mistake in any split of a tree is seen, and in most of those behind a scaler."""
    right = fit(make_pipeline(scaler, DecisionTreeClassifier(random_state=0)))
    rows = probe.probe_rows(right, ranges=RANGES, examples=None, seed=0)
    reference = consult(right, rows)
    splits = np.flatnonzero(right[-1].tree_.feature >= 0)

    caught = []
    for node, side in product(splits, (-np.inf, np.inf)):
        wrong = copy.deepcopy(right)
        thresholds = wrong[-1].tree_.threshold
        thresholds[node] = np.nextafter(np.float32(thresholds[node]), np.float32(side))
        try:
            convert_and_prove(wrong, reference, precision)
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
        pytest.param("predict_proba", lambda a: a * np.nan, "probability differs", id="nan"),
        pytest.param("predict_proba", lambda a: a[:, :2], "have the shape", id="shape"),
    ],
)
def test_an_estimator_that_answers_otherwise_than_its_kind_is_caught(
    method: str, spoil: Any, reason: str
) -> None:
    """A method that was overridden is what counts, not what the converter makes of its class."""
    estimator = fit(logistic())
    honest = getattr(estimator, method)
    setattr(estimator, method, lambda rows: spoil(honest(rows)))

    with pytest.raises(CompileError, match=reason):
        compile_iris(estimator)


def test_a_clear_vote_for_another_class_is_no_tie() -> None:
    """Ties are few, and a forest without the others of the vote does not pass for the vote."""
    estimator = fit(CLASSIFIERS["soft voting with a forest"][0])
    rows = fresh_rows()

    proof = compile_iris(estimator).proof

    assert proof.ties < proof.rows / 100
    with pytest.raises(CompileError, match="labels differ"):
        convert_and_prove(fit(forest()), consult(estimator, rows), "float32")


@pytest.mark.parametrize(
    "classifier",
    [forest(100), GradientBoostingClassifier(random_state=0), BaggingClassifier(random_state=0)],
    ids=kind,
)
def test_every_split_is_probed_on_both_sides(classifier: Any) -> None:
    """Each threshold of each tree, and its neighbours in both precisions, is among the rows."""
    estimator = fit(classifier)

    rows = probe.probe_rows(estimator, ranges=RANGES, examples=None, seed=0)

    probed = [set(column) for column in rows.T.tolist()]
    for tree in (each.tree_ for each in np.ravel(estimator.estimators_)):
        for feature, exact in zip(tree.feature, tree.threshold, strict=True):
            for value in (exact, np.float32(exact)) if feature >= 0 else ():
                sides = np.nextafter(value, np.array([0, 100], dtype=value.dtype))
                assert {float(value), *sides.tolist()} <= probed[feature]


def test_the_rows_on_a_split_come_to_it() -> None:
    """The other features of a split's rows are such that every tree asks its question of them."""
    estimator = fit(ExtraTreesClassifier(20, random_state=0))

    rows = probe.probe_rows(estimator, ranges=RANGES, examples=None, seed=0)

    for tree in (each.tree_ for each in estimator.estimators_):
        comes = tree.decision_path(rows.astype(np.float32)).tocsc()
        for node in np.flatnonzero(tree.feature >= 0):
            values = rows[comes[:, node].indices, tree.feature[node]]
            assert tree.threshold[node] in values


def test_a_huge_forest_is_sampled_and_the_proof_says_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Above the limit as many splits are drawn, always the same, and the rows are counted."""
    estimator = fit(forest())
    without_trees = compile_iris(fit(logistic())).proof.rows
    monkeypatch.setattr(probe, "MAX_SPLITS", 10)

    proofs = [compile_iris(estimator).proof for _ in range(2)]

    assert proofs[0].rows == without_trees + 6 * 10 + 2 * probe.STEPS
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
    rows = probe.probe_rows(estimator, ranges=RANGES, examples=None, seed=0)

    exact = estimator.predict_proba(rows)
    rounded = estimator.predict_proba(rows.astype(np.float32).astype(np.float64))

    assert np.array_equal(exact, rounded) is rounds


def test_the_search_for_steps_ends_at_neighbours() -> None:
    """Behind a scaler, rows come in pairs with nothing between them, on two sides of a step."""
    estimator = fit(scaled(DecisionTreeClassifier(random_state=0)))

    rows = probe.probe_rows(estimator, ranges=RANGES, examples=None, seed=0)

    low, high = rows[-2 * probe.STEPS :].reshape(2, probe.STEPS, 4)
    step = (estimator.predict_proba(low) != estimator.predict_proba(high)).any(axis=1)
    assert step.sum() > probe.STEPS / 2
    assert np.abs(high[step] - low[step]).max() <= 2 * np.spacing(RANGES.max())

"""Converters to ONNX: their parts, and what they leave alone."""

import copy
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from sklearn import (
    calibration,
    compose,
    dummy,
    ensemble,
    feature_selection,
    gaussian_process,
    impute,
    naive_bayes,
    neighbors,
    pipeline,
    preprocessing,
    svm,
    tree,
)
from sklearn.datasets import load_iris
from sklearn.pipeline import Pipeline, make_pipeline
from support.irises import IRIS, ROWS, SPECIES, fit, forest, fresh_rows, kind, logistic, scaled

from iris_api.compiling.converters.lookup import CONVERTERS, convert
from iris_api.compiling.converters.transformers import interpolate
from iris_api.compiling.graph import Graph
from iris_api.compiling.reasons import NoConverterError
from iris_api.compiling.ties import find_ties
from iris_api.compiling.trees import Tree, before_rounding, tree_ensemble
from iris_api.model.engines import open_session


def session_of(estimator: Any) -> ort.InferenceSession:
    """Convert an estimator and open it."""
    return open_session(convert(estimator).SerializeToString())


def assert_equal(estimator: Any, rows: NDArray[np.float64]) -> None:
    """Compare labels and probabilities bit for bit, or nearly so."""
    labels, *probabilities = session_of(estimator).run(None, {"rows": rows})

    assert np.array_equal(estimator.classes_[labels], estimator.predict(rows))
    for each in probabilities:
        assert np.abs(each - estimator.predict_proba(rows)).max() < 1e-12


def missing(rows: NDArray[np.float64], share: float = 0.2) -> NDArray[np.float64]:
    """Leave out some of the values."""
    return np.where(np.random.default_rng(0).random(rows.shape) < share, np.nan, rows)


@pytest.mark.parametrize(
    "classifier",
    [
        tree.DecisionTreeClassifier(random_state=0),
        forest(),
        ensemble.ExtraTreesClassifier(20, random_state=0),
        ensemble.HistGradientBoostingClassifier(max_iter=10),
        ensemble.BaggingClassifier(random_state=0),
        make_pipeline(impute.SimpleImputer(), logistic()),
    ],
    ids=kind,
)
def test_missing_values_go_the_same_way(classifier: Any) -> None:
    """Trees that were trained with missing values send NaN where scikit-learn does."""
    estimator = copy.deepcopy(classifier).fit(missing(ROWS), SPECIES)

    assert_equal(estimator, missing(fresh_rows()))


def test_infinite_thresholds_divide_missing_values_from_the_others() -> None:
    """A split between NaN and all numbers has the threshold infinity."""
    rows = np.column_stack([np.where(IRIS.target == 0, np.nan, 1.0), np.zeros((150, 3))])
    estimator = tree.DecisionTreeClassifier(random_state=0).fit(rows, SPECIES)

    assert np.isinf(estimator.tree_.threshold).any()
    assert_equal(estimator, missing(fresh_rows()))


@pytest.mark.parametrize("weights", [[1e300, -1e300], [0.1, 0.2]], ids=str)
def test_a_row_on_a_split_goes_left_and_the_next_number_right(weights: list[float]) -> None:
    """Splits and weights keep all of their 64 bits."""
    split = np.array([1.1])
    tree = Tree.of_steps(0, 0, split, np.array(weights))

    attributes = tree_ensemble([tree], 1)

    assert attributes["nodes_splits"].double_data[0] == np.nextafter(1.1, 0)
    assert sorted(attributes["leaf_weights"].double_data) == sorted(weights)


def test_splits_of_float32_are_found_in_float64() -> None:
    """A row goes left as long as float32 rounds it to a number that is not above the threshold."""
    edges = np.array([0.1, 0.3, 1.7, 5.95, 2.0**24 + 1, 1e-40, 0.0, -0.1, -(2.0**24) - 1])
    edges = np.concatenate([edges, edges.astype(np.float32), np.array([2.5, 1e38], np.float32)])

    splits = before_rounding(edges)

    assert (splits.astype(np.float32) <= edges).all()
    assert (np.nextafter(splits, np.inf).astype(np.float32) > edges).all()


@pytest.mark.parametrize("classes", [SPECIES, SPECIES == "setosa"], ids=["three", "two"])
def test_a_tree_that_was_grown_to_its_end_stands_once(classes: NDArray[Any]) -> None:
    """The classes do not multiply the trees where each leaf has one class."""
    estimator = ensemble.RandomForestClassifier(30, random_state=0).fit(ROWS, classes)

    trees = next(node for node in convert(estimator).graph.node if node.op_type == "TreeEnsemble")

    roots = next(each.ints for each in trees.attribute if each.name == "tree_roots")
    assert len(roots) == 30


@pytest.mark.parametrize(
    "estimator",
    [
        fit(
            Pipeline(
                [
                    ("inner", scaled(preprocessing.StandardScaler())),
                    ("none", None),
                    ("last", forest()),
                ]
            )
        ),
        fit(
            make_pipeline(
                pipeline.FeatureUnion(
                    [("a", preprocessing.MinMaxScaler()), ("b", "passthrough"), ("c", "drop")],
                    transformer_weights={"a": 3.0},
                ),
                forest(),
            )
        ),
        fit(
            ensemble.VotingClassifier(
                [("svc", svm.SVC()), ("tree", scaled(forest())), ("none", "drop")]
            )
        ),
        fit(
            calibration.CalibratedClassifierCV(
                ensemble.VotingClassifier([("a", logistic()), ("b", forest())], voting="soft")
            )
        ),
        fit(feature_selection.RFE(logistic(), n_features_to_select=2)),
        fit(calibration.CalibratedClassifierCV(svm.SVC()), SPECIES == "virginica"),
        fit(
            scaled(
                ensemble.AdaBoostClassifier(
                    tree.DecisionTreeClassifier(max_depth=3), random_state=0
                )
            )
        ),
    ],
    ids=kind,
)
def test_estimators_nest(estimator: Any) -> None:
    """An estimator composed of composed ones converts as a whole."""
    assert_equal(estimator, fresh_rows())


def test_columns_that_were_chosen_by_name_are_found_by_place() -> None:
    """A transformer of named columns keeps their places in the frame that it was fitted on."""
    frame = load_iris(as_frame=True).data
    step = compose.ColumnTransformer(
        [
            ("petals", preprocessing.StandardScaler(), IRIS.feature_names[2:]),
            ("last", "passthrough", [0]),
        ]
    )
    estimator = make_pipeline(step, forest()).fit(frame, SPECIES)

    labels, _ = session_of(estimator).run(None, {"rows": ROWS})

    assert np.array_equal(estimator.classes_[labels], estimator.predict(frame))


def test_interpolation_is_numpys() -> None:
    """Points of the same place, the points themselves and numbers outside are as in numpy."""
    places, heights = np.array([0.0, 1.0, 1.0, 3.0]), np.array([0.5, 0.1, 0.7, 0.9])
    values = np.concatenate([places, np.nextafter(places, 9), np.linspace(-1, 4, 77)])
    graph = Graph(CONVERTERS)

    found = graph.op("Reshape", interpolate(graph, graph.rows, [(places, heights)]), np.array([-1]))

    model = graph.model({"prediction": found}, columns=1, classes=0)
    [got] = open_session(model.SerializeToString()).run(None, {"rows": values[:, np.newaxis]})
    assert np.array_equal(got, np.interp(values, places, heights))


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (
            fit(gaussian_process.GaussianProcessClassifier()),
            "Gaussian processes have no exact compiled form",
        ),
        (fit(dummy.DummyClassifier(strategy="uniform")), "answers at random"),
        (
            fit(ensemble.GradientBoostingClassifier(init=logistic())),
            "begins with another estimator",
        ),
        (
            fit(make_pipeline(preprocessing.FunctionTransformer(np.sinh), logistic())),
            "a function of its own cannot be compiled",
        ),
        (
            calibration.CalibratedClassifierCV(logistic(), method="isotonic").fit(
                ROWS.astype(np.float32), SPECIES
            ),
            "trained on float32",
        ),
        (
            fit(calibration.CalibratedClassifierCV(svm.LinearSVC(), method="temperature")),
            "use sigmoid calibration",
        ),
        (fit(svm.SVC()).set_params(probability=True), "use CalibratedClassifierCV"),
    ],
)
def test_the_reason_is_a_sentence(estimator: Any, reason: str) -> None:
    """An estimator without an exact form says so without the words of a converter."""
    with pytest.raises(NoConverterError, match=reason):
        convert(estimator)


def test_neighbours_are_named_wherever_they_are() -> None:
    """The part that is in the way is what the reason names."""
    estimator = fit(
        ensemble.VotingClassifier(
            [("a", logistic()), ("b", scaled(neighbors.KNeighborsClassifier()))]
        )
    )

    with pytest.raises(NoConverterError) as raised:
        convert(estimator)

    assert str(raised.value) == (
        "nearest neighbours has no exact compiled form: "
        "each answer compares the row with all training rows"
    )


def test_ties_are_found_in_sums_and_not_in_trees() -> None:
    """A row between two classes is a tie for a line, and none for a forest or a clear row."""
    line = fit(logistic(), SPECIES == "setosa")
    line.coef_, line.intercept_ = np.array([[1.0, 0, 0, 0]]), np.array([-5.0])
    rows = np.array([[5.0, 1, 1, 1], [5.0 + 1e-10, 1, 1, 1]])

    assert find_ties(line, rows).tolist() == [True, False]
    assert find_ties(
        ensemble.VotingClassifier([("a", line)]).fit(ROWS, SPECIES), rows
    ).tolist() == [
        False,
        False,
    ]
    assert not find_ties(fit(forest()), fresh_rows()).any()


@pytest.mark.parametrize(
    "classifier",
    [
        tree.DecisionTreeClassifier(),
        ensemble.RandomForestClassifier(2, bootstrap=False),
        ensemble.GradientBoostingClassifier(init="zero", n_estimators=1),
        ensemble.HistGradientBoostingClassifier(max_iter=1),
        ensemble.BaggingClassifier(tree.DecisionTreeClassifier(), n_estimators=1, bootstrap=False),
        ensemble.VotingClassifier(
            [("a", tree.DecisionTreeClassifier()), ("b", ensemble.ExtraTreesClassifier(2))]
        ),
        calibration.CalibratedClassifierCV(tree.DecisionTreeClassifier(), cv=2, ensemble=False),
    ],
    ids=kind,
)
@pytest.mark.parametrize("classes", [2, 3])
def test_exact_ties_go_the_same_way(classifier: Any, classes: int) -> None:
    """Where all classes have the same score, the label is the one that scikit-learn's is."""
    rows, labels = np.ones((4 * classes, 4)), np.tile(np.arange(classes), 4)
    estimator = copy.deepcopy(classifier).fit(rows, labels)

    assert_equal(estimator, rows)


def bins() -> preprocessing.KBinsDiscretizer:
    """Return a step whose edges float32 would move."""
    return preprocessing.KBinsDiscretizer(
        5, encode="ordinal", quantile_method="averaged_inverted_cdf"
    )


@pytest.mark.parametrize(
    "classifier",
    [
        make_pipeline(preprocessing.Binarizer(threshold=1.7), logistic()),
        make_pipeline(bins(), logistic()),
        make_pipeline(bins(), naive_bayes.CategoricalNB()),
        ensemble.VotingClassifier(
            [("bins", make_pipeline(bins(), naive_bayes.CategoricalNB())), ("line", logistic())],
            voting="soft",
        ),
        make_pipeline(
            compose.ColumnTransformer([("bins", bins(), [2, 0])]), naive_bayes.CategoricalNB()
        ),
        make_pipeline(
            preprocessing.StandardScaler(), preprocessing.PolynomialFeatures(2), logistic()
        ),
    ],
    ids=["binarizer", "bins", "bins of Bayes", "in a vote", "of columns", "polynomials"],
)
def test_rows_that_float32_puts_on_the_other_side(classifier: Any) -> None:
    """Numbers beside a threshold or an edge by one bit of 64, and rows far out, are not rounded."""
    estimator = fit(classifier)
    edges = np.concatenate([fit(bins()).bin_edges_[2], [1.7]])
    beside = np.concatenate([edges, np.nextafter(edges, 0), np.nextafter(edges, 9)])
    rows = np.array([[5.4, 3.9, edge, 0.4] for edge in beside] + [[99.0, 0.1, 88.0, 77.7]])

    assert_equal(estimator, rows)

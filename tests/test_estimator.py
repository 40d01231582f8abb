"""Which estimators are opened, and why others are rejected."""

from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.callback import ProgressBar
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.experimental import enable_halving_search_cv, enable_iterative_imputer  # noqa: F401
from sklearn.feature_selection import SelectKBest, mutual_info_classif
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ExpSineSquared, Matern, WhiteKernel
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    RidgeClassifier,
    RidgeClassifierCV,
    SGDClassifier,
)
from sklearn.metrics import fbeta_score, get_scorer, get_scorer_names, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RepeatedStratifiedKFold,
    StratifiedKFold,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsRegressor,
    RadiusNeighborsClassifier,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    PolynomialFeatures,
    SplineTransformer,
    StandardScaler,
)
from sklearn.semi_supervised import LabelPropagation, LabelSpreading
from sklearn.svm import SVC, SVR, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from support.irises import CLASSIFIERS, fit, kind
from support.saved_models import (
    AS_SKOPS,
    HERE,
    SPECIES,
    Copy,
    X,
    edited,
    logistic,
    node,
    opened,
    problem,
    sklearn_flavor,
    text_node,
    y,
)

from iris_api.vetting.archive import open_archive
from iris_api.vetting.mlmodel import SIGN_AGAIN

CLUSTERS = {
    "adjusted_mutual_info_score",
    "adjusted_rand_score",
    "completeness_score",
    "fowlkes_mallows_score",
    "homogeneity_score",
    "mutual_info_score",
    "neg_negative_likelihood_ratio",
    "normalized_mutual_info_score",
    "positive_likelihood_ratio",
    "rand_score",
    "v_measure_score",
}
"""Scores of clusters, and two that have no sound value for most classifiers."""

LABELS = (
    "the model's classes are not one row of 2 to 1000 printable strings of up to 100 "
    "characters, 64-bit integers, whole numbers or booleans; train it with such labels"
)

VARIANTS = [
    RidgeClassifierCV(),
    SGDClassifier(loss="modified_huber", random_state=0),
    SVC(kernel="poly", probability=True),
    KNeighborsClassifier(algorithm="ball_tree", metric="chebyshev"),
    KNeighborsClassifier(algorithm="kd_tree", metric="manhattan", weights="distance"),
    KNeighborsClassifier(algorithm="kd_tree", p=3),
    KNeighborsClassifier(algorithm="brute", weights=None, metric_params={}),
    DecisionTreeClassifier(ccp_alpha=0.02),
    RandomForestClassifier(5, random_state=np.random.RandomState(0)),
    GradientBoostingClassifier(n_estimators=5, init="zero"),
    GradientBoostingClassifier(n_estimators=5, init=make_pipeline(StandardScaler(), GaussianNB())),
    BaggingClassifier(SVC(), n_estimators=2),
    MLPClassifier(max_iter=20, solver="sgd"),
    GaussianProcessClassifier(
        1.0 * Matern() + WhiteKernel() * RBF() * ExpSineSquared(), optimizer=None
    ),
    CalibratedClassifierCV(GaussianNB(), method="isotonic", cv=2),
    CalibratedClassifierCV(GaussianNB(), method="temperature", cv=2),
    LabelPropagation(),
    LabelSpreading(kernel="knn"),
    make_pipeline(MinMaxScaler(), PolynomialFeatures(), PCA(2), RandomForestClassifier(3)),
    make_pipeline(SimpleImputer(), SelectKBest(k=2), logistic()),
    make_pipeline(FunctionTransformer(np.log1p), logistic()),
    make_pipeline(
        ColumnTransformer([("s", StandardScaler(), [0, 1])], remainder="passthrough"), logistic()
    ),
    GridSearchCV(SVC(), {"C": [0.1, 1]}, cv=2, scoring="accuracy"),
    GridSearchCV(RandomForestClassifier(3), {"max_depth": [2]}, cv=StratifiedKFold(2)),
    GridSearchCV(
        GaussianNB(),
        {"var_smoothing": [0.1]},
        scoring="f1_macro",
        cv=RepeatedStratifiedKFold(n_splits=2),
    ),
    GridSearchCV(GaussianNB(), {}, cv=2, scoring=make_scorer(fbeta_score, beta=2, average="macro")),
    HalvingGridSearchCV(GaussianNB(), {"var_smoothing": [0.1, 0.2]}, cv=2),
    make_pipeline(IterativeImputer(max_iter=1), logistic()),
    make_pipeline(KNNImputer(add_indicator=True), logistic()),
    make_pipeline(SplineTransformer(), logistic()),
    make_pipeline(SplineTransformer(extrapolation="linear"), logistic()),
    make_pipeline(KBinsDiscretizer(), logistic()),
    make_pipeline(KMeans(3, n_init=1), logistic()),
    make_pipeline(SelectKBest(mutual_info_classif, k=2), logistic()),
    LogisticRegression(max_iter=300).set_callbacks(ProgressBar()),
]


@pytest.mark.filterwarnings("ignore")  # of deprecated or unfinished training, not of opening
@pytest.mark.parametrize(
    ("classifier", "labels"),
    [
        (classifier, (SPECIES, y)[place % 2])
        for place, classifier in enumerate([*(each for each, _ in CLASSIFIERS.values()), *VARIANTS])
    ],
    ids=lambda value: "" if isinstance(value, np.ndarray) else kind(value),
)
def test_classifier_is_opened(copied: Copy, classifier: Any, labels: Any) -> None:
    """Every common classifier opens, and predicts what it predicted before."""
    fitted = fit(classifier, labels)

    estimator = opened(copied(model=skops.io.dumps(fitted)))

    assert type(estimator) is type(fitted)
    assert (estimator.predict(X) == fitted.predict(X)).all()
    assert estimator.classes_.tolist() == sorted(set(labels.tolist()))


def test_parameters_that_are_not_taken_from_the_file(
    copied: Copy, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model cannot make the service start threads or print, in any of its parts."""
    voting = VotingClassifier([("a", RandomForestClassifier(2, verbose=2))])
    pipeline = make_pipeline(StandardScaler(), voting).fit(X, SPECIES)
    voting.estimators[0][1].n_jobs = voting.estimators_[0].n_jobs = voting.n_jobs = 5000
    directory = copied(model=skops.io.dumps(pipeline))
    capsys.readouterr()

    estimator = opened(directory)
    estimator.predict(X)

    last = estimator[-1]
    assert last.n_jobs is last.estimators_[0].n_jobs is last.estimators[0][1].n_jobs is None
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "labels", [y == 1, y == 1.0, np.where(y == 1, "a", "b"), np.minimum(y, 1.0)]
)
def test_tuned_threshold(copied: Copy, labels: Any) -> None:
    """A threshold that was tuned for two classes keeps its scorer, and labels of any type."""
    fitted = TunedThresholdClassifierCV(logistic(), cv=2, scoring="balanced_accuracy").fit(
        X, labels
    )

    estimator = opened(copied(model=skops.io.dumps(fitted)))

    assert (estimator.predict(X) == fitted.predict(X)).all()
    assert estimator.classes_.tolist() == np.unique(labels).tolist()


@pytest.mark.parametrize("name", sorted(set(get_scorer_names()) - CLUSTERS))
def test_scores_of_a_search(name: str) -> None:
    """Each of scikit-learn's scores for classifiers and regressors may stay in a search."""
    open_archive(skops.io.dumps(get_scorer(name)))


def _predicts_nothing(name: str) -> str:
    return f"the model is a {name}, neither a classifier nor a regressor; register one of these"


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (
            OneClassSVM().fit(X),
            "OneClassSVM finds outliers, and predicts no labels; train and register it again",
        ),
        (StandardScaler().fit(X), _predicts_nothing("StandardScaler")),
        (
            make_pipeline(StandardScaler(), PCA()).fit(X, y),
            _predicts_nothing("Pipeline that ends in PCA"),
        ),
        ([1, 2], _predicts_nothing("list")),
        (SVC(), "the model is a SVC that is not fitted; fit it first"),
        (
            GaussianNB().fit(X[:, :3], y),
            f"the model was fitted on 3 columns and its signature has 4; {SIGN_AGAIN}",
        ),
        (DummyClassifier().fit(X, np.zeros(150)), LABELS),
        (GaussianNB().fit(np.ones((1001, 4)), np.arange(1001)), LABELS),
    ],
)
@pytest.mark.filterwarnings("ignore:The number of unique classes")
def test_not_a_fitted_classifier_of_the_features(
    copied: Copy, estimator: Any, expected: str
) -> None:
    """An object that opens and is not a fitted classifier of four features is rejected by name."""
    assert problem(copied(model=skops.io.dumps(estimator))) == expected


TWO = np.column_stack([y, y[::-1]])
INDICATORS = np.eye(3, dtype=int)[y]
SEVERAL = "the model predicts several outputs for a row, and one is served"
KERNELS = "as its kernel, and not one of linear, poly, rbf, sigmoid"
METRICS = (
    "as its metric, and not one of euclidean, l2, manhattan, l1, cityblock, chebyshev, minkowski"
)
PARAMETERS = "NAME has parameters of its metric, and a metric without any is served"
WEIGHTS = "NAME has a function as its weights, and not uniform or distance"


@pytest.mark.filterwarnings("ignore")  # of unfinished training
@pytest.mark.parametrize(
    ("estimator", "labels", "expected"),
    [
        (DecisionTreeClassifier(), INDICATORS, SEVERAL),
        (RandomForestClassifier(2), TWO, SEVERAL),
        (KNeighborsClassifier(), INDICATORS, SEVERAL),
        (MLPClassifier(max_iter=2), INDICATORS, SEVERAL),
        (RidgeClassifier(), INDICATORS, SEVERAL),
        (OneVsRestClassifier(logistic()), INDICATORS, SEVERAL),
        (MultiOutputClassifier(logistic()), TWO, SEVERAL),
        (ClassifierChain(logistic()), INDICATORS, SEVERAL),
        (DummyClassifier(), TWO, SEVERAL),
        (LinearRegression(), TWO, SEVERAL),
        (MLPRegressor(max_iter=9), TWO, SEVERAL),
        (DecisionTreeRegressor(), TWO, SEVERAL),
        (KNeighborsRegressor(), TWO, "NAME predicts several outputs for a row, and one is served"),
        (SVR(kernel="precomputed"), y, f"NAME has precomputed {KERNELS}"),
        (SVC(kernel="precomputed"), y, f"NAME has precomputed {KERNELS}"),
        (KNeighborsClassifier(metric="precomputed"), y, f"NAME has precomputed {METRICS}"),
        (KNeighborsClassifier(metric="cosine"), y, f"NAME has cosine {METRICS}"),
        (KNeighborsClassifier(metric_params={"w": np.ones(4)}), y, PARAMETERS),
        (KNeighborsClassifier(weights=np.exp), y, WEIGHTS),
        (RadiusNeighborsClassifier(9, weights=np.exp), y, WEIGHTS),
    ],
)
def test_sound_and_not_served(copied: Copy, estimator: Any, labels: Any, expected: str) -> None:
    """Estimators that scikit-learn serves and the service cannot are rejected for that reason."""
    square = "precomputed" in (getattr(estimator, "kernel", ""), getattr(estimator, "metric", ""))
    estimator.fit(np.abs(X @ X.T) if square else X, labels)

    assert problem(copied(model=skops.io.dumps(estimator))) == (
        f"{expected.replace('NAME', type(estimator).__name__)}; train and register it again"
    )


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_output_of_transformers(copied: Copy) -> None:
    """A pipeline of data frames is served with arrays, wherever pandas is missing."""
    pipeline = make_pipeline(StandardScaler(), PolynomialFeatures(2), logistic())
    fitted = pipeline.set_output(transform="pandas").fit(X, SPECIES)

    estimator = opened(copied(model=skops.io.dumps(fitted)))

    assert type(estimator[:-1].transform(X)) is np.ndarray
    assert (estimator.predict(X) == fitted.predict(X)).all()


UNSORTED = "the model's classes are not sorted and unique; train it again"


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        pytest.param(["versicolor", "setosa", "virginica"], UNSORTED, id="unsorted"),
        pytest.param(["setosa", "setosa", "virginica"], UNSORTED, id="twice"),
        pytest.param([2, 0, 1], UNSORTED, id="unsorted numbers"),
        pytest.param(np.array([0, 1, 2**63], dtype=np.uint64), LABELS, id="beyond 64 bits"),
        pytest.param(["a", "b", "\ud800"], LABELS, id="surrogate"),
        pytest.param(["a", "b", "c\n"], LABELS, id="line break"),
        pytest.param(["a", "b", "c" * 101], LABELS, id="long"),
    ],
)
def test_labels_that_no_answer_can_contain(copied: Copy, classes: Any, expected: str) -> None:
    """Labels that would be mixed up, or that JSON cannot contain, are rejected."""
    estimator = GaussianNB().fit(X, SPECIES)
    estimator.classes_ = np.array(classes)

    assert problem(copied(model=skops.io.dumps(estimator))) == expected


def _other_version(made_by: str) -> str:
    return (
        f"the model was made by scikit-learn {made_by} and this is {HERE}, which may read it "
        f"wrongly; train and register it again with {HERE}"
    )


def _made_by(version: object) -> bytes:
    return edited(logistic(), lambda state: state.update(_sklearn_version=text_node(version)))


def test_version_in_mlmodel(copied: Copy) -> None:
    """An estimator of another minor version of scikit-learn is not opened."""
    edit = sklearn_flavor(sklearn_version="1.2.2")

    assert problem(copied(edit=edit)) == _other_version("1.2.2")


def test_version_of_a_pickle(copied: Copy) -> None:
    """All that the next training must do otherwise is said at once."""
    edit = sklearn_flavor(sklearn_version="1.2.2")

    assert problem(copied("cloudpickle", edit=edit)) == (
        f"{_other_version('1.2.2')} and {AS_SKOPS.partition('and ')[2]}"
    )


@pytest.mark.parametrize("version", ["1.2.2", 7])
def test_version_in_the_estimator(copied: Copy, version: object) -> None:
    """The estimator's own record of its version decides."""
    assert problem(copied(model=_made_by(version))) == _other_version(str(version))


def test_patch_release_in_the_estimator(copied: Copy) -> None:
    """Another patch release of the same minor version is accepted."""
    model = _made_by(HERE.rsplit(".", 1)[0] + ".77")

    assert opened(copied(model=model)).predict(X[:1]).tolist() == ["setosa"]


def test_attribute_that_hides_a_method(copied: Copy) -> None:
    """A fitted attribute cannot take the place of predict."""

    def hide(state: dict[str, Any]) -> None:
        state.popitem()  # each name of a dictionary goes with a type in another list
        state["predict"] = node("FunctionNode", "numpy.absolute")

    assert problem(copied(model=edited(logistic(), hide))) == (
        "LogisticRegression has an attribute that hides its method predict; "
        "train and register it again"
    )


SHAPES = "for 3 classes and 4 columns; train it again"
NOT_FINITE = (
    "that are not finite numbers, for [5.8, 3.1, 3.8, 1.2] or another row of its example; "
    "train it again on data of this kind"
)


@pytest.mark.parametrize(
    ("classifier", "part", "attributes", "expected"),
    [
        pytest.param(
            LogisticRegression(max_iter=300),
            lambda whole: whole,
            {"coef_": np.ones((2, 4))},
            f"LogisticRegression has coefficients of the shape (2, 4) and 3 intercepts {SHAPES}",
            id="coefficients",
        ),
        pytest.param(
            make_pipeline(StandardScaler(), VotingClassifier([("a", LogisticRegression())])),
            lambda whole: whole[-1].estimators_[0],
            {"intercept_": np.zeros(2)},
            f"LogisticRegression has coefficients of the shape (3, 4) and 2 intercepts {SHAPES}",
            id="intercepts of a part",
        ),
        pytest.param(
            LogisticRegression(max_iter=300),
            lambda whole: whole,
            {"coef_": np.full((3, 4), np.nan)},
            f"the model gives probabilities {NOT_FINITE}",
            id="probabilities",
        ),
        pytest.param(
            RidgeClassifierCV(),
            lambda whole: whole,
            {"intercept_": np.full(3, np.inf)},
            f"the model gives scores {NOT_FINITE}",
            id="scores",
        ),
        pytest.param(
            DummyClassifier(),
            lambda whole: whole,
            {"classes_": np.array(["setosa", "virginica"])},
            "the model has 2 classes, and its probabilities for 1 rows have the shape (1, 3); "
            "train it again",
            id="columns of probabilities",
        ),
        pytest.param(
            DummyClassifier(strategy="constant", constant="setosa"),
            lambda whole: whole,
            {"constant": "rose"},
            "the model predicts labels that are not its classes; train it again",
            id="labels",
        ),
        pytest.param(
            RadiusNeighborsClassifier(),
            lambda whole: whole,
            {"radius": 1e-9},
            "the model does not answer a row of its example: ValueError: No neighbors found",
            id="no answer",
        ),
    ],
)
def test_answers_that_do_not_fit_the_classes(
    copied: Copy, classifier: Any, part: Any, attributes: dict[str, Any], expected: str
) -> None:
    """An estimator whose parts do not fit each other, or whose answers are none, is rejected."""
    estimator = fit(classifier)
    vars(part(estimator)).update(attributes)

    assert problem(copied(model=skops.io.dumps(estimator))).startswith(expected)

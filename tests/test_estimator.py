"""Estimators: which ones are opened, which are refused, and in which words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
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
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, Matern, WhiteKernel
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    PassiveAggressiveClassifier,
    Perceptron,
    RidgeClassifier,
    RidgeClassifierCV,
    SGDClassifier,
)
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.naive_bayes import (
    BernoulliNB,
    CategoricalNB,
    ComplementNB,
    GaussianNB,
    MultinomialNB,
)
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid, RadiusNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    PolynomialFeatures,
    StandardScaler,
)
from sklearn.semi_supervised import LabelPropagation, LabelSpreading
from sklearn.svm import SVC, LinearSVC, NuSVC
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier
from support.saved_models import (
    AS_SKOPS,
    HERE,
    OWN,
    SIGN,
    SPECIES,
    Copy,
    X,
    bomb,
    edited,
    logistic,
    message,
    node,
    opened,
    sklearn_flavor,
    text_node,
    tuple_node,
    y,
)

from iris_api.schema import FEATURES

LABELS = (
    "the model's classes are not one row of 2 to 1000 printable strings of up to 100 "
    "characters or 64-bit numbers; train it with such labels"
)


def _passive_aggressive() -> PassiveAggressiveClassifier:
    with pytest.warns(FutureWarning, match="PassiveAggressiveClassifier is deprecated"):
        return PassiveAggressiveClassifier()


CLASSIFIERS = [
    LogisticRegression(max_iter=300),
    LogisticRegressionCV(max_iter=300, cv=2),
    RidgeClassifier(),
    RidgeClassifierCV(),
    SGDClassifier(random_state=0),
    SGDClassifier(loss="modified_huber", random_state=0),
    Perceptron(),
    _passive_aggressive(),
    LinearSVC(),
    SVC(),
    SVC(kernel="poly", probability=True),
    NuSVC(),
    GaussianNB(),
    BernoulliNB(),
    ComplementNB(),
    CategoricalNB(),
    MultinomialNB(),
    LinearDiscriminantAnalysis(),
    QuadraticDiscriminantAnalysis(),
    KNeighborsClassifier(),
    KNeighborsClassifier(algorithm="ball_tree", metric="chebyshev"),
    KNeighborsClassifier(algorithm="kd_tree", metric="manhattan", weights="distance"),
    KNeighborsClassifier(algorithm="kd_tree", p=3),
    KNeighborsClassifier(algorithm="brute"),
    RadiusNeighborsClassifier(radius=5),
    NearestCentroid(),
    DecisionTreeClassifier(),
    DecisionTreeClassifier(ccp_alpha=0.02),
    DecisionTreeClassifier(max_leaf_nodes=5),
    ExtraTreeClassifier(),
    ExtraTreesClassifier(5),
    RandomForestClassifier(5, random_state=np.random.RandomState(0)),
    GradientBoostingClassifier(n_estimators=5),
    GradientBoostingClassifier(n_estimators=5, init="zero"),
    HistGradientBoostingClassifier(max_iter=5),
    AdaBoostClassifier(n_estimators=5),
    BaggingClassifier(n_estimators=5),
    BaggingClassifier(SVC(), n_estimators=2),
    VotingClassifier([("lr", LogisticRegression(max_iter=300)), ("nb", GaussianNB())]),
    StackingClassifier([("lr", LogisticRegression(max_iter=300)), ("nb", GaussianNB())], cv=2),
    MLPClassifier(max_iter=20),
    MLPClassifier(max_iter=20, solver="sgd"),
    GaussianProcessClassifier(),
    GaussianProcessClassifier(1.0 * Matern() + WhiteKernel() * RBF(), optimizer=None),
    CalibratedClassifierCV(LogisticRegression(max_iter=300), cv=2),
    CalibratedClassifierCV(GaussianNB(), method="isotonic", cv=2),
    OneVsRestClassifier(LogisticRegression(max_iter=300)),
    OneVsOneClassifier(LogisticRegression(max_iter=300)),
    OutputCodeClassifier(LogisticRegression(max_iter=300), random_state=0),
    LabelPropagation(),
    LabelSpreading(kernel="knn"),
    DummyClassifier(),
    make_pipeline(StandardScaler(), SVC()),
    make_pipeline(MinMaxScaler(), PolynomialFeatures(), PCA(2), RandomForestClassifier(3)),
    make_pipeline(SelectKBest(k=2), LogisticRegression(max_iter=300)),
    make_pipeline(FunctionTransformer(np.log1p), LogisticRegression(max_iter=300)),
    make_pipeline(
        ColumnTransformer([("s", StandardScaler(), [0, 1])], remainder="passthrough"),
        LogisticRegression(max_iter=300),
    ),
    GridSearchCV(SVC(), {"C": [0.1, 1]}, cv=2, scoring="accuracy"),
    GridSearchCV(RandomForestClassifier(3), {"max_depth": [2]}, cv=StratifiedKFold(2)),
]


@pytest.mark.filterwarnings("ignore")  # of deprecated or unfinished training, not of opening
@pytest.mark.parametrize("labels", [SPECIES, y], ids=["names", "indices"])
@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda c: type(c).__name__)
def test_classifier_is_opened(copied: Copy, classifier: Any, labels: Any) -> None:
    """Every common classifier opens, and predicts what it predicted before."""
    classifier.fit(X, labels)
    directory = copied(model=skops.io.dumps(classifier))

    estimator = opened(directory)

    assert type(estimator) is type(classifier)
    assert (estimator.predict(X) == classifier.predict(X)).all()
    assert estimator.classes_.tolist() == sorted(set(labels.tolist()))


def test_jobs_are_not_the_file_s_choice(copied: Copy) -> None:
    """A model cannot make the service start threads or processes, however deep it says so."""
    voting = VotingClassifier([("a", RandomForestClassifier(2))])
    pipeline = make_pipeline(StandardScaler(), voting).fit(X, SPECIES)
    voting.estimators[0][1].n_jobs = voting.estimators_[0].n_jobs = voting.n_jobs = 5000

    estimator = opened(copied(model=skops.io.dumps(pipeline)))

    assert estimator[-1].n_jobs is None
    assert estimator[-1].estimators_[0].n_jobs is None
    assert estimator[-1].estimators[0][1].n_jobs is None


def test_estimators_are_quiet(copied: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that was trained with progress on standard output answers without."""
    forest = RandomForestClassifier(2, verbose=2)
    pipeline = make_pipeline(StandardScaler(), VotingClassifier([("a", forest)]))
    directory = copied(model=skops.io.dumps(pipeline.fit(X, SPECIES)))
    capsys.readouterr()

    opened(directory).predict(X)

    assert capsys.readouterr() == ("", "")


# What is not


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (
            LinearRegression().fit(X, y),
            "the model is a LinearRegression, not a classifier; register a classifier",
        ),
        (
            StandardScaler().fit(X),
            "the model is a StandardScaler, not a classifier; register a classifier",
        ),
        (
            make_pipeline(StandardScaler(), LinearRegression()).fit(X, y),
            (
                "the model is a Pipeline that ends in LinearRegression, not a classifier; "
                "register a classifier"
            ),
        ),
        ([1, 2], "the model is a list, not a classifier; register a classifier"),
        (
            LogisticRegression(),
            "the model is a LogisticRegression that is not fitted; fit it first",
        ),
        (
            GaussianNB().fit(X[:, :3], y),
            f"the model was fitted on 3 features and its signature has 4; {SIGN}",
        ),
        (
            GaussianNB().fit(X, y == 1),
            LABELS,
        ),
        (
            DummyClassifier().fit(X, np.zeros(150)),
            LABELS,
        ),
        (
            GaussianNB().fit(np.ones((1001, 4)), np.arange(1001)),
            LABELS,
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:The number of unique classes")
def test_no_fitted_classifier_of_the_features(copied: Copy, estimator: Any, expected: str) -> None:
    """What opens and is no fitted classifier of four features is refused by name."""
    directory = copied(model=skops.io.dumps(estimator))

    assert message(lambda: opened(directory)) == expected


@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        (["versicolor", "setosa", "virginica"], "sorted and unique"),
        (["setosa", "setosa", "virginica"], "sorted and unique"),
        ([2, 0, 1], "sorted and unique"),
        (np.array([0, 1, 2**63], dtype=np.uint64), "characters or 64-bit numbers"),
        (["a", "b", "\ud800"], "characters or 64-bit numbers"),
        (["a", "b", "c\n"], "characters or 64-bit numbers"),
        (["a", "b", "c" * 101], "characters or 64-bit numbers"),
    ],
    ids=[
        "unsorted",
        "twice",
        "unsorted numbers",
        "beyond 64 bits",
        "surrogate",
        "line break",
        "long",
    ],
)
def test_labels_that_no_answer_can_carry(copied: Copy, classes: Any, problem: str) -> None:
    """Labels that would be mixed up, or that JSON cannot carry, are refused."""
    estimator = GaussianNB().fit(X, SPECIES)
    estimator.classes_ = np.array(classes)

    assert problem in message(lambda: opened(copied(model=skops.io.dumps(estimator))))


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogisticRegression(max_iter=300),
        lambda: make_pipeline(StandardScaler(), SVC()),
        lambda: GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 1e-8]}, cv=2),
    ],
    ids=["alone", "pipeline", "search"],
)
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)], ids=["same", "another"])
def test_order_of_the_columns(
    copied: Copy, make: Callable[[], Any], order: tuple[int, ...]
) -> None:
    """What remembers its columns in another order than the signature's is refused."""
    frame = pd.DataFrame(X, columns=list(FEATURES)).iloc[:, list(order)]
    directory = copied(model=skops.io.dumps(make().fit(frame, SPECIES)))

    if order == (0, 1, 2, 3):
        assert opened(directory).classes_.tolist() == ["setosa", "versicolor", "virginica"]
    else:
        assert message(lambda: opened(directory)) == (
            "the estimator was fitted on the columns petal_width, petal_length, sepal_width, "
            "sepal_length, in another order than its signature; "
            "log it with infer_signature of the rows that it was fitted on"
        )


def test_signature_of_renamed_columns(copied: Copy) -> None:
    """The names of scikit-learn's data set in the estimator mean those of the signature."""
    estimator = LogisticRegression(max_iter=300).fit(load_iris(as_frame=True).data, SPECIES)

    found = opened(copied(model=skops.io.dumps(estimator)))

    assert found.feature_names_in_[0] == "sepal length (cm)"


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (["a", "b", "c\n", "d"], "a, b, c, d"),
        ([1, None, [2], FEATURES[0]], "?, ?, ?, sepal_length"),
        ([*FEATURES, "e"], ", ".join(FEATURES)),
    ],
    ids=["others", "no names", "five"],
)
def test_other_columns_than_the_signature(copied: Copy, columns: Any, shown: str) -> None:
    """A signature that was written for other columns than the fitted ones is refused."""
    estimator = logistic()
    estimator.feature_names_in_ = np.array(columns, dtype=object)

    assert message(lambda: opened(copied(model=skops.io.dumps(estimator)))) == (
        f"the estimator was fitted on the columns {shown}, which are not those of its signature; "
        "log it with infer_signature of the rows that it was fitted on"
    )


def test_version_in_mlmodel(copied: Copy) -> None:
    """An estimator of another minor version of scikit-learn is not opened."""
    directory = copied(edit=sklearn_flavor(sklearn_version="1.2.2"))

    assert message(lambda: opened(directory)) == (
        f"the model was made by scikit-learn 1.2.2 and this is {HERE}, which may read it wrongly; "
        f"train and register it again with {HERE}"
    )


@pytest.mark.parametrize("made_by", ["1.2.2", HERE.rsplit(".", 1)[0] + ".77"])
def test_version_in_the_estimator(copied: Copy, made_by: str) -> None:
    """The estimator's own record decides, and another patch release is accepted."""
    model = edited(logistic(), lambda state: state.update(_sklearn_version=text_node(made_by)))
    directory = copied(model=model)

    if made_by == "1.2.2":
        assert message(lambda: opened(directory)).startswith(
            f"the model was made by scikit-learn 1.2.2 and this is {HERE}, which may"
        )
    else:
        assert opened(directory).predict(X[:1]).tolist() == ["setosa"]


@pytest.mark.parametrize("name", ["pickle", "cloudpickle"])
def test_pickle_is_not_opened(copied: Copy, tmp_path: Path, name: str) -> None:
    """A pickle is refused before a byte of it is read as one."""
    directory = copied(name, model=bomb(f"open({str(tmp_path / 'marker')!r}, 'w')"))

    refusal = message(lambda: opened(directory))

    assert refusal == (
        f"the model is a {name}, which can run any code when it is opened; {AS_SKOPS}, "
        "or import it with --trust-pickle if you trust its author"
    )
    assert not (tmp_path / "marker").exists()


def test_pickle_that_claims_to_be_skops(copied: Copy, tmp_path: Path) -> None:
    """A pickle behind the name of skops is no archive, and nothing falls back to pickle."""
    directory = copied(model=bomb(f"open({str(tmp_path / 'marker')!r}, 'w')"))

    assert message(lambda: opened(directory)) == (
        "the model file is not a sound skops archive (BadZipFile: File is not a zip file); "
        "log and register the model again"
    )
    assert not (tmp_path / "marker").exists()


def _touch(path: Path) -> dict[str, Any]:
    return tuple_node(text_node(f"touch {path}"))


@pytest.mark.parametrize(
    ("trick", "asked"),
    [
        (lambda _: node("FunctionNode", "os.system"), "os.system"),
        (lambda _: node("FunctionNode", "builtins.eval"), "builtins.eval"),
        (lambda _: node("TypeNode", "subprocess.Popen"), "subprocess.Popen"),
        (
            lambda _: node("ObjectNode", "sklearn.utils._testing.MinimalClassifier"),
            "sklearn.utils._testing.MinimalClassifier",
        ),
        (
            lambda path: node("ConstructorFromReduceNode", "os.system", content=_touch(path)),
            "os.system as ConstructorFromReduceNode",
        ),
        (
            lambda path: node("OperatorFuncNode", "operator.methodcaller", attrs=_touch(path)),
            "operator.methodcaller as OperatorFuncNode",
        ),
        (
            lambda _: node(
                "MethodNode",
                "builtins.str",
                content={"func": "format", "obj": text_node("x")},
            ),
            "builtins.str as MethodNode",
        ),
        (
            lambda path: node(
                "PartialNode",
                "functools.partial",
                content={
                    "func": node("FunctionNode", "os.system"),
                    "args": _touch(path),
                    "kwds": text_node(None),
                    "namespace": text_node(None),
                },
            ),
            "functools.partial as PartialNode",
        ),
        # A trusted class is no container: skops would call it with what the file says.
        (
            lambda path: node(
                "ListNode", "sklearn.neighbors._kd_tree.KDTree", content=[_touch(path)]
            ),
            "sklearn.neighbors._kd_tree.KDTree as ListNode",
        ),
        (lambda _: node("CachedNode", "builtins.str", __id__=5), "builtins.str as CachedNode"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_schema_that_names_code(
    copied: Copy, tmp_path: Path, trick: Callable[[Path], dict[str, Any]], asked: str
) -> None:
    """Neither a name nor a kind of node that is not on the list is constructed."""
    marker = tmp_path / "marker"
    directory = copied(model=edited(logistic(), lambda s: s.update(penalty=trick(marker))))

    refusal = message(lambda: opened(directory))

    assert refusal == f"the model asks for types that are not trusted: {asked}; {OWN}"
    assert not marker.exists()


def test_model_does_not_vouch_for_itself(copied: Copy) -> None:
    """The list of trusted types in MLmodel is not used."""
    directory = copied(
        edit=sklearn_flavor(skops_trusted_types=["os.system"]),
        model=edited(logistic(), lambda s: s.update(penalty=node("FunctionNode", "os.system"))),
    )

    assert message(lambda: opened(directory)) == (
        f"the model asks for types that are not trusted: os.system; {OWN}"
    )


def test_many_foreign_types_are_counted(copied: Copy) -> None:
    """Five foreign types are named in order, the others counted."""
    names = {f"a{n}": node("FunctionNode", f"own.f{n}") for n in range(8)}
    directory = copied(model=edited(logistic(), lambda state: state.update(names)))

    assert message(lambda: opened(directory)) == (
        "the model asks for types that are not trusted: own.f0, own.f1, own.f2, own.f3, own.f4 "
        f"and 3 more; {OWN}"
    )


def test_own_function_in_a_transformer(copied: Copy) -> None:
    """A FunctionTransformer of anything but an arithmetic function of numpy is refused."""
    pipeline = make_pipeline(FunctionTransformer(np.loadtxt), GaussianNB())
    pipeline[-1].fit(X, SPECIES)

    directory = copied(model=skops.io.dumps(pipeline))

    assert message(lambda: opened(directory)) == (
        f"the model asks for types that are not trusted: numpy.loadtxt; {OWN}"
    )


def test_version_that_is_no_text(copied: Copy) -> None:
    """A version of another type is a version that does not match."""
    model = edited(logistic(), lambda state: state.update(_sklearn_version=text_node(7)))
    directory = copied(model=model)

    assert message(lambda: opened(directory)).startswith(
        f"the model was made by scikit-learn 7 and this is {HERE}, "
    )


def _rename_last(state: dict[str, Any], name: str, value: dict[str, Any]) -> None:
    state.popitem()
    state[name] = value


def test_attribute_that_hides_a_method(copied: Copy) -> None:
    """A fitted attribute cannot take the place of predict."""
    ufunc = node("FunctionNode", "numpy.absolute")
    # Under the last name, because each name of a dictionary goes with a type in another list.
    directory = copied(model=edited(logistic(), lambda s: _rename_last(s, "predict", ufunc)))

    assert message(lambda: opened(directory)) == (
        "LogisticRegression has an attribute that hides its method predict; "
        "train and register it again"
    )

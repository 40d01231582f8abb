"""Hostile and sound model directories: what is opened, what is refused, and in which words."""

import ast
import io
import json
import os
import pickle
import shutil
import stat
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest
import sklearn
import skops.io
import yaml
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

from iris_api import flavor as flavor_module
from iris_api.contract import FEATURES
from iris_api.unpickle import convert_pickle
from iris_api.vetting import VettingError, open_estimator, read_flavor

X, y = load_iris(return_X_y=True)
SPECIES = load_iris().target_names[y]
HERE = sklearn.__version__
AGAIN = "log the model again with mlflow.sklearn.log_model"
AS_SKOPS = 'log the model again with mlflow.sklearn and serialization_format="skops"'
SIGN = "log the model again with a signature of " + ", ".join(FEATURES)
OWN = "train it with scikit-learn's own classifiers and transformers, without own functions"
CODE = (
    "the model brings its own Python code, which is never run here; log it again without code_paths"
)
FOUR = "the signature's columns are not the four features"

Edit = Callable[[dict[str, Any]], Any]
Copy = Callable[..., Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory a serialization format, as mlflow.sklearn writes them."""
    root = tmp_path_factory.mktemp("saved")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.sklearn  # noqa: PLC0415
        import pandas as pd  # noqa: PLC0415
        from mlflow.models import infer_signature  # noqa: PLC0415

        frame = pd.DataFrame(X, columns=list(FEATURES))
        for name in ("skops", "cloudpickle", "pickle"):
            mlflow.sklearn.save_model(
                _logistic(),
                root / name,
                serialization_format=name,
                signature=infer_signature(frame, SPECIES),
                pip_requirements=["scikit-learn"],
            )
    return root


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Copy:
    """Copy a saved directory, with another MLmodel or another model file."""

    def copy(
        name: str = "skops", edit: Edit | None = None, model: bytes | None = None, to: str = "model"
    ) -> Path:
        directory = tmp_path / to
        shutil.copytree(saved / name, directory)
        document = yaml.safe_load((directory / "MLmodel").read_text())
        if model is not None:
            (directory / document["flavors"]["sklearn"]["pickled_model"]).write_bytes(model)
        if edit:
            edit(document)
            (directory / "MLmodel").write_text(yaml.safe_dump(document))
        return directory

    return copy


def _opened(directory: Path) -> Any:
    return open_estimator(directory, read_flavor(directory))


def _message(act: Callable[[], Any]) -> str:
    with pytest.raises(VettingError) as raised:
        act()
    return str(raised.value)


def _edited(estimator: Any, edit: Edit) -> bytes:
    """Write a skops archive whose estimator has other attributes in its schema."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(skops.io.dumps(estimator))) as source,
        zipfile.ZipFile(target, "w") as archive,
    ):
        for member in source.infolist():
            content = source.read(member)
            if member.filename == "schema.json":
                schema = json.loads(content)
                edit(schema["content"]["content"])
                content = json.dumps(schema).encode()
            archive.writestr(member, content)
    return target.getvalue()


def _node(loader: str, name: str, **rest: Any) -> dict[str, Any]:
    module, _, class_name = name.rpartition(".")
    return {"__loader__": loader, "__module__": module, "__class__": class_name, **rest}


def _text_node(value: object) -> dict[str, Any]:
    return _node("JsonNode", "builtins.str", content=json.dumps(value))


def _tuple_node(*items: Any) -> dict[str, Any]:
    return _node("TupleNode", "builtins.tuple", content=list(items))


def _logistic() -> LogisticRegression:
    return LogisticRegression(max_iter=300).fit(X, SPECIES)


def _sklearn_flavor(**changes: Any) -> Edit:
    return lambda document: document["flavors"]["sklearn"].update(changes)


def _pyfunc_flavor(**changes: Any) -> Edit:
    return lambda document: document["flavors"]["python_function"].update(changes)


def _both_files(path: str) -> Edit:
    return lambda document: (
        _sklearn_flavor(pickled_model=path)(document),
        _pyfunc_flavor(model_path=path)(document),
    )


def _inputs(value: Any) -> Edit:
    return lambda document: document["signature"].update(inputs=value)


def _columns(*names: str) -> Edit:
    return _inputs(json.dumps([{"name": name, "type": "double"} for name in names]))


# MLmodel


def test_flavor_of_a_saved_model(copied: Copy) -> None:
    """A directory of mlflow.sklearn is read field by field."""
    flavor = read_flavor(copied())

    assert flavor.model_file == "model.skops"
    assert flavor.serialization_format == "skops"
    assert flavor.sklearn_version == HERE
    assert flavor.features == FEATURES
    assert set(flavor.signature) == {"inputs", "outputs"}
    assert json.loads(flavor.signature["inputs"])[0]["name"] == "sepal_length"


def test_features_keep_their_stored_order(copied: Copy) -> None:
    """A signature in another order is accepted, and its order is kept."""
    flavor = read_flavor(copied(edit=_columns(*reversed(FEATURES))))

    assert flavor.features == tuple(reversed(FEATURES))


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda d: d.clear(), f"flavors in the MLmodel file should be a mapping; {AGAIN}"),
        (
            lambda d: d.update(flavors=[1]),
            f"flavors in the MLmodel file should be a mapping; {AGAIN}",
        ),
        (
            lambda d: d.update(flavors={"keras": {}, "on\x1bnx": {}}),
            f"the model has no sklearn flavor (it has: keras, on?nx); {AGAIN}",
        ),
        (
            _pyfunc_flavor(loader_module="os"),
            f"the model is loaded by os and not by mlflow.sklearn; {AGAIN}",
        ),
        (
            _pyfunc_flavor(model_path="other.skops"),
            f"the model's two flavors name different files; {AGAIN}",
        ),
        (_sklearn_flavor(code="code"), CODE),
        (_pyfunc_flavor(code="code"), CODE),
        (_pyfunc_flavor(model_code_path="model.py"), CODE),
        (lambda d: d["flavors"].update(own={"code_paths": ["a.py"]}), CODE),
        (
            _sklearn_flavor(pickled_model=7),
            f"pickled_model of the sklearn flavor should be a string; {AGAIN}",
        ),
        (
            _sklearn_flavor(sklearn_version=1.9),
            f"sklearn_version of the sklearn flavor should be a string; {AGAIN}",
        ),
        (
            _sklearn_flavor(serialization_format="torch"),
            f"the serialization format torch is not known; {AS_SKOPS}",
        ),
        (lambda d: d.update(signature=None), f"the model has no signature; {SIGN}"),
        (_inputs(None), f"the signature has no inputs; {SIGN}"),
        (_inputs("{"), f"the signature's inputs are not a list of columns; {SIGN}"),
        (
            _inputs('[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 4]}}]'),
            f"the signature's columns have no names; {SIGN}",
        ),
        (
            _columns("sepal_length", "sepal_width", "petal_length", "weight"),
            f"{FOUR} (missing: petal_width; foreign: weight); {SIGN}",
        ),
        (_columns(*FEATURES, "weight"), f"{FOUR} (missing: none; foreign: weight); {SIGN}"),
        (_columns(*FEATURES[:3]), f"{FOUR} (missing: petal_width; foreign: none); {SIGN}"),
        (_columns(*FEATURES, FEATURES[0]), f"{FOUR} (missing: none; foreign: none); {SIGN}"),
    ],
)
def test_mlmodel_is_refused(copied: Copy, edit: Edit, expected: str) -> None:
    """Each thing that MLmodel can get wrong has its own line."""
    directory = copied(edit=edit)

    assert _message(lambda: read_flavor(directory)) == expected


def test_mlmodel_is_missing(tmp_path: Path) -> None:
    """A folder without MLmodel is no model."""
    assert _message(lambda: read_flavor(tmp_path)) == (
        f"the MLmodel file is missing or unreadable; {AGAIN}"
    )


@pytest.mark.parametrize("text", ["a: [", "!!python/object/apply:os.system ['true']", "\0"])
def test_mlmodel_is_not_yaml(tmp_path: Path, text: str) -> None:
    """What safe YAML does not know, Python objects among it, is refused."""
    (tmp_path / "MLmodel").write_text(text)

    assert _message(lambda: read_flavor(tmp_path)) == (
        f"the MLmodel file is not valid YAML; {AGAIN}"
    )


def test_code_folder(copied: Copy) -> None:
    """A code folder is refused even if no flavor names it."""
    directory = copied()
    (directory / "code").mkdir()

    assert _message(lambda: read_flavor(directory)) == CODE


@pytest.mark.parametrize("path", ["../other/model.skops", "/etc/passwd", "a/../../model.skops", ""])
def test_model_file_outside_the_folder(copied: Copy, path: str) -> None:
    """A model file is inside the folder by its name alone."""
    copied(to="other")
    directory = copied(edit=_both_files(path))

    assert _message(lambda: read_flavor(directory)) == (
        f"the model file {path} is not inside the model's folder; {AGAIN}"
    )


def test_model_file_missing(copied: Copy) -> None:
    """A model file that was not downloaded is named."""
    directory = copied()
    (directory / "model.skops").unlink()

    assert _message(lambda: read_flavor(directory)) == (
        f"the model file model.skops is missing or unreadable; {AGAIN}"
    )


@pytest.mark.parametrize("name", ["model.skops", "data/model.skops"])
def test_model_file_is_behind_a_symbolic_link(copied: Copy, tmp_path: Path, name: str) -> None:
    """A link is not followed, be it the file or a folder above it."""
    directory = copied(edit=_both_files(name))
    shutil.move(directory / "model.skops", tmp_path / "model.skops")
    link = directory / Path(name).parts[0]
    link.symlink_to(tmp_path / "model.skops" if name == "model.skops" else tmp_path)

    assert _message(lambda: read_flavor(directory)) == (
        f"the model file {name} is behind a symbolic link; {AGAIN}"
    )


def test_model_file_is_a_pipe(copied: Copy) -> None:
    """A pipe is refused and not waited for."""
    directory = copied()
    (directory / "model.skops").unlink()
    os.mkfifo(directory / "model.skops")

    assert _message(lambda: read_flavor(directory)) == (
        f"the model file model.skops is not a plain file; {AGAIN}"
    )


def test_model_file_is_too_large(copied: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model file beyond the limit is not read to its end."""
    directory = copied()
    monkeypatch.setattr(flavor_module, "MAXIMUM_BYTES", 1000)

    assert _message(lambda: read_flavor(directory)) == (
        "the model file model.skops is larger than 0 MiB; register a smaller model"
    )


# What is opened


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

    estimator = _opened(directory)

    assert type(estimator) is type(classifier)
    assert (estimator.predict(X) == classifier.predict(X)).all()
    assert estimator.classes_.tolist() == sorted(set(labels.tolist()))


def test_jobs_are_not_the_file_s_choice(copied: Copy) -> None:
    """A model cannot make the service start threads or processes, however deep it says so."""
    voting = VotingClassifier([("a", RandomForestClassifier(2))])
    pipeline = make_pipeline(StandardScaler(), voting).fit(X, SPECIES)
    voting.estimators[0][1].n_jobs = voting.estimators_[0].n_jobs = voting.n_jobs = 5000

    estimator = _opened(copied(model=skops.io.dumps(pipeline)))

    assert estimator[-1].n_jobs is None
    assert estimator[-1].estimators_[0].n_jobs is None
    assert estimator[-1].estimators[0][1].n_jobs is None


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
            (
                "the model's classes are not one row of 2 to 1000 strings or whole numbers; "
                "train it with such labels"
            ),
        ),
        (
            DummyClassifier().fit(X, np.zeros(150)),
            (
                "the model's classes are not one row of 2 to 1000 strings or whole numbers; "
                "train it with such labels"
            ),
        ),
        (
            GaussianNB().fit(np.ones((1001, 4)), np.arange(1001)),
            (
                "the model's classes are not one row of 2 to 1000 strings or whole numbers; "
                "train it with such labels"
            ),
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:The number of unique classes")
def test_no_fitted_classifier_of_the_features(copied: Copy, estimator: Any, expected: str) -> None:
    """What opens and is no fitted classifier of four features is refused by name."""
    directory = copied(model=skops.io.dumps(estimator))

    assert _message(lambda: _opened(directory)) == expected


def test_version_in_mlmodel(copied: Copy) -> None:
    """An estimator of another minor version of scikit-learn is not opened."""
    directory = copied(edit=_sklearn_flavor(sklearn_version="1.2.2"))

    assert _message(lambda: _opened(directory)) == (
        f"the model was made by scikit-learn 1.2.2 and this is {HERE}, which may read it wrongly; "
        f"train and register it again with {HERE}"
    )


@pytest.mark.parametrize("made_by", ["1.2.2", HERE.rsplit(".", 1)[0] + ".77"])
def test_version_in_the_estimator(copied: Copy, made_by: str) -> None:
    """The estimator's own record decides, and another patch release is accepted."""
    model = _edited(_logistic(), lambda state: state.update(_sklearn_version=_text_node(made_by)))
    directory = copied(model=model)

    if made_by == "1.2.2":
        assert _message(lambda: _opened(directory)).startswith(
            f"the model was made by scikit-learn 1.2.2 and this is {HERE}, which may"
        )
    else:
        assert _opened(directory).predict(X[:1]).tolist() == ["setosa"]


@pytest.mark.parametrize("name", ["pickle", "cloudpickle"])
def test_pickle_is_not_opened(copied: Copy, tmp_path: Path, name: str) -> None:
    """A pickle is refused before a byte of it is read as one."""
    directory = copied(name, model=_bomb(f"open({str(tmp_path / 'marker')!r}, 'w')"))

    refusal = _message(lambda: _opened(directory))

    assert refusal == (
        f"the model is a {name}, which can run any code when it is opened; {AS_SKOPS}, "
        "or import it with --trust-pickle if you trust its author"
    )
    assert not (tmp_path / "marker").exists()


def test_pickle_that_claims_to_be_skops(copied: Copy, tmp_path: Path) -> None:
    """A pickle behind the name of skops is no archive, and nothing falls back to pickle."""
    directory = copied(model=_bomb(f"open({str(tmp_path / 'marker')!r}, 'w')"))

    assert _message(lambda: _opened(directory)) == (
        "the model file is not a sound skops archive (BadZipFile: File is not a zip file); "
        "log and register the model again"
    )
    assert not (tmp_path / "marker").exists()


def _touch(path: Path) -> dict[str, Any]:
    return _tuple_node(_text_node(f"touch {path}"))


@pytest.mark.parametrize(
    ("trick", "asked"),
    [
        (lambda _: _node("FunctionNode", "os.system"), "os.system"),
        (lambda _: _node("FunctionNode", "builtins.eval"), "builtins.eval"),
        (lambda _: _node("TypeNode", "subprocess.Popen"), "subprocess.Popen"),
        (
            lambda _: _node("ObjectNode", "sklearn.utils._testing.MinimalClassifier"),
            "sklearn.utils._testing.MinimalClassifier",
        ),
        (
            lambda path: _node("ConstructorFromReduceNode", "os.system", content=_touch(path)),
            "os.system as ConstructorFromReduceNode",
        ),
        (
            lambda path: _node("OperatorFuncNode", "operator.methodcaller", attrs=_touch(path)),
            "operator.methodcaller as OperatorFuncNode",
        ),
        (
            lambda _: _node(
                "MethodNode",
                "builtins.str",
                content={"func": "format", "obj": _text_node("x")},
            ),
            "builtins.str as MethodNode",
        ),
        (
            lambda path: _node(
                "PartialNode",
                "functools.partial",
                content={
                    "func": _node("FunctionNode", "os.system"),
                    "args": _touch(path),
                    "kwds": _text_node(None),
                    "namespace": _text_node(None),
                },
            ),
            "functools.partial as PartialNode",
        ),
        # A trusted class is no container: skops would call it with what the file says.
        (
            lambda path: _node(
                "ListNode", "sklearn.neighbors._kd_tree.KDTree", content=[_touch(path)]
            ),
            "sklearn.neighbors._kd_tree.KDTree as ListNode",
        ),
        (lambda _: _node("CachedNode", "builtins.str", __id__=5), "builtins.str as CachedNode"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_schema_that_names_code(
    copied: Copy, tmp_path: Path, trick: Callable[[Path], dict[str, Any]], asked: str
) -> None:
    """Neither a name nor a kind of node that is not on the list is constructed."""
    marker = tmp_path / "marker"
    directory = copied(model=_edited(_logistic(), lambda s: s.update(penalty=trick(marker))))

    refusal = _message(lambda: _opened(directory))

    assert refusal == f"the model asks for types that are not trusted: {asked}; {OWN}"
    assert not marker.exists()


def test_model_does_not_vouch_for_itself(copied: Copy) -> None:
    """The list of trusted types in MLmodel is not used."""
    directory = copied(
        edit=_sklearn_flavor(skops_trusted_types=["os.system"]),
        model=_edited(_logistic(), lambda s: s.update(penalty=_node("FunctionNode", "os.system"))),
    )

    assert _message(lambda: _opened(directory)) == (
        f"the model asks for types that are not trusted: os.system; {OWN}"
    )


def test_many_foreign_types_are_counted(copied: Copy) -> None:
    """Five foreign types are named in order, the others counted."""
    names = {f"a{n}": _node("FunctionNode", f"own.f{n}") for n in range(8)}
    directory = copied(model=_edited(_logistic(), lambda state: state.update(names)))

    assert _message(lambda: _opened(directory)) == (
        "the model asks for types that are not trusted: own.f0, own.f1, own.f2, own.f3, own.f4 "
        f"and 3 more; {OWN}"
    )


def test_own_function_in_a_transformer(copied: Copy) -> None:
    """A FunctionTransformer of anything but an arithmetic function of numpy is refused."""
    pipeline = make_pipeline(FunctionTransformer(np.loadtxt), GaussianNB())
    pipeline[-1].fit(X, SPECIES)

    directory = copied(model=skops.io.dumps(pipeline))

    assert _message(lambda: _opened(directory)) == (
        f"the model asks for types that are not trusted: numpy.loadtxt; {OWN}"
    )


def test_version_that_is_no_text(copied: Copy) -> None:
    """A version of another type is a version that does not match."""
    model = _edited(_logistic(), lambda state: state.update(_sklearn_version=_text_node(7)))
    directory = copied(model=model)

    assert _message(lambda: _opened(directory)).startswith(
        f"the model was made by scikit-learn 7 and this is {HERE}, "
    )


def _rename_last(state: dict[str, Any], name: str, value: dict[str, Any]) -> None:
    state.popitem()
    state[name] = value


def test_attribute_that_hides_a_method(copied: Copy) -> None:
    """A fitted attribute cannot take the place of predict."""
    ufunc = _node("FunctionNode", "numpy.absolute")
    # Under the last name, because each name of a dictionary goes with a type in another list.
    directory = copied(model=_edited(_logistic(), lambda s: _rename_last(s, "predict", ufunc)))

    assert _message(lambda: _opened(directory)) == (
        "LogisticRegression has an attribute that hides its method predict; "
        "train and register it again"
    )


# Archives


def _archive(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    target = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as written:
        warnings.simplefilter("ignore")  # the duplicate is on purpose
        for name, content in members:
            written.writestr(name, content)
    return target.getvalue()


def _symbolic_link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("link.npy")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def _lzma() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_LZMA) as written:
        written.writestr("schema.json", b"{}")
    return target.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            _archive(("a.npy", bytes(200 << 20)), ("b.npy", bytes(100 << 20))),
            (
                "the model file unpacks to more than 256 MiB or 100000 members; "
                "register a smaller model"
            ),
        ),
        (
            _archive(("schema.json", bytes(65 << 20))),
            "the model's schema is larger than 64 MiB; register a smaller model",
        ),
        (
            _archive(("schema.json", b"{}"), ("schema.json", b"[]")),
            "the model file has a member twice; log and register the model again",
        ),
        (
            _archive((_symbolic_link(), b"/etc/passwd")),
            (
                "the model file has a member that is no plain file: link.npy; "
                "log and register the model again"
            ),
        ),
        (
            _lzma(),
            (
                "the model file has a member that is no plain file: schema.json; "
                "log and register the model again"
            ),
        ),
        (
            _archive(("schema.json", b"[" * 100_000)),
            (
                "the model file is not a sound skops archive (RecursionError: maximum recursion "
                "depth exceeded while decoding a JSON array from a unicode string); "
                "log and register the model again"
            ),
        ),
        (
            _archive(("other.json", b"{}")),
            (
                'the model file is not a sound skops archive (KeyError: "There is no item named '
                "'schema.json' in the archive\"); log and register the model again"
            ),
        ),
    ],
    ids=["bomb", "schema", "twice", "link", "lzma", "deep", "empty"],
)
def test_archive_is_refused(copied: Copy, data: bytes, expected: str) -> None:
    """An archive is bounded and unambiguous before skops sees it."""
    directory = copied(model=data)

    assert _message(lambda: _opened(directory)) == expected


def test_references_do_not_multiply(copied: Copy) -> None:
    """A short schema whose references stand for 2^60 nodes is refused, and at once."""

    def multiply(state: dict[str, Any]) -> None:
        state["penalty"] = _tuple_node() | {"__id__": 0}
        for level in range(1, 60):
            again = _tuple_node() | {"__id__": level - 1}
            state["penalty"] = _tuple_node(state["penalty"], again) | {"__id__": level}

    directory = copied(model=_edited(_logistic(), multiply))
    start = time.monotonic()

    refusal = _message(lambda: _opened(directory))

    assert refusal == (
        "the model file is not a sound skops archive (ValueError: two different objects have the "
        "same id); log and register the model again"
    )
    assert time.monotonic() - start < 5


def test_same_id_with_another_value(copied: Copy) -> None:
    """An id stands for one value, so that what is checked is what is opened."""
    one, other = _text_node("l2") | {"__id__": 1}, _text_node("l1") | {"__id__": 1}
    directory = copied(model=_edited(_logistic(), lambda s: s.update(penalty=one, solver=other)))

    assert _message(lambda: _opened(directory)) == (
        "the model file is not a sound skops archive (ValueError: two different objects have the "
        "same id); log and register the model again"
    )


# Numbers that compiled code would follow


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
        state["tree_"]["content"]["content"]["node_count"] = _text_node(1)

    return _edited(DecisionTreeClassifier(max_depth=2).fit(X, SPECIES), count)


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

    assert _message(lambda: _opened(directory)) == (
        f"{name} has indices or shapes that do not fit each other; train and register it again"
    )


# Pickles in their own process


class Code:
    """Runs an expression when it is unpickled."""

    def __init__(self, expression: str) -> None:
        self.expression = expression

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self.expression,)


def _bomb(expression: str) -> bytes:
    return pickle.dumps(Code(expression))


def _convert(directory: Path, destination: Path, timeout: float = 60) -> None:
    convert_pickle(directory, read_flavor(directory), destination, timeout=timeout)


@pytest.mark.parametrize("name", ["pickle", "cloudpickle", "joblib"])
def test_pickle_is_converted(copied: Copy, tmp_path: Path, name: str) -> None:
    """A sound pickle becomes a skops file that opens like any other."""
    if name == "joblib":
        directory = copied("pickle", edit=_both_files("model.joblib"))
        joblib.dump(_logistic(), directory / "model.joblib")
    else:
        dumps = cloudpickle.dumps if name == "cloudpickle" else pickle.dumps
        directory = copied(name, model=dumps(_logistic()))
    flavor = read_flavor(directory)

    convert_pickle(directory, flavor, tmp_path / "out.skops", timeout=60)
    estimator = open_estimator(
        tmp_path, replace(flavor, model_file="out.skops", serialization_format="skops")
    )

    assert flavor.serialization_format == name
    assert (estimator.predict(X) == _logistic().predict(X)).all()


def test_pickle_sees_no_secrets(
    copied: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that opens a pickle has a handful of harmless variables and no input."""
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    seen = tmp_path / "seen"
    found = "(dict(os.environ), sys.stdin.read())"
    code = f"import os, sys; open({str(seen)!r}, 'w').write(repr({found}))"
    directory = copied("pickle", model=_bomb(code))

    with pytest.raises(VettingError):
        _open_estimator_from(directory, tmp_path)

    assert "hunter2" not in seen.read_text()
    environment, stdin = ast.literal_eval(seen.read_text())
    assert set(environment) == {
        "PATH",
        "LANG",
        "HOME",
        "TMPDIR",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
    }
    assert stdin == ""


def _open_estimator_from(directory: Path, tmp_path: Path) -> Any:
    """Convert and open, as the import does."""
    flavor = read_flavor(directory)
    convert_pickle(directory, flavor, tmp_path / "out.skops", timeout=60)
    return open_estimator(
        tmp_path, replace(flavor, model_file="out.skops", serialization_format="skops")
    )


def test_converted_file_is_not_trusted(copied: Copy, tmp_path: Path) -> None:
    """What a pickle turns into goes through the same list."""
    directory = copied("pickle", model=pickle.dumps([os.system]))

    assert _message(lambda: _open_estimator_from(directory, tmp_path)) == (
        f"the model asks for types that are not trusted: posix.system; {OWN}"
    )


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("bytearray(8 << 30)", "MemoryError"),
        ("raise ValueError('bo\\x1bom ' + 'x' * 500)", "ValueError: bo?om " + "x" * 182),
        ("import sys; sys.exit(3)", "its process failed and said nothing"),
        ("import os; os.kill(os.getpid(), 9)", "its process was killed by signal 9"),
        ("import os; os._exit(0)", "the model file model.skops is missing or unreadable"),
    ],
)
def test_pickle_that_fails(copied: Copy, tmp_path: Path, code: str, problem: str) -> None:
    """A failure of the process is one printable line, and nothing is written."""
    directory = copied("pickle", model=_bomb(code))

    refusal = _message(lambda: _convert(directory, tmp_path / "out.skops"))

    assert refusal == (
        f"the pickle was not converted: {problem}; {AS_SKOPS}"
        if "missing" not in problem
        else f"{problem}; {AGAIN}"
    )
    assert not (tmp_path / "out.skops").exists()


def test_pickle_of_another_version(copied: Copy, tmp_path: Path) -> None:
    """A pickled estimator of another version of scikit-learn is not relabelled as one of this."""
    model = pickle.dumps(_logistic()).replace(HERE.encode(), b"1.2.2")
    assert len(HERE) == len("1.2.2")
    directory = copied("pickle", model=model)

    refusal = _message(lambda: _convert(directory, tmp_path / "out.skops"))

    assert refusal == (
        "the pickle was not converted: it was made by scikit-learn 1.2.2 and this is "
        f"{HERE}; {AS_SKOPS}"
    )


def test_pickle_without_end(copied: Copy, tmp_path: Path) -> None:
    """A pickle that takes too long is stopped."""
    directory = copied("pickle", model=_bomb("while True: pass"))

    assert _message(lambda: _convert(directory, tmp_path / "out.skops", timeout=1.5)) == (
        f"the pickle was not converted: it took longer than 1.5 s; {AS_SKOPS}"
    )


def test_children_of_a_pickle_do_not_outlive_it(copied: Copy, tmp_path: Path) -> None:
    """A process that a pickle leaves behind is killed, if it could be started at all."""
    alive = tmp_path / "alive"
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        f"    open({str(alive)!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        f"while not os.path.exists({str(alive)!r}): time.sleep(0.01)\n"
        "time.sleep(0.2)\n"
        "raise SystemExit('left')"
    )
    directory = copied("pickle", model=_bomb(code))

    with pytest.raises(VettingError):
        _convert(directory, tmp_path / "out.skops")

    if alive.exists():  # as root; others are not allowed to start one
        process = Path("/proc", alive.read_text())
        deadline = time.monotonic() + 5
        while process.exists() and "(zombie)" not in (process / "status").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)

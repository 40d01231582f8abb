"""Every common classifier compiles to the same answers as scikit-learn's, or says why not."""

import contextlib
import json
import pickle
import time
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from sklearn import (
    compose,
    ensemble,
    linear_model,
    neighbors,
    preprocessing,
    semi_supervised,
    svm,
    tree,
)
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from support.estimators import ESTIMATORS
from support.irises import (
    CLASSIFIERS,
    IRIS,
    PAIR,
    ROWS,
    SPECIES,
    compile_iris,
    fit,
    forest,
    fresh_rows,
    kind,
    logistic,
    scaled,
    vetted,
)

from iris_api.compiling import conversion
from iris_api.compiling.conversion import ask_scikit_learn
from iris_api.compiling.converters.lookup import convert
from iris_api.compiling.proof import LIMIT, CompileError, UnansweredError
from iris_api.compiling.reasons import NoConverterError
from iris_api.model.engines import open_session


def assert_same_answers(estimator: Any, model: bytes, rows: NDArray[np.float64]) -> None:
    """Check all rows at once, and the first one alone, without the help of the proof."""
    session = open_session(model)
    got = session.run(None, {"rows": rows})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # overflows at 100 cm
        labels = estimator.predict(rows)
        if hasattr(estimator, "predict_proba"):
            difference = np.abs(got[1] - estimator.predict_proba(rows)).max()
            assert difference < LIMIT
    for row in np.flatnonzero(estimator.classes_[got[0]] != labels):
        second, best = np.sort(estimator.predict_proba(rows[row : row + 1])[0])[-2:]
        assert best - second < 1e-6
    alone = session.run(None, {"rows": rows[:1]})
    assert alone[0].shape == (1,)
    assert alone[0].dtype == np.int64
    assert len(alone) == (2 if hasattr(estimator, "predict_proba") else 1)


@pytest.mark.filterwarnings("ignore:Class PassiveAggressiveClassifier is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:The `probability` parameter was deprecated:FutureWarning")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if place % 3 == 0 else pytest.mark.thorough)
        for place, name in enumerate(CLASSIFIERS)
    ],
)
def test_compiles_to_the_same_answers_or_says_why_not(name: str) -> None:
    """Each classifier compiles as the table says, and then is right on fresh rows."""
    classifier, is_compiled = CLASSIFIERS[name]
    estimator = fit(classifier)

    if not is_compiled:
        with pytest.raises(CompileError) as raised:
            compile_iris(estimator, examples=ROWS[:5])
        assert str(raised.value).isprintable()
    else:
        compiled = compile_iris(estimator, examples=ROWS[:5])
        assert_same_answers(estimator, compiled.model, fresh_rows())


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
def test_most_kinds_of_estimators_are_compiled() -> None:
    """Of all kinds, save for those that keep the training rows, at least 85 in 100 convert."""
    kinds = ESTIMATORS | {name: classifier for name, (classifier, _) in CLASSIFIERS.items()}
    kept = ("nearest neighbours", "radius neighbours", "Gaussian process")
    fitted = [fit(each) for name, each in kinds.items() if not name.startswith(kept)]

    compiled = 0
    for estimator in fitted:
        with contextlib.suppress(NoConverterError):
            compiled += bool(convert(estimator).graph.node)

    assert compiled >= 0.85 * len(fitted)
    assert len(fitted) > 100


@pytest.mark.parametrize(
    "classifier",
    [logistic(), forest(), svm.LinearSVC(random_state=0), svm.SVC(), scaled(forest())],
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

    model = convert(estimator).SerializeToString()

    assert_same_answers(estimator, model, fresh_rows())


def test_fractions_as_labels_are_indices_like_any_others() -> None:
    """Labels that ONNX has no type for are not rounded, because the graph has indices alone."""
    estimator = fit(tree.DecisionTreeClassifier())
    estimator.classes_ = np.array([0.25, 0.5, 0.75])

    assert_same_answers(estimator, compile_iris(estimator).model, fresh_rows())


def test_names_and_types_of_the_graph() -> None:
    """One input "rows", outputs "label" and "probabilities", no external data and no strings."""
    compiled = compile_iris(fit(forest()))

    session = open_session(compiled.model)
    model = onnx.load_from_string(compiled.model)
    inputs = [(each.name, each.type, each.shape[1:]) for each in session.get_inputs()]
    assert inputs == [("rows", "tensor(double)", [4])]
    assert [(each.name, each.type, each.shape) for each in session.get_outputs()] == [
        ("label", "tensor(int64)", ["n"]),
        ("probabilities", "tensor(double)", ["n", 3]),
    ]
    assert not any(each.external_data for each in model.graph.initializer)
    assert {each.domain: each.version for each in model.opset_import} == {"": 21, "ai.onnx.ml": 5}
    assert b"setosa" not in compiled.model


def test_a_classifier_without_probabilities_has_one_output() -> None:
    """Where scikit-learn has no probabilities, the graph has none either."""
    compiled = compile_iris(fit(linear_model.RidgeClassifier()))

    assert [each.name for each in open_session(compiled.model).get_outputs()] == ["label"]
    assert compiled.proof.largest_difference == 0.0


@pytest.mark.parametrize(
    "classifier", [logistic(), forest(), scaled(ensemble.VotingClassifier(PAIR))], ids=kind
)
def test_compiling_is_repeatable_and_changes_no_estimator(classifier: Any) -> None:
    """Compiling twice gives equal bytes and proofs, and changes nothing in the estimator."""
    estimator = fit(classifier)
    before = pickle.dumps(estimator)

    first, second = compile_iris(estimator), compile_iris(estimator)

    assert first == second
    assert pickle.dumps(estimator) == before


def test_an_estimator_with_feature_names_compiles() -> None:
    """An estimator that was fitted on a data frame neither warns nor fails."""
    frame = load_iris(as_frame=True).data
    estimator = scaled(forest()).fit(frame, SPECIES)

    compiled = compile_iris(estimator)

    got = open_session(compiled.model).run(None, {"rows": ROWS})
    assert np.array_equal(estimator.classes_[got[0]], estimator.predict(frame))


@pytest.mark.parametrize(
    "step",
    [
        compose.ColumnTransformer(
            [("petals", preprocessing.StandardScaler(), IRIS.feature_names[2:])]
        ),
        preprocessing.FunctionTransformer(lambda frame: frame.iloc[:, 2:]),
    ],
    ids=kind,
)
def test_columns_by_name_are_not_answered(step: Any) -> None:
    """Steps that need a data frame cannot answer rows of numbers."""
    frame = load_iris(as_frame=True).data
    estimator = make_pipeline(step, logistic()).fit(frame, SPECIES)

    with pytest.raises(UnansweredError, match="does not answer every row"):
        compile_iris(estimator)


@pytest.mark.parametrize(
    ("classifier", "why"),
    [
        (
            neighbors.RadiusNeighborsClassifier(radius=1.0),
            "ValueError: No neighbors found for test samples",
        ),
        (semi_supervised.LabelSpreading(), "have probabilities that are not finite, first"),
        (semi_supervised.LabelPropagation(), "have probabilities that are not finite, first"),
    ],
    ids=kind,
)
def test_rows_without_an_answer(classifier: Any, why: str) -> None:
    """Rows that scikit-learn itself cannot answer are one error in words, with either engine."""
    estimator = fit(classifier)

    with pytest.raises(UnansweredError, match=why) as compiled:
        compile_iris(estimator)
    with pytest.raises(UnansweredError) as asked:
        ask_scikit_learn(vetted(estimator))

    assert str(asked.value) == str(compiled.value)
    assert str(asked.value).isprintable()


@pytest.mark.parametrize("classifier", [tree.DecisionTreeClassifier(), forest(5)], ids=kind)
def test_unusual_thresholds_end_in_seconds(classifier: Any) -> None:
    """Thresholds that are no numbers, or far from all rows, keep nothing in a loop."""
    estimator = fit(classifier)
    unusual = [np.nan, np.inf, -np.inf, 1e300, -1e300, 5e-324]
    for each in getattr(estimator, "estimators_", [estimator]):
        inner = np.flatnonzero(each.tree_.feature >= 0)
        each.tree_.threshold[inner[: len(unusual)]] = unusual[: len(inner)]
    start = time.process_time()

    with contextlib.suppress(CompileError):
        assert_same_answers(estimator, compile_iris(estimator).model, fresh_rows())

    assert time.process_time() - start < 20


def test_a_graph_that_does_not_run_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason is for a data scientist; what ONNX Runtime says of a graph is logged."""
    monkeypatch.setattr(conversion, "convert", lambda _: onnx.ModelProto())
    caplog.set_level("INFO")

    with pytest.raises(CompileError) as raised:
        compile_iris(fit(logistic()))

    assert str(raised.value) == (
        "this LogisticRegression has no exact compiled form: ONNX Runtime does not run it"
    )
    assert "[ONNXRuntimeError]" in caplog.text


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing reaches the import's standard output, which is its tag alone, nor standard error."""
    compile_iris(fit(ensemble.VotingClassifier(PAIR, voting="soft")))
    for name in ("nearest neighbours", "Gaussian process"):
        with pytest.raises(CompileError, match=f"^{name}.* no exact compiled form"):
            compile_iris(fit(CLASSIFIERS[name][0]))

    assert capfd.readouterr() == ("", "")


def test_the_proof_is_plain_data() -> None:
    """A proof survives JSON, and says how many rows were compared, and with which packages."""
    proof = compile_iris(fit(logistic()), examples=ROWS).proof
    without_examples = compile_iris(fit(logistic())).proof

    assert json.loads(json.dumps(proof.model_dump())) == proof.model_dump()
    assert proof.rows == without_examples.rows + len(ROWS)
    assert set(proof.versions) == {"scikit-learn", "onnx", "onnxruntime"}

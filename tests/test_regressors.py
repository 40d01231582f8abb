"""Regressors are vetted, compiled and proved, or served by scikit-learn."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import skops.io
from numpy.typing import NDArray
from sklearn import (
    compose,
    cross_decomposition,
    dummy,
    ensemble,
    feature_selection,
    gaussian_process,
    impute,
    isotonic,
    kernel_ridge,
    linear_model,
    model_selection,
    neighbors,
    neural_network,
    preprocessing,
    svm,
    tree,
)
from sklearn.pipeline import make_pipeline
from support.irises import PROFILE, ROWS, fresh_rows, kind, sample_iris
from support.mutations import survivors
from support.saved_models import Copy, problem

from iris_api.compiling.conversion import compile_model
from iris_api.compiling.converters.lookup import convert
from iris_api.compiling.proof import LIMIT, CompileError, ask, prove
from iris_api.model.engines import SklearnEngine, open_session
from iris_api.schema import FEATURES
from iris_api.vetting.estimator import Vetted, vet
from iris_api.vetting.training_profile import TrainingProfile

TARGET = 20 + ROWS @ [1.0, -2.0, 3.0, 0.5] + np.sin(7 * ROWS[:, 0])
RIDGE = linear_model.Ridge()
FOREST = ensemble.RandomForestRegressor(5, random_state=0)


def _vet(copied: Copy, regressor: Any, target: NDArray[np.float64] = TARGET) -> Vetted:
    """Fit a copy of a regressor, and open it as an import does."""
    fitted = copy.deepcopy(regressor).fit(ROWS, target)
    vetted = vet(copied(model=skops.io.dumps(fitted)), trust_pickle=False)
    return replace(vetted, profile=PROFILE)


COMPILED = [
    linear_model.LinearRegression(),
    linear_model.Lasso(),
    linear_model.Lars(),
    linear_model.BayesianRidge(),
    linear_model.HuberRegressor(),
    linear_model.TheilSenRegressor(random_state=0),
    linear_model.SGDRegressor(random_state=0),
    linear_model.PoissonRegressor(),
    linear_model.GammaRegressor(),
    linear_model.TweedieRegressor(power=0),
    linear_model.RANSACRegressor(random_state=0),
    cross_decomposition.PLSRegression(),
    dummy.DummyRegressor(),
    kernel_ridge.KernelRidge(kernel="rbf", gamma=0.1),
    svm.LinearSVR(),
    svm.SVR(),
    svm.NuSVR(kernel="poly"),
    neural_network.MLPRegressor(hidden_layer_sizes=(8,), max_iter=20, random_state=0),
    tree.DecisionTreeRegressor(random_state=0),
    tree.ExtraTreeRegressor(random_state=0),
    FOREST,
    ensemble.ExtraTreesRegressor(5, random_state=0),
    ensemble.GradientBoostingRegressor(n_estimators=20, random_state=0),
    ensemble.HistGradientBoostingRegressor(loss="poisson", max_iter=10),
    ensemble.AdaBoostRegressor(n_estimators=5, random_state=0),
    ensemble.AdaBoostRegressor(RIDGE, n_estimators=5, random_state=0),
    ensemble.BaggingRegressor(RIDGE, max_features=0.5, random_state=0),
    ensemble.StackingRegressor([("a", RIDGE), ("b", svm.SVR())]),
    ensemble.VotingRegressor([("a", RIDGE), ("b", FOREST)], weights=[1, 2]),
    compose.TransformedTargetRegressor(svm.SVR(), transformer=preprocessing.StandardScaler()),
    compose.TransformedTargetRegressor(RIDGE, func=np.log1p, inverse_func=np.expm1),
    compose.TransformedTargetRegressor(RIDGE, func=np.sqrt, inverse_func=np.square),
    model_selection.GridSearchCV(
        RIDGE, {"alpha": [0.1, 1]}, scoring="r2", cv=model_selection.ShuffleSplit(2)
    ),
    make_pipeline(
        compose.ColumnTransformer(
            [("a", impute.SimpleImputer(), [2, 0]), ("b", preprocessing.StandardScaler(), [3])]
        ),
        feature_selection.SelectKBest(feature_selection.f_regression, k=2),
        linear_model.LinearRegression(),
    ),
    make_pipeline(feature_selection.SelectKBest(k=1), isotonic.IsotonicRegression()),
]


@pytest.mark.filterwarnings("ignore")  # of unfinished training
@pytest.mark.parametrize("regressor", COMPILED, ids=kind)
def test_compiled(copied: Copy, regressor: Any) -> None:
    """It predicts as scikit-learn does, also for rows that are not in the proof."""
    vetted = _vet(copied, regressor)
    rows = fresh_rows()

    compiled = compile_model(vetted)
    [found] = open_session(compiled.model).run(None, {"rows": rows})

    expected = vetted.estimator.predict(rows)
    assert vetted.schema.task == "regressor"
    assert vetted.schema.labels is None
    assert (compiled.proof.relative_tolerance, compiled.proof.ties) == (LIMIT, 0)
    assert found.shape == (len(rows),)
    assert np.allclose(found, expected, rtol=1e-10, atol=1e-10, equal_nan=True)


@pytest.mark.parametrize(
    ("regressor", "reason"),
    [
        (neighbors.KNeighborsRegressor(), "nearest neighbours has no exact compiled form"),
        (neighbors.RadiusNeighborsRegressor(), "nearest neighbours has no exact compiled form"),
        (
            gaussian_process.GaussianProcessRegressor(gaussian_process.kernels.RBF(), alpha=1),
            "Gaussian processes have no exact compiled form",
        ),
        (
            compose.TransformedTargetRegressor(RIDGE, transformer=preprocessing.MinMaxScaler()),
            "a target transformed by a function of its own cannot be compiled",
        ),
        (
            # Rounding decides on which side of a split the predictions of the first ones are.
            ensemble.StackingRegressor([("a", RIDGE), ("b", FOREST)], final_estimator=FOREST),
            "this StackingRegressor has no exact compiled form",
        ),
    ],
    ids=kind,
)
def test_served_by_scikit_learn(copied: Copy, regressor: Any, reason: str) -> None:
    """A regressor that is not compiled says why, and is served by scikit-learn."""
    vetted = _vet(copied, regressor)

    with pytest.raises(CompileError, match=f"^{reason}"):
        compile_model(vetted)
    values = SklearnEngine(vetted.estimator).answer(ROWS, probabilities=False).values

    assert values.dtype == np.float64
    assert np.array_equal(values, vetted.estimator.predict(ROWS))


def test_column_of_targets(copied: Copy) -> None:
    """A target of one column makes one prediction a row."""
    vetted = _vet(copied, RIDGE, TARGET[:, np.newaxis])

    values = SklearnEngine(vetted.estimator).answer(ROWS, probabilities=False).values
    [found] = open_session(compile_model(vetted).model).run(None, {"rows": ROWS})

    assert values.shape == (150,)
    assert np.allclose(found, values)


@pytest.mark.parametrize(
    ("regressor", "kinds"),
    [
        (ensemble.GradientBoostingRegressor(n_estimators=5, random_state=0), 4),
        (make_pipeline(preprocessing.StandardScaler(), svm.SVR()), 5),
    ],
    ids=kind,
)
def test_a_mistake_of_each_kind_is_found(regressor: Any, kinds: int) -> None:
    """One graph with each mistake that is possible in it does not pass."""
    estimator = regressor.fit(ROWS, TARGET)
    answers = ask(estimator, sample_iris(estimator))

    assert survivors(convert(estimator), answers, 1, kinds) == []


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_tolerances_fit_the_target(unit: float) -> None:
    """Predictions are compared in their own unit, however small or large it makes them."""
    estimator = linear_model.LinearRegression().fit(ROWS, TARGET * unit)
    answers = ask(estimator, sample_iris(estimator))

    proof = prove(open_session(convert(estimator).SerializeToString()), answers)
    estimator.coef_ *= 1 + 1e-7
    wrong = open_session(convert(estimator).SerializeToString())

    assert proof.absolute_tolerance == pytest.approx(20e-9 * unit, rel=0.9)
    with pytest.raises(CompileError, match=r"^\d+ of \d+ predictions differ"):
        prove(wrong, answers)


def test_rows_that_overflow(copied: Copy) -> None:
    """Far out, a prediction may be no finite number in both; elsewhere it must be one."""
    vetted = _vet(copied, linear_model.PoissonRegressor(alpha=0, max_iter=999), np.exp(TARGET / 4))
    vetted.estimator.coef_ *= 20

    proof = compile_model(vetted).proof
    vetted.estimator.coef_ *= 1e9

    assert proof.largest_difference < LIMIT
    with pytest.raises(CompileError, match=r"predicts a finite number for \d+ of \d+ rows$"):
        compile_model(vetted)


@pytest.mark.parametrize(
    ("predicted", "task"), [(None, "regressor"), (TARGET, "classifier")], ids=["labels", "target"]
)
def test_profile_of_another_task(
    copied: Copy, predicted: NDArray[np.float64] | None, task: str
) -> None:
    """A training profile with the labels of a classifier is not that of a regressor."""
    fitted = RIDGE.fit(ROWS, TARGET)
    directory = copied(model=skops.io.dumps(fitted)) if task == "regressor" else copied()
    features = dict(zip(FEATURES, ROWS.T, strict=True))
    profile = TrainingProfile.of(features, TARGET.tolist(), predicted=predicted)
    (directory / "extra_files").mkdir()
    (directory / "extra_files/training_profile.json").write_text(profile.model_dump_json())

    assert problem(directory) == (
        f"training_profile.json is not that of a {task}; log the model again with a right one, "
        "or without"
    )


def test_profile_of_a_target() -> None:
    """Predictions are counted between the deciles of the target, below and above them."""
    target = np.arange(11.0)
    predicted = np.array([-1.0, 0.0, 5.5, 10.0, 10.5, 11.0, 12.0, 3.5])

    profile = TrainingProfile.of({"x": target}, target.tolist(), predicted=predicted)

    assert profile.classes is None
    assert profile.target is not None
    assert profile.target.edges == pytest.approx(target)
    assert np.multiply(profile.target.shares, 8).tolist() == [1, 1, 0, 0, 1, 0, 1, 0, 0, 0, 1, 3]

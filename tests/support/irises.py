"""Classifiers of the iris data set, for the tests of vetting, conversion and proof."""

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import (
    calibration,
    compose,
    discriminant_analysis,
    dummy,
    ensemble,
    gaussian_process,
    linear_model,
    model_selection,
    multiclass,
    naive_bayes,
    neighbors,
    neural_network,
    preprocessing,
    svm,
    tree,
)
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.pipeline import Pipeline, make_pipeline
from threadpoolctl import threadpool_limits

from iris_api.compiling.conversion import Compiled, compile_model
from iris_api.compiling.sampling.domain import Domain, Sample
from iris_api.compiling.sampling.rows import sample_rows
from iris_api.schema import FEATURES, IRIS_RANGE
from iris_api.vetting.estimator import Vetted
from iris_api.vetting.training_profile import TrainingProfile
from support.tables import IRISES

IRIS = load_iris()
ROWS: NDArray[np.float64] = IRIS.data
SPECIES: NDArray[Any] = IRIS.target_names[IRIS.target]
PROFILE = TrainingProfile.of(dict(zip(FEATURES, ROWS.T, strict=True)), SPECIES.tolist())
RANGES = np.column_stack([ROWS.min(axis=0), ROWS.max(axis=0)])


def logistic() -> linear_model.LogisticRegression:
    """Return a logistic regression that converges without a warning."""
    return linear_model.LogisticRegression(max_iter=2000)


def forest(trees: int = 20) -> ensemble.RandomForestClassifier:
    """Return a random forest that is the same in each run."""
    return ensemble.RandomForestClassifier(trees, random_state=0)


def scaled(classifier: Any) -> Any:
    """Return a pipeline of a scaler and a classifier."""
    return make_pipeline(preprocessing.StandardScaler(), classifier)


def kind(parameter: Any) -> str:
    """Return the class of a test's parameter, as its id."""
    last = parameter[-1] if isinstance(parameter, Pipeline) else parameter
    return type(last).__name__ if last is parameter else f"scaled {type(last).__name__}"


PAIR = [("logistic", logistic()), ("bayes", naive_bayes.GaussianNB())]

CLASSIFIERS: dict[str, tuple[Any, bool]] = {
    "logistic regression": (logistic(), True),
    "logistic regression with cross-validation": (
        linear_model.LogisticRegressionCV(
            cv=3, max_iter=1000, l1_ratios=(0,), use_legacy_attributes=False, scoring="accuracy"
        ),
        True,
    ),
    "ridge": (linear_model.RidgeClassifier(), True),
    "SGD, hinge": (linear_model.SGDClassifier(random_state=0), True),
    "SGD, log loss": (linear_model.SGDClassifier(loss="log_loss", random_state=0), True),
    "perceptron": (linear_model.Perceptron(random_state=0), True),
    "passive aggressive": (linear_model.PassiveAggressiveClassifier, True),
    "linear SVC": (svm.LinearSVC(random_state=0), True),
    "SVC": (svm.SVC(), True),
    "SVC with probabilities": (svm.SVC(probability=True, random_state=0), False),
    "nu SVC": (svm.NuSVC(), True),
    "Gaussian naive Bayes": (naive_bayes.GaussianNB(), True),
    "Bernoulli naive Bayes": (naive_bayes.BernoulliNB(binarize=2.0), True),
    "multinomial naive Bayes": (naive_bayes.MultinomialNB(), True),
    "complement naive Bayes": (naive_bayes.ComplementNB(), True),
    "categorical naive Bayes": (naive_bayes.CategoricalNB(min_categories=101), True),
    "linear discriminant": (discriminant_analysis.LinearDiscriminantAnalysis(), True),
    "quadratic discriminant": (discriminant_analysis.QuadraticDiscriminantAnalysis(), True),
    "nearest neighbours": (neighbors.KNeighborsClassifier(), False),
    "nearest neighbours by distance": (neighbors.KNeighborsClassifier(weights="distance"), False),
    "radius neighbours, all": (neighbors.RadiusNeighborsClassifier(radius=1000.0), False),
    "nearest centroid": (neighbors.NearestCentroid(), True),
    "decision tree": (tree.DecisionTreeClassifier(random_state=0), True),
    "extra tree": (tree.ExtraTreeClassifier(random_state=0), True),
    "random forest": (forest(100), True),
    "extra trees": (ensemble.ExtraTreesClassifier(50, random_state=0), True),
    "gradient boosting": (ensemble.GradientBoostingClassifier(random_state=0), True),
    "histogram boosting": (ensemble.HistGradientBoostingClassifier(max_iter=3), True),
    "AdaBoost": (ensemble.AdaBoostClassifier(n_estimators=20, random_state=0), True),
    "bagged trees": (ensemble.BaggingClassifier(random_state=0), True),
    "bagged trees on parts of the features": (
        ensemble.BaggingClassifier(max_features=0.5, random_state=0),
        True,
    ),
    "bagged logistic regressions": (ensemble.BaggingClassifier(logistic(), random_state=0), True),
    "hard voting": (ensemble.VotingClassifier(PAIR), True),
    "soft voting": (ensemble.VotingClassifier(PAIR, voting="soft"), True),
    "soft voting with a forest": (
        ensemble.VotingClassifier([*PAIR, ("forest", forest())], voting="soft"),
        True,
    ),
    "stacking": (ensemble.StackingClassifier(PAIR, final_estimator=logistic()), True),
    "multi-layer perceptron": (
        scaled(neural_network.MLPClassifier(max_iter=2000, random_state=0)),
        True,
    ),
    "Gaussian process": (gaussian_process.GaussianProcessClassifier(), False),
    "calibrated": (calibration.CalibratedClassifierCV(svm.LinearSVC(random_state=0)), True),
    "one versus rest": (multiclass.OneVsRestClassifier(logistic()), True),
    "one versus one": (multiclass.OneVsOneClassifier(logistic()), True),
    "output code": (multiclass.OutputCodeClassifier(logistic(), random_state=0), True),
    "dummy": (dummy.DummyClassifier(), True),
    "scaled logistic regression": (scaled(logistic()), True),
    "polynomial logistic regression": (
        make_pipeline(preprocessing.PolynomialFeatures(2, include_bias=False), scaled(logistic())),
        True,
    ),
    "scaled decision tree": (scaled(tree.DecisionTreeClassifier(random_state=0)), True),
    "scaled forest": (scaled(forest()), True),
    "scaled gradient boosting": (scaled(ensemble.GradientBoostingClassifier(random_state=0)), True),
    "scaled AdaBoost": (scaled(ensemble.AdaBoostClassifier(n_estimators=10, random_state=0)), True),
    "columns": (
        make_pipeline(
            compose.ColumnTransformer(
                [
                    ("standard", preprocessing.StandardScaler(), [3, 0]),
                    ("unit", preprocessing.MinMaxScaler(), [1, 2]),
                ]
            ),
            logistic(),
        ),
        True,
    ),
    "grid search": (
        model_selection.GridSearchCV(scaled(logistic()), {"logisticregression__C": [1, 9]}),
        True,
    ),
    "grid search of forests": (
        model_selection.GridSearchCV(forest(), {"max_depth": [2, None]}),
        True,
    ),
}
"""Each classifier, and whether it compiles."""


def fit(classifier: Any, labels: NDArray[Any] = SPECIES) -> Any:
    """Fit a copy of a classifier, or an instance of a class, on the iris rows."""
    # A class that warns as soon as it is instantiated is given as such.
    new = classifier(random_state=0) if isinstance(classifier, type) else copy.deepcopy(classifier)
    return new.fit(ROWS, labels)


def vetted(estimator: ClassifierMixin, examples: NDArray[np.float64] | None = None) -> Vetted:
    """Return a vetted model of an estimator that was fitted on the iris rows."""
    return Vetted(
        estimator=estimator,
        predictor=estimator,
        numeric=estimator,
        schema=IRISES.model_copy(update={"labels": estimator.classes_.tolist()}),
        features=FEATURES,
        signature={},
        sklearn_version="",
        profile=PROFILE,
        examples=ROWS[:0] if examples is None else examples,
        skops=None,
    )


def sample_iris(estimator: ClassifierMixin, *, missing: bool = False) -> Sample:
    """Choose the rows of the proof of an estimator that was fitted on the iris rows."""
    accepted = np.tile(IRIS_RANGE, (4, 1))
    domain = Domain(RANGES, accepted, np.full(4, missing), np.zeros(4, dtype=np.bool_))
    with threadpool_limits(1):  # as at an import
        return sample_rows(estimator, domain, ROWS[:0], seed=0)


def compile_iris(
    estimator: ClassifierMixin, examples: NDArray[np.float64] | None = None
) -> Compiled:
    """Compile an estimator that was fitted on the iris rows."""
    return compile_model(vetted(estimator, examples))


def fresh_rows(seed: int = 20) -> NDArray[np.float64]:
    """Return the iris rows, and others that are not in the proof."""
    rng = np.random.default_rng(seed)
    low, high = RANGES.T
    within = rng.uniform(low, high, (2000, 4))
    return np.vstack([ROWS, within, within.round(1), rng.uniform(0, 100, (2000, 4))])

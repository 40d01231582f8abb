"""Classifiers of the iris data set, for the tests of vetting, conversion and proof."""

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
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
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import (
    LogisticRegression,
    LogisticRegressionCV,
    PassiveAggressiveClassifier,
    Perceptron,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid, RadiusNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, LinearSVC, NuSVC
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier

from iris_api.compiling import sampling
from iris_api.compiling.conversion import Compiled, compile_model
from iris_api.schema import FEATURES
from iris_api.vetting.estimator import Vetted
from iris_api.vetting.training_profile import TrainingProfile
from support.tables import IRISES

IRIS = load_iris()
ROWS: NDArray[np.float64] = IRIS.data
SPECIES: NDArray[Any] = IRIS.target_names[IRIS.target]
PROFILE = TrainingProfile.of(dict(zip(FEATURES, ROWS.T, strict=True)), SPECIES.tolist())
RANGES = np.column_stack([ROWS.min(axis=0), ROWS.max(axis=0)])


def logistic() -> LogisticRegression:
    """Return a logistic regression that converges without a warning."""
    return LogisticRegression(max_iter=1000)


def forest(trees: int = 20) -> RandomForestClassifier:
    """Return a random forest that is the same in each run."""
    return RandomForestClassifier(trees, random_state=0)


def scaled(classifier: Any) -> Any:
    """Return a pipeline of a scaler and a classifier."""
    return make_pipeline(StandardScaler(), classifier)


def kind(parameter: Any) -> str:
    """Return the class of a test's parameter, as its id."""
    last = parameter[-1] if isinstance(parameter, Pipeline) else parameter
    return type(last).__name__ if last is parameter else f"scaled {type(last).__name__}"


PAIR = [("logistic", logistic()), ("bayes", GaussianNB())]

CLASSIFIERS: dict[str, tuple[Any, bool]] = {
    "logistic regression": (logistic(), True),
    "logistic regression with cross-validation": (
        LogisticRegressionCV(
            cv=3, max_iter=1000, l1_ratios=(0,), use_legacy_attributes=False, scoring="accuracy"
        ),
        True,
    ),
    "ridge": (RidgeClassifier(), True),
    "SGD, hinge": (SGDClassifier(random_state=0), True),
    "SGD, log loss": (SGDClassifier(loss="log_loss", random_state=0), True),
    "perceptron": (Perceptron(random_state=0), True),
    "passive aggressive": (PassiveAggressiveClassifier, True),
    "linear SVC": (LinearSVC(random_state=0), True),
    "SVC": (SVC(), True),
    "SVC with probabilities": (SVC(probability=True, random_state=0), False),
    "nu SVC": (NuSVC(), True),
    "Gaussian naive Bayes": (GaussianNB(), True),
    "Bernoulli naive Bayes": (BernoulliNB(binarize=2.0), True),
    "multinomial naive Bayes": (MultinomialNB(), True),
    "complement naive Bayes": (ComplementNB(), True),
    "categorical naive Bayes": (CategoricalNB(min_categories=101), True),
    "linear discriminant": (LinearDiscriminantAnalysis(), True),
    "quadratic discriminant": (QuadraticDiscriminantAnalysis(), True),
    "nearest neighbours": (KNeighborsClassifier(), False),
    "nearest neighbours by distance": (KNeighborsClassifier(weights="distance"), False),
    "radius neighbours, all": (RadiusNeighborsClassifier(radius=1000.0), False),
    "nearest centroid": (NearestCentroid(), True),
    "decision tree": (DecisionTreeClassifier(random_state=0), True),
    "extra tree": (ExtraTreeClassifier(random_state=0), True),
    "random forest": (forest(100), True),
    "extra trees": (ExtraTreesClassifier(50, random_state=0), True),
    "gradient boosting": (GradientBoostingClassifier(random_state=0), True),
    "histogram boosting": (HistGradientBoostingClassifier(max_iter=3), True),
    "AdaBoost": (AdaBoostClassifier(n_estimators=20, random_state=0), True),
    "bagged trees": (BaggingClassifier(random_state=0), True),
    "bagged trees on parts of the features": (
        BaggingClassifier(max_features=0.5, random_state=0),
        True,
    ),
    "bagged logistic regressions": (BaggingClassifier(logistic(), random_state=0), True),
    "hard voting": (VotingClassifier(PAIR), True),
    "soft voting": (VotingClassifier(PAIR, voting="soft"), True),
    "soft voting with a forest": (
        VotingClassifier([*PAIR, ("forest", forest())], voting="soft"),
        True,
    ),
    "stacking": (StackingClassifier(PAIR, final_estimator=logistic()), True),
    "multi-layer perceptron": (scaled(MLPClassifier(max_iter=2000, random_state=0)), True),
    "Gaussian process": (GaussianProcessClassifier(), False),
    "calibrated": (CalibratedClassifierCV(LinearSVC(random_state=0)), True),
    "one versus rest": (OneVsRestClassifier(logistic()), True),
    "one versus one": (OneVsOneClassifier(logistic()), True),
    "output code": (OutputCodeClassifier(logistic(), random_state=0), True),
    "dummy": (DummyClassifier(), True),
    "scaled logistic regression": (scaled(logistic()), True),
    "polynomial logistic regression": (
        make_pipeline(PolynomialFeatures(2, include_bias=False), scaled(logistic())),
        True,
    ),
    "scaled decision tree": (scaled(DecisionTreeClassifier(random_state=0)), True),
    "scaled forest": (scaled(forest()), True),
    "scaled gradient boosting": (scaled(GradientBoostingClassifier(random_state=0)), True),
    "scaled AdaBoost": (scaled(AdaBoostClassifier(n_estimators=10, random_state=0)), True),
    "columns": (
        make_pipeline(
            ColumnTransformer(
                [("standard", StandardScaler(), [3, 0]), ("unit", MinMaxScaler(), [1, 2])]
            ),
            logistic(),
        ),
        True,
    ),
    "grid search": (GridSearchCV(scaled(logistic()), {"logisticregression__C": [1, 9]}), True),
    "grid search of forests": (GridSearchCV(forest(), {"max_depth": [2, None]}), True),
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
        schema=IRISES.model_copy(update={"labels": estimator.classes_.tolist()}),
        features=FEATURES,
        signature={},
        sklearn_version="",
        profile=PROFILE,
        examples=ROWS[:0] if examples is None else examples,
        skops=None,
    )


def sample_iris(estimator: ClassifierMixin) -> NDArray[np.float64]:
    """Choose the rows of the proof of an estimator that was fitted on the iris rows."""
    return sampling.sample_rows(estimator, RANGES, ROWS[:0], seed=0)


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

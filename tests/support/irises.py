"""Classifiers that are fitted on the irises, for the tests of what is compiled and proved."""

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from iris_api.compiling import sampling
from iris_api.compiling.conversion import Compiled, compile_model
from iris_api.schema import FEATURES
from iris_api.vetting.estimator import Vetted
from iris_api.vetting.training_profile import TrainingProfile

IRIS = load_iris()
ROWS: NDArray[np.float64] = IRIS.data
SPECIES: NDArray[Any] = IRIS.target_names[IRIS.target]
PROFILE = TrainingProfile.of(dict(zip(FEATURES, ROWS.T, strict=True)), SPECIES.tolist())
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


def fit(classifier: Any, labels: NDArray[Any] = SPECIES) -> Any:
    """Fit a copy of a classifier on the iris rows."""
    return copy.deepcopy(classifier).fit(ROWS, labels)


def vetted(estimator: ClassifierMixin, examples: NDArray[np.float64] | None = None) -> Vetted:
    """Vouch for an estimator that was fitted on the iris rows."""
    return Vetted(
        estimator=estimator,
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
    """Make rows that the proof has not seen, behind the iris rows themselves."""
    rng = np.random.default_rng(seed)
    low, high = RANGES.T
    within = rng.uniform(low, high, (2000, 4))
    return np.vstack([ROWS, within, within.round(1), rng.uniform(0, 100, (2000, 4))])

"""One estimator of every kind that is compiled, for the tests that compare it with scikit-learn."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, FastICA, TruncatedSVD
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
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.linear_model import (
    LogisticRegression,
    Perceptron,
    RidgeClassifier,
    RidgeClassifierCV,
    SGDClassifier,
)
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.naive_bayes import (
    BernoulliNB,
    CategoricalNB,
    ComplementNB,
    GaussianNB,
    MultinomialNB,
)
from sklearn.neighbors import NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC, NuSVC
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier


def _logistic() -> LogisticRegression:
    return LogisticRegression(max_iter=2000)


def _tree() -> DecisionTreeClassifier:
    return DecisionTreeClassifier(max_depth=4, random_state=0)


def _forest() -> RandomForestClassifier:
    return RandomForestClassifier(20, random_state=0)


def _linear() -> LinearSVC:
    return LinearSVC(random_state=0)


def _scaled(classifier: Any) -> Any:
    return make_pipeline(StandardScaler(), classifier)


def _simple() -> dict[str, Any]:
    return {
        "logistic regression": _logistic(),
        "ridge": RidgeClassifier(),
        "ridge by cross-validation": RidgeClassifierCV(),
        "perceptron": Perceptron(random_state=0),
        "linear SVC": _linear(),
        "SGD, hinge": SGDClassifier(random_state=0),
        "SGD, log loss": SGDClassifier(loss="log_loss", random_state=0),
        "SGD, modified Huber": SGDClassifier(loss="modified_huber", random_state=0),
        "SVC, rbf": SVC(),
        "SVC, linear": SVC(kernel="linear"),
        "SVC, poly": SVC(kernel="poly"),
        "nu SVC": NuSVC(),
        "Gaussian Bayes": GaussianNB(),
        "Bernoulli Bayes": BernoulliNB(binarize=2.0),
        "multinomial Bayes": MultinomialNB(),
        "complement Bayes": ComplementNB(),
        "categorical Bayes": CategoricalNB(min_categories=101),
        "linear discriminant": LinearDiscriminantAnalysis(),
        "linear discriminant, lsqr": LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        "quadratic discriminant": QuadraticDiscriminantAnalysis(),
        "nearest centroid": NearestCentroid(),
        "nearest centroid, manhattan": NearestCentroid(metric="manhattan"),
        "dummy": DummyClassifier(),
        "perceptron of layers": _scaled(MLPClassifier((8,), max_iter=2000, random_state=0)),
        "perceptron of tanh": _scaled(
            MLPClassifier((8,), activation="tanh", max_iter=2000, random_state=0)
        ),
    }


def _of_trees() -> dict[str, Any]:
    return {
        "tree": DecisionTreeClassifier(random_state=0),
        "shallow tree": DecisionTreeClassifier(max_depth=2),
        "extra tree": ExtraTreeClassifier(random_state=0),
        "forest": RandomForestClassifier(100, random_state=0),
        "shallow forest": RandomForestClassifier(50, max_depth=2, random_state=0),
        "balanced forest": RandomForestClassifier(20, class_weight="balanced", random_state=0),
        "extra trees": ExtraTreesClassifier(100, random_state=0),
        "gradient boosting": GradientBoostingClassifier(random_state=0),
        "gradient boosting from zero": GradientBoostingClassifier(
            init="zero", subsample=0.5, learning_rate=0.3, random_state=0
        ),
        "histogram boosting": HistGradientBoostingClassifier(max_iter=20, random_state=0),
        "AdaBoost": AdaBoostClassifier(random_state=0),
        "AdaBoost of deep trees": AdaBoostClassifier(_tree(), random_state=0),
        "bagged trees": BaggingClassifier(random_state=0),
        "bagged trees of two features": BaggingClassifier(_tree(), max_features=2, random_state=0),
        "bagged trees of few rows": BaggingClassifier(
            n_estimators=20, max_samples=0.05, random_state=0
        ),
    }


def _composed() -> dict[str, Any]:
    pair = [("logistic", _scaled(_logistic())), ("tree", _tree())]
    three = [("logistic", _logistic()), ("bayes", GaussianNB()), ("forest", _forest())]
    return {
        "one against rest": OneVsRestClassifier(_logistic()),
        "one against rest, SVC": OneVsRestClassifier(_linear()),
        "one against rest, trees": OneVsRestClassifier(_tree()),
        "one against one": OneVsOneClassifier(_logistic()),
        "one against one, trees": OneVsOneClassifier(_tree()),
        "output code": OutputCodeClassifier(_logistic(), random_state=0),
        "output code of trees": OutputCodeClassifier(_tree(), random_state=0),
        "soft voting": VotingClassifier(three, voting="soft"),
        "hard voting": VotingClassifier(three),
        "soft voting by weights": VotingClassifier(pair, voting="soft", weights=[2, 1]),
        "hard voting by weights": VotingClassifier(three, weights=[0.1, 0.2, 0.3]),
        "stacking": StackingClassifier(three, final_estimator=_logistic()),
        "stacking with the rows": StackingClassifier(pair, passthrough=True),
        "stacking of scores": StackingClassifier([("svc", _linear()), ("tree", _tree())]),
        "bagged logistic regressions": BaggingClassifier(_logistic(), random_state=0),
        "bagged SVC": BaggingClassifier(SVC(), random_state=0),
        "boosted logistic regressions": AdaBoostClassifier(_logistic(), random_state=0),
        "grid search": GridSearchCV(_scaled(_logistic()), {"logisticregression__C": [1, 9]}),
    }


def _calibrated() -> Iterator[tuple[str, Any]]:
    inside = {"svc": _linear(), "forest": _forest(), "scaled": _scaled(_logistic())}
    for method in ("sigmoid", "isotonic"):
        for name, inner in inside.items():
            for ensemble in (True, False):
                title = f"{method} of {name}, {'many' if ensemble else 'one'}"
                yield title, CalibratedClassifierCV(inner, method=method, ensemble=ensemble)
    yield "temperature", CalibratedClassifierCV(_logistic(), method="temperature")
    yield "temperature of a forest", CalibratedClassifierCV(_forest(), method="temperature")


def _behind_steps() -> Iterator[tuple[str, Any]]:
    steps = {
        "standard": StandardScaler(),
        "range": MinMaxScaler(),
        "clipped range": MinMaxScaler(clip=True),
        "robust": RobustScaler(),
        "largest": MaxAbsScaler(),
        "norm": Normalizer(),
        "polynomials": make_pipeline(StandardScaler(), PolynomialFeatures(2)),
        "cubic products": PolynomialFeatures(3, interaction_only=True, include_bias=False),
        "quantiles": QuantileTransformer(n_quantiles=50),
        "binarizer": Binarizer(threshold=1.7),
        "bins": KBinsDiscretizer(5, encode="ordinal", quantile_method="averaged_inverted_cdf"),
        "bins of columns": KBinsDiscretizer(
            5, encode="onehot-dense", quantile_method="averaged_inverted_cdf"
        ),
        "PCA": PCA(2),
        "white PCA": PCA(3, whiten=True),
        "SVD": TruncatedSVD(2, random_state=0),
        "ICA": FastICA(2, random_state=0),
        "discriminants": LinearDiscriminantAnalysis(),
        "best": SelectKBest(k=2),
        "imputer": SimpleImputer(),
        "union": make_union(PCA(2), StandardScaler()),
        "columns": ColumnTransformer(
            [("a", StandardScaler(), [3, 1]), ("b", MinMaxScaler(), [2])], remainder="passthrough"
        ),
    }
    rough = {
        "power": PowerTransformer(),
        "splines": SplineTransformer(),
        "kernel": Nystroem(n_components=20, random_state=0),
        "waves": RBFSampler(n_components=20, random_state=0),
        "logarithm": FunctionTransformer(np.log1p),
    }
    for name, step in steps.items():
        yield f"{name} > logistic regression", make_pipeline(step, _logistic())
        yield f"{name} > forest", make_pipeline(step, _forest())
    for name, step in rough.items():
        # Within a few units in the last place, so that a tree behind them may step aside.
        yield f"{name} > logistic regression", make_pipeline(step, _logistic())
    bins = KBinsDiscretizer(5, encode="ordinal", quantile_method="averaged_inverted_cdf")
    yield "bins > categorical Bayes", make_pipeline(bins, CategoricalNB())


ESTIMATORS: dict[str, Any] = {
    **_simple(),
    **_of_trees(),
    **_composed(),
    **dict(_calibrated()),
    **dict(_behind_steps()),
}
"""Estimators, not fitted, for any number of classes."""

FOR_TWO_CLASSES: dict[str, Any] = {
    "exponential boosting": GradientBoostingClassifier(loss="exponential", random_state=0),
    "tuned threshold": TunedThresholdClassifierCV(_logistic()),
    "fixed threshold": FixedThresholdClassifier(_logistic(), threshold=0.3),
    "fixed threshold of scores": FixedThresholdClassifier(_linear(), threshold=0.1),
}
"""Estimators, not fitted, that know two classes alone."""

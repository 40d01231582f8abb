"""One estimator of every kind that is compiled, for the tests that compare it with scikit-learn."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn import (
    calibration,
    compose,
    decomposition,
    discriminant_analysis,
    dummy,
    ensemble,
    feature_selection,
    impute,
    kernel_approximation,
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
from sklearn.pipeline import make_pipeline, make_union

from support.irises import forest, logistic, scaled


def _tree() -> tree.DecisionTreeClassifier:
    return tree.DecisionTreeClassifier(max_depth=4, random_state=0)


def _linear() -> svm.LinearSVC:
    return svm.LinearSVC(random_state=0)


def _simple() -> dict[str, Any]:
    return {
        "logistic regression": logistic(),
        "ridge": linear_model.RidgeClassifier(),
        "ridge by cross-validation": linear_model.RidgeClassifierCV(),
        "perceptron": linear_model.Perceptron(random_state=0),
        "linear SVC": _linear(),
        "SGD, hinge": linear_model.SGDClassifier(random_state=0),
        "SGD, log loss": linear_model.SGDClassifier(loss="log_loss", random_state=0),
        "SGD, modified Huber": linear_model.SGDClassifier(loss="modified_huber", random_state=0),
        "SVC, rbf": svm.SVC(),
        "SVC, linear": svm.SVC(kernel="linear"),
        "SVC, poly": svm.SVC(kernel="poly"),
        "nu SVC": svm.NuSVC(),
        "Gaussian Bayes": naive_bayes.GaussianNB(),
        "Bernoulli Bayes": naive_bayes.BernoulliNB(binarize=2.0),
        "multinomial Bayes": naive_bayes.MultinomialNB(),
        "complement Bayes": naive_bayes.ComplementNB(),
        "categorical Bayes": naive_bayes.CategoricalNB(min_categories=101),
        "linear discriminant": discriminant_analysis.LinearDiscriminantAnalysis(),
        "linear discriminant, lsqr": discriminant_analysis.LinearDiscriminantAnalysis(
            solver="lsqr", shrinkage="auto"
        ),
        "quadratic discriminant": discriminant_analysis.QuadraticDiscriminantAnalysis(),
        "nearest centroid": neighbors.NearestCentroid(),
        "dummy": dummy.DummyClassifier(),
        "perceptron of layers": scaled(
            neural_network.MLPClassifier((8,), max_iter=2000, random_state=0)
        ),
        "perceptron of tanh": scaled(
            neural_network.MLPClassifier((8,), activation="tanh", max_iter=2000, random_state=0)
        ),
    }


def _of_trees() -> dict[str, Any]:
    return {
        "tree": tree.DecisionTreeClassifier(random_state=0),
        "shallow tree": tree.DecisionTreeClassifier(max_depth=2),
        "extra tree": tree.ExtraTreeClassifier(random_state=0),
        "forest": ensemble.RandomForestClassifier(100, random_state=0),
        "shallow forest": ensemble.RandomForestClassifier(50, max_depth=2, random_state=0),
        "balanced forest": ensemble.RandomForestClassifier(
            20, class_weight="balanced", random_state=0
        ),
        "extra trees": ensemble.ExtraTreesClassifier(100, random_state=0),
        "gradient boosting": ensemble.GradientBoostingClassifier(random_state=0),
        "gradient boosting from zero": ensemble.GradientBoostingClassifier(
            init="zero", subsample=0.5, learning_rate=0.3, random_state=0
        ),
        "histogram boosting": ensemble.HistGradientBoostingClassifier(max_iter=20, random_state=0),
        "AdaBoost": ensemble.AdaBoostClassifier(random_state=0),
        "AdaBoost of deep trees": ensemble.AdaBoostClassifier(_tree(), random_state=0),
        "bagged trees": ensemble.BaggingClassifier(random_state=0),
        "bagged trees of two features": ensemble.BaggingClassifier(
            _tree(), max_features=2, random_state=0
        ),
        "bagged trees of few rows": ensemble.BaggingClassifier(
            n_estimators=20, max_samples=0.05, random_state=0
        ),
    }


def _composed() -> dict[str, Any]:
    pair = [("logistic", scaled(logistic())), ("tree", _tree())]
    three = [("logistic", logistic()), ("bayes", naive_bayes.GaussianNB()), ("forest", forest())]
    return {
        "one against rest": multiclass.OneVsRestClassifier(logistic()),
        "one against rest, SVC": multiclass.OneVsRestClassifier(_linear()),
        "one against rest, trees": multiclass.OneVsRestClassifier(_tree()),
        "one against one": multiclass.OneVsOneClassifier(logistic()),
        "one against one, trees": multiclass.OneVsOneClassifier(_tree()),
        "output code": multiclass.OutputCodeClassifier(logistic(), random_state=0),
        "output code of trees": multiclass.OutputCodeClassifier(_tree(), random_state=0),
        "soft voting": ensemble.VotingClassifier(three, voting="soft"),
        "hard voting": ensemble.VotingClassifier(three),
        "soft voting by weights": ensemble.VotingClassifier(pair, voting="soft", weights=[2, 1]),
        "hard voting by weights": ensemble.VotingClassifier(three, weights=[0.1, 0.2, 0.3]),
        "stacking": ensemble.StackingClassifier(three, final_estimator=logistic()),
        "stacking with the rows": ensemble.StackingClassifier(pair, passthrough=True),
        "stacking of scores": ensemble.StackingClassifier([("svc", _linear()), ("tree", _tree())]),
        "bagged logistic regressions": ensemble.BaggingClassifier(logistic(), random_state=0),
        "bagged SVC": ensemble.BaggingClassifier(svm.SVC(), random_state=0),
        "boosted logistic regressions": ensemble.AdaBoostClassifier(logistic(), random_state=0),
        "grid search": model_selection.GridSearchCV(
            scaled(logistic()), {"logisticregression__C": [1, 9]}
        ),
    }


def _calibrated() -> Iterator[tuple[str, Any]]:
    inside = {"svc": _linear(), "forest": forest(), "scaled": scaled(logistic())}
    for method in ("sigmoid", "isotonic"):
        for name, inner in inside.items():
            for many in (True, False):
                title = f"{method} of {name}, {'many' if many else 'one'}"
                yield (
                    title,
                    calibration.CalibratedClassifierCV(inner, method=method, ensemble=many),
                )


def _behind_steps() -> Iterator[tuple[str, Any]]:
    steps = {
        "standard": preprocessing.StandardScaler(),
        "range": preprocessing.MinMaxScaler(),
        "clipped range": preprocessing.MinMaxScaler(clip=True),
        "robust": preprocessing.RobustScaler(),
        "largest": preprocessing.MaxAbsScaler(),
        "norm": preprocessing.Normalizer(),
        "polynomials": make_pipeline(
            preprocessing.StandardScaler(), preprocessing.PolynomialFeatures(2)
        ),
        "cubic products": preprocessing.PolynomialFeatures(
            3, interaction_only=True, include_bias=False
        ),
        "quantiles": preprocessing.QuantileTransformer(n_quantiles=50),
        "binarizer": preprocessing.Binarizer(threshold=1.7),
        "bins": preprocessing.KBinsDiscretizer(
            5, encode="ordinal", quantile_method="averaged_inverted_cdf"
        ),
        "bins of columns": preprocessing.KBinsDiscretizer(
            5, encode="onehot-dense", quantile_method="averaged_inverted_cdf"
        ),
        "PCA": decomposition.PCA(2),
        "white PCA": decomposition.PCA(3, whiten=True),
        "SVD": decomposition.TruncatedSVD(2, random_state=0),
        "ICA": decomposition.FastICA(2, random_state=0),
        "discriminants": discriminant_analysis.LinearDiscriminantAnalysis(),
        "best": feature_selection.SelectKBest(k=2),
        "imputer": impute.SimpleImputer(),
        "union": make_union(decomposition.PCA(2), preprocessing.StandardScaler()),
        "columns": compose.ColumnTransformer(
            [
                ("a", preprocessing.StandardScaler(), [3, 1]),
                ("b", preprocessing.MinMaxScaler(), [2]),
            ],
            remainder="passthrough",
        ),
    }
    rough = {
        "power": preprocessing.PowerTransformer(),
        "kernel": kernel_approximation.Nystroem(n_components=20, random_state=0),
        "waves": kernel_approximation.RBFSampler(n_components=20, random_state=0),
        "logarithm": preprocessing.FunctionTransformer(np.log1p),
    }
    for name, step in steps.items():
        yield f"{name} > logistic regression", make_pipeline(step, logistic())
        yield f"{name} > forest", make_pipeline(step, forest())
    for name, step in rough.items():
        # Within a few units in the last place, so that a tree behind them may step aside.
        yield f"{name} > logistic regression", make_pipeline(step, logistic())
    bins = preprocessing.KBinsDiscretizer(
        5, encode="ordinal", quantile_method="averaged_inverted_cdf"
    )
    yield "bins > categorical Bayes", make_pipeline(bins, naive_bayes.CategoricalNB())


ESTIMATORS: dict[str, Any] = {
    **_simple(),
    **_of_trees(),
    **_composed(),
    **dict(_calibrated()),
    **dict(_behind_steps()),
}
"""Estimators, not fitted, for any number of classes."""

FOR_TWO_CLASSES: dict[str, Any] = {
    "exponential boosting": ensemble.GradientBoostingClassifier(loss="exponential", random_state=0),
    "tuned threshold": model_selection.TunedThresholdClassifierCV(logistic()),
    "fixed threshold": model_selection.FixedThresholdClassifier(logistic(), threshold=0.3),
    "fixed threshold of scores": model_selection.FixedThresholdClassifier(_linear(), threshold=0.1),
}
"""Estimators, not fitted, that know two classes alone."""

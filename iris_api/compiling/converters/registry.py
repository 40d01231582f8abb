"""Which converter is for which estimator, and the reasons where there is none."""

from typing import Any

from onnx import ModelProto
from sklearn.base import ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, FastICA, IncrementalPCA, TruncatedSVD
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
from sklearn.feature_selection import (
    RFE,
    RFECV,
    GenericUnivariateSelect,
    SelectFdr,
    SelectFpr,
    SelectFromModel,
    SelectFwe,
    SelectKBest,
    SelectPercentile,
    SequentialFeatureSelector,
    VarianceThreshold,
)
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.linear_model import (
    LogisticRegression,
    LogisticRegressionCV,
    PassiveAggressiveClassifier,
    Perceptron,
    RidgeClassifier,
    RidgeClassifierCV,
    SGDClassifier,
)
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import (
    OneVsOneClassifier,
    OneVsRestClassifier,
    OutputCodeClassifier,
    _ConstantPredictor,
)
from sklearn.naive_bayes import (
    BernoulliNB,
    CategoricalNB,
    ComplementNB,
    GaussianNB,
    MultinomialNB,
)
from sklearn.neighbors import NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, Pipeline
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
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.svm import SVC, LinearSVC, NuSVC
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier

from iris_api.compiling.converters import (
    calibrated,
    classifiers,
    composed,
    ensembles,
    kernels,
    piecewise,
    transformers,
)
from iris_api.compiling.converters.graph import (
    ClassifierConverter,
    Converters,
    Graph,
    NoConverterError,
    TeamConverter,
    TransformerConverter,
)
from iris_api.compiling.sampling import parts_of

CLASSIFIERS: dict[type, ClassifierConverter] = {
    AdaBoostClassifier: composed.convert_ada_boost,
    BaggingClassifier: composed.convert_bagging,
    BernoulliNB: classifiers.convert_bernoulli,
    CalibratedClassifierCV: calibrated.convert_calibrated,
    CategoricalNB: classifiers.convert_categorical,
    ComplementNB: classifiers.convert_complement,
    DecisionTreeClassifier: ensembles.convert_tree,
    DummyClassifier: classifiers.convert_dummy,
    ExtraTreeClassifier: ensembles.convert_tree,
    ExtraTreesClassifier: ensembles.convert_forest,
    FixedThresholdClassifier: composed.convert_threshold,
    FrozenEstimator: composed.convert_wrapped,
    GaussianNB: classifiers.convert_gaussian,
    GradientBoostingClassifier: ensembles.convert_gradient_boosting,
    GridSearchCV: composed.convert_search,
    HistGradientBoostingClassifier: ensembles.convert_histogram_boosting,
    LinearDiscriminantAnalysis: classifiers.convert_linear,
    LinearSVC: classifiers.convert_linear,
    LogisticRegression: classifiers.convert_linear,
    LogisticRegressionCV: classifiers.convert_linear,
    MLPClassifier: classifiers.convert_perceptron,
    MultinomialNB: classifiers.convert_multinomial,
    NearestCentroid: classifiers.convert_centroid,
    NuSVC: kernels.convert_vectors,
    OneVsOneClassifier: composed.convert_one_against_one,
    OneVsRestClassifier: composed.convert_one_against_rest,
    OutputCodeClassifier: composed.convert_output_code,
    PassiveAggressiveClassifier: classifiers.convert_linear,
    Perceptron: classifiers.convert_linear,
    Pipeline: composed.convert_pipeline,
    QuadraticDiscriminantAnalysis: classifiers.convert_quadratic,
    RFE: composed.convert_elimination,
    RFECV: composed.convert_elimination,
    RandomForestClassifier: ensembles.convert_forest,
    RandomizedSearchCV: composed.convert_search,
    RidgeClassifier: classifiers.convert_linear,
    RidgeClassifierCV: classifiers.convert_linear,
    SGDClassifier: classifiers.convert_linear,
    SVC: kernels.convert_vectors,
    SelfTrainingClassifier: composed.convert_wrapped,
    StackingClassifier: composed.convert_stacking,
    TunedThresholdClassifierCV: composed.convert_threshold,
    VotingClassifier: composed.convert_voting,
    _ConstantPredictor: classifiers.convert_constant,
}

_TEAMS: dict[type, TeamConverter] = {
    kind: classifiers.convert_linear_team
    for kind, converter in CLASSIFIERS.items()
    if converter is classifiers.convert_linear
} | {SVC: kernels.convert_vectors_team, NuSVC: kernels.convert_vectors_team}

TRANSFORMERS: dict[type, TransformerConverter] = {
    Binarizer: piecewise.convert_binarizer,
    ColumnTransformer: transformers.convert_columns,
    FastICA: transformers.convert_components,
    FeatureUnion: transformers.convert_union,
    FunctionTransformer: transformers.convert_function,
    IncrementalPCA: transformers.convert_principal,
    KBinsDiscretizer: piecewise.convert_bins,
    LinearDiscriminantAnalysis: transformers.convert_discriminants,
    MaxAbsScaler: transformers.convert_largest,
    MinMaxScaler: transformers.convert_minimum,
    Normalizer: transformers.convert_normalizer,
    Nystroem: kernels.convert_nystroem,
    RBFSampler: kernels.convert_fourier,
    PCA: transformers.convert_principal,
    Pipeline: transformers.convert_steps,
    PolynomialFeatures: transformers.convert_polynomials,
    PowerTransformer: transformers.convert_power,
    QuantileTransformer: piecewise.convert_quantiles,
    RobustScaler: transformers.convert_robust,
    SimpleImputer: transformers.convert_imputer,
    SplineTransformer: piecewise.convert_splines,
    StandardScaler: transformers.convert_standard,
    TruncatedSVD: transformers.convert_components,
    str: transformers.keep,  # "passthrough"
    type(None): transformers.keep,
}
TRANSFORMERS |= dict.fromkeys(
    (
        GenericUnivariateSelect,
        RFE,
        RFECV,
        SelectFdr,
        SelectFpr,
        SelectFromModel,
        SelectFwe,
        SelectKBest,
        SelectPercentile,
        SequentialFeatureSelector,
        VarianceThreshold,
    ),
    transformers.convert_selection,
)

_INEXACT = {
    "GaussianProcessClassifier": "Gaussian processes have no exact compiled form",
    "KNeighborsClassifier": "nearest neighbours has no exact compiled form",
    "LabelPropagation": "label propagation has no exact compiled form",
    "LabelSpreading": "label spreading has no exact compiled form",
    "RadiusNeighborsClassifier": "nearest neighbours has no exact compiled form",
}
"""Kinds whose classes say less than their usual names."""


def convert(classifier: ClassifierMixin) -> ModelProto:
    """Convert a fitted classifier to ONNX in float64.

    Returns:
        The model. Input "rows": float64 (n, features). Outputs "label": int64 (n,), places in
        `classes_`; and, with `predict_proba`, "probabilities": float64 (n, k).

    Raises:
        NoConverterError: There is none. The message is a sentence for those who trained it.
    """
    graph = Graph(Converters(CLASSIFIERS, _TEAMS, TRANSFORMERS))
    try:
        answer = graph.answer(classifier, graph.rows)
    except NoConverterError:
        raise
    except Exception as error:
        # A converter that does not fit an unusual estimator fails like any code. Whatever it is,
        # the estimator itself is still there to serve.
        raise NoConverterError(why_not(classifier)) from error
    return graph.model(answer, columns=classifier.n_features_in_, classes=len(classifier.classes_))


def why_not(classifier: Any) -> str:
    """Return a sentence that says why a classifier is not compiled, for those who trained it."""
    parts = list(parts_of(classifier))
    for part in parts:
        if reason := _INEXACT.get(type(part).__name__):
            return reason
    known = CLASSIFIERS.keys() | TRANSFORMERS.keys()
    for part in parts:
        estimator = hasattr(part, "get_params") and hasattr(part, "fit")
        if estimator and type(part) not in known:
            return f"{type(part).__name__} has no exact compiled form"
    return f"this {type(classifier).__name__} has no exact compiled form"

"""The converter of each type of estimator."""

from typing import Any

import numpy as np
from onnx import ModelProto
from sklearn.base import is_regressor

from iris_api.compiling.converters import (
    cells,
    committees,
    composed,
    kernels,
    likelihoods,
    linear,
    transformers,
    tree_ensembles,
)
from iris_api.compiling.graph import Converters, Graph
from iris_api.compiling.reasons import NoConverterError, why_not

CONVERTERS = Converters(
    classifiers={
        **committees.CLASSIFIERS,
        **composed.CLASSIFIERS,
        **kernels.CLASSIFIERS,
        **likelihoods.CLASSIFIERS,
        **linear.CLASSIFIERS,
        **tree_ensembles.CLASSIFIERS,
    },
    teams={**kernels.TEAMS, **linear.TEAMS},
    regressors={
        **committees.REGRESSORS,
        **composed.REGRESSORS,
        **kernels.REGRESSORS,
        **likelihoods.REGRESSORS,
        **linear.REGRESSORS,
        **tree_ensembles.REGRESSORS,
    },
    transformers={
        **cells.TRANSFORMERS,
        **composed.TRANSFORMERS,
        **kernels.TRANSFORMERS,
        **transformers.TRANSFORMERS,
    },
)


def convert(estimator: Any) -> ModelProto:
    """Convert a fitted classifier or regressor of one target to ONNX in float64.

    Returns:
        The model. Input "rows": float64 (n, features). Outputs of a classifier "label": int64
        (n,), places in `classes_`; and, with `predict_proba`, "probabilities": float64 (n, k).
        Output of a regressor "prediction": float64 (n,).

    Raises:
        NoConverterError: There is none. The message is a sentence for those who trained it.
    """
    graph = Graph(CONVERTERS)
    try:
        if is_regressor(estimator):
            flat = graph.op("Reshape", graph.predict(estimator, graph.rows), np.array([-1]))
            return graph.model({"prediction": flat}, columns=estimator.n_features_in_, classes=0)
        answer = graph.answer(estimator, graph.rows)
    except NoConverterError:
        raise
    except Exception as error:
        # A converter that does not fit an unusual estimator fails like any code. Whatever it is,
        # the estimator itself is still there to serve.
        raise NoConverterError(why_not(estimator)) from error
    return graph.model(
        {"label": answer.index, "probabilities": answer.probabilities},
        columns=estimator.n_features_in_,
        classes=len(estimator.classes_),
    )

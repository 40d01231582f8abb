"""The engines of a model: onnxruntime if it is compiled, else scikit-learn."""

import os
import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from iris_api.errors import IrisError, one_line


class RowsError(IrisError):
    """Rows that an estimator does not accept, such as numbers that float32 cannot hold."""


class Answer(NamedTuple):
    """The answer of a model to n rows.

    A value is the index of a class, or what a regressor predicts. Probabilities are None where the
    model has none, or where they were not asked for and would have taken a second run.
    """

    values: NDArray[np.int64] | NDArray[np.float64]  # shape (n,)
    probabilities: NDArray[np.floating[Any]] | None  # shape (n, k), in the order of the classes


def open_session(model: bytes) -> Any:
    """Open a serialized ONNX model in onnxruntime, on one thread.

    A row has no work to share out: a second thread costs its hand-over and
    takes a core from the other workers.

    Raises:
        Exception: onnxruntime has one type for each kind of bad model, without a common base.
    """
    # From 1.29 on, ONNX Runtime reports its use to its maker, unless this is set before it is
    # loaded (Privacy.md in its package). So it is loaded here and nowhere else.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as ort  # noqa: PLC0415

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal; errors are raised anyway, and the log adds nothing
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxEngine:
    """The compiled model in onnxruntime."""

    def __init__(self, model: bytes) -> None:
        self._session = open_session(model)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.has_probabilities = len(self._outputs) > 1
        kind = self._session.get_inputs()[0].type
        self._dtype = np.float32 if kind == "tensor(float)" else np.float64

    def answer(self, rows: NDArray[np.float64], *, probabilities: bool) -> Answer:  # noqa: ARG002 (they cost nothing)
        """Run the whole graph: both outputs cost what one does, to within 0.2 us and 1 %."""
        found = self._session.run(self._outputs, {"rows": rows.astype(self._dtype, copy=False)})
        return Answer(found[0], found[1] if self.has_probabilities else None)


LABELS_BY_PROBABILITY = {
    "BaggingClassifier",
    "CalibratedClassifierCV",
    "DecisionTreeClassifier",
    "ExtraTreeClassifier",
    "ExtraTreesClassifier",
    "KNeighborsClassifier",
    "RandomForestClassifier",
    "VotingClassifier",
}
"""scikit-learn's classifiers whose `predict` returns the class of the highest probability."""


class SklearnEngine:
    """The estimator itself, for models that have no proven ONNX form."""

    def __init__(self, estimator: Any) -> None:
        # `Model` keeps the order of the columns. The filter is for the whole process and for good,
        # because a block that ignores warnings is not safe beside the threads of long batches.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        self._estimator = estimator
        self._classes = getattr(estimator, "classes_", None)
        self.has_probabilities = hasattr(estimator, "predict_proba")
        self._labels_by_probability = type(_last(estimator)).__name__ in LABELS_BY_PROBABILITY

    def answer(self, rows: NDArray[np.float64], *, probabilities: bool) -> Answer:
        """Run the estimator for labels, and for probabilities if they are asked for.

        A threshold, for example, can make `predict` return another class than the most probable.

        Raises:
            RowsError: The estimator does not accept the rows.
        """
        try:
            return self._answer(rows, probabilities=probabilities)
        except ValueError as error:
            text = f"the model does not accept these rows: {one_line(error, 160)}"
            raise RowsError(text) from error

    def _answer(self, rows: NDArray[np.float64], *, probabilities: bool) -> Answer:
        if not probabilities:
            return Answer(self._predict(rows), None)
        # Some estimators return a transposed view, which cannot be written as JSON.
        found = np.ascontiguousarray(self._estimator.predict_proba(rows))
        by_probability = self._labels_by_probability
        return Answer(found.argmax(axis=1) if by_probability else self._predict(rows), found)

    def _predict(self, rows: NDArray[np.float64]) -> NDArray[Any]:
        found: NDArray[Any] = self._estimator.predict(rows)
        if self._classes is None:
            return found.astype(np.float64).ravel()
        return np.searchsorted(self._classes, found)


def _last(estimator: Any) -> Any:
    """Return the classifier at the end of pipelines and searches."""
    if hasattr(estimator, "steps"):
        return _last(estimator.steps[-1][1])
    return _last(estimator.best_estimator_) if hasattr(estimator, "best_estimator_") else estimator


Engine = OnnxEngine | SklearnEngine
"""Both take rows whose columns are in the model's own order."""

"""A loaded model: rows in, labels and probabilities out."""

import warnings
from typing import Any, Literal, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from iris_api.errors import IrisError, one_line
from iris_api.schema import FEATURES
from iris_api.store import entry as store
from iris_api.store.metadata import Example
from iris_api.vetting.training_profile import TrainingProfile

HIDDEN = {"files", "example"}
"""Metadata for the machinery, of no use to a client."""

EXAMPLE_TOLERANCE = 1e-5
"""Of the example's probabilities; what `iris_api/compiling/proof.py` allows."""


Origin = Literal["store", "bento"]
"""Where an entry was: in the model store of BENTOML_HOME, or in the Bento that is served."""


class Answer(NamedTuple):
    """What a model says of n rows.

    Attributes:
        labels: class indices, shape (n,).
        probabilities: shape (n, k), columns in the order of the classes; None where the model has
            none, or where they would have taken another run of it and nobody asked.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.floating[Any]] | None


class Engine(Protocol):
    """What computes, with the columns in the model's own order."""

    has_probabilities: bool

    def answer(self, rows: NDArray[np.float64], *, probabilities: bool) -> Answer:
        """Return labels, and probabilities where they are asked for or come for nothing."""
        ...


class OnnxEngine:
    """The compiled model in onnxruntime, one thread: workers are the unit that scales."""

    def __init__(self, model: bytes) -> None:
        # Not at the top: the process that only starts the workers need not load it.
        from iris_api.model.onnx_session import open_session  # noqa: PLC0415

        self._session = open_session(model)
        self.has_probabilities = len(self._session.get_outputs()) > 1
        self._outputs = ["label", "probabilities"] if self.has_probabilities else ["label"]
        kind = self._session.get_inputs()[0].type
        self._dtype = np.float32 if kind == "tensor(float)" else np.float64

    def answer(self, rows: NDArray[np.float64], *, probabilities: bool) -> Answer:  # noqa: ARG002 (they cost nothing)
        """Run the whole graph: both outputs cost what one does, to within 0.2 us and 1 %."""
        found = self._session.run(self._outputs, {"rows": rows.astype(self._dtype, copy=False)})
        return Answer(found[0], found[1] if self.has_probabilities else None)


class SklearnEngine:
    """The estimator itself, for models that have no proven ONNX form."""

    def __init__(self, estimator: Any) -> None:
        # Their order is held by the classifier. For the whole process and for good, because a block
        # that ignores warnings is not safe with the threads of long batches beside it.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        self._estimator = estimator
        self.has_probabilities = hasattr(estimator, "predict_proba")

    def answer(self, rows: NDArray[np.float64], *, probabilities: bool) -> Answer:
        """Run the estimator once: for labels, or for probabilities, whose highest is the label."""
        if not probabilities:
            return Answer(self.labels(rows), None)
        found = self.probabilities(rows)
        return Answer(found.argmax(axis=1), found)

    def labels(self, rows: NDArray[np.float64]) -> NDArray[np.int64]:
        """Predict as scikit-learn does, and look the labels up."""
        labels = self._estimator.predict(rows)
        found: NDArray[np.int64] = np.searchsorted(self._estimator.classes_, labels)
        return found

    def probabilities(self, rows: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
        """Predict probabilities as scikit-learn does."""
        found = self._estimator.predict_proba(rows)
        # Some give a transposed view, which cannot be written as JSON.
        return np.ascontiguousarray(found)


class Classifier:
    """One version of a registered model, verified and ready to answer.

    Attributes:
        tag: of the entry in the model store.
        version: in the registry.
        classes: the labels, in the order of the probabilities' columns.
        info: what `GET /model` answers: name, stage and version, then the rest.
        has_probabilities: whether they can be asked for.
        profile: of the training rows, where the model came with one.
    """

    def __init__(self, entry: store.Entry, engine: Engine, origin: Origin) -> None:
        metadata = entry.metadata
        self.tag = str(entry.tag)
        self.version = metadata.version
        self.classes = metadata.classes
        self._labels = np.array(self.classes, dtype=object)
        card = metadata.model_dump(mode="json", exclude=HIDDEN, exclude_none=True)
        first = {key: card[key] for key in ("name", "stage", "version")}
        self.info: dict[str, Any] = first | {"tag": self.tag, "origin": origin} | card
        order = [FEATURES.index(feature) for feature in metadata.features]
        self._order = None if order == sorted(order) else order
        self._engine = engine
        self.has_probabilities = engine.has_probabilities
        self.profile = TrainingProfile.read(entry.path / store.MODEL_FOLDER)

    @classmethod
    def load(cls, entry: store.Entry, *, origin: Origin) -> Self:
        """Verify an entry of a store, open its model and have it answer its example.

        Raises:
            StoreError: its files, or its answers, are not those of the import, or it cannot be
                opened.
            VettingError: its training profile cannot be used.
            OSError: a file cannot be read.
        """
        try:
            store.verify(entry)
            model = cls(entry, cls._open(entry), origin)
            model._check_example(entry.metadata.example)
        except (IrisError, OSError):
            raise
        except Exception as error:
            # A key that is missing, or an ONNX model of another version: onnxruntime has a type for
            # each failure, without a common base. Whoever loads has other entries to fall back to.
            raise store.StoreError(
                f"{entry.tag} cannot be opened ({type(error).__name__}: {one_line(error)}); "
                f"run bentoml models delete {entry.tag}, then import it again"
            ) from error
        return model

    @staticmethod
    def _open(entry: store.Entry) -> Engine:
        folder = entry.path
        if entry.metadata.engine == "onnx":
            return OnnxEngine((folder / store.ONNX_FILE).read_bytes())
        # scikit-learn takes seconds and 150 MB: only a model that needs it pays for it.
        from threadpoolctl import threadpool_limits  # noqa: PLC0415

        from iris_api.vetting.estimator import open_estimator  # noqa: PLC0415
        from iris_api.vetting.mlmodel import read_flavor  # noqa: PLC0415

        threadpool_limits(1)  # workers are the unit that scales

        directory, converted = folder / store.MODEL_FOLDER, folder / store.SKOPS_FILE
        skops = converted.read_bytes() if converted.exists() else None
        return SklearnEngine(open_estimator(directory, read_flavor(directory), skops))

    def _check_example(self, example: Example) -> None:
        """Compare with what scikit-learn answered at the import; rows in the model's own order."""
        rows = np.array(example.rows, dtype=np.float64)
        labels = self._engine.answer(rows, probabilities=False).labels
        agrees = labels.tolist() == example.labels
        if agrees and self.has_probabilities:
            expected = np.array(example.probabilities)
            found = self._engine.answer(rows, probabilities=True).probabilities
            agrees = found is not None and np.allclose(
                found, expected, rtol=0, atol=EXAMPLE_TOLERANCE
            )
        if not agrees:
            raise store.StoreError(
                f"{self.tag} does not answer its example as at its import; "
                f"run bentoml models delete {self.tag}, then import it again"
            )

    def answer(self, rows: NDArray[np.float64], *, probabilities: bool) -> Answer:
        """Classify rows.

        Args:
            rows: shape (n, 4), in centimetres, columns in the order of `FEATURES`.
            probabilities: whether they are wanted, of a model that has them.
        """
        return self._engine.answer(self._ordered(rows), probabilities=probabilities)

    def names(self, labels: NDArray[np.int64]) -> list[str | int]:
        """Return the classes of an answer's labels, in their order."""
        found: list[str | int] = self._labels[labels].tolist()
        return found

    def _ordered(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return rows if self._order is None else rows[:, self._order]

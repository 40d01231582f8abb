"""A loaded model: rows in, class indices and probabilities out."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self

import bentoml
import numpy as np
from numpy.typing import NDArray

from iris_api import store
from iris_api.contract import FEATURES
from iris_api.onnx_session import open_session

HIDDEN = {"files", "example"}
"""Metadata for the machinery, of no use to a client."""


class Engine(Protocol):
    """What computes, with the columns in the model's own order."""

    has_probabilities: bool

    def run(self, rows: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[Any] | None]:
        """Return class indices, shape (n,), and probabilities, shape (n, k), where there are."""
        ...


class OnnxEngine:
    """The compiled model in onnxruntime, one thread: workers are the unit that scales."""

    def __init__(self, model: bytes) -> None:
        self._session = open_session(model)
        self.has_probabilities = len(self._session.get_outputs()) > 1
        kind = self._session.get_inputs()[0].type
        self._dtype = np.float32 if kind == "tensor(float)" else np.float64

    def run(self, rows: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[Any] | None]:
        """Run the graph once over all rows."""
        label, *probabilities = self._session.run(
            None, {"rows": rows.astype(self._dtype, copy=False)}
        )
        return label, probabilities[0] if probabilities else None


class SklearnEngine:
    """The estimator itself, for models that have no proven ONNX form."""

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator
        self.has_probabilities = hasattr(estimator, "predict_proba")

    def run(self, rows: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[Any] | None]:
        """Predict as scikit-learn does, the labels as indices."""
        with warnings.catch_warnings():
            # Trained on a data frame: the order of the columns is held by the classifier.
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            labels = self._estimator.predict(rows)
            probabilities = self._estimator.predict_proba(rows) if self.has_probabilities else None
        return np.searchsorted(self._estimator.classes_, labels), probabilities


class Classifier:
    """One version of a registered model, verified and ready to answer.

    Attributes:
        tag: of the entry in the model store.
        version: in the registry.
        classes: the labels, in the order of the probabilities' columns.
        info: what `GET /model` answers: name, stage and version, then the rest.
        has_probabilities: whether `run` gives them.
    """

    def __init__(self, entry: bentoml.Model, engine: Engine) -> None:
        metadata = store.metadata_of(entry)
        self.tag = str(entry.tag)
        self.version = int(metadata["version"])
        self.classes: list[str | int] = list(metadata["classes"])
        first = {key: metadata[key] for key in ("name", "stage", "version")}
        rest = {key: value for key, value in metadata.items() if key not in HIDDEN}
        self.info: dict[str, Any] = first | {"tag": self.tag} | rest
        order = [FEATURES.index(feature) for feature in metadata["features"]]
        self._order = None if order == sorted(order) else order
        self._engine = engine
        self.has_probabilities = engine.has_probabilities

    @classmethod
    def load(cls, entry: bentoml.Model) -> Self:
        """Verify an entry of the store and open its model.

        Raises:
            StoreError: its files are not those of the import.
        """
        store.verify(entry)
        folder = Path(entry.path)
        if store.metadata_of(entry)["engine"] == "onnx":
            return cls(entry, OnnxEngine((folder / store.ONNX_FILE).read_bytes()))
        # scikit-learn takes seconds and 150 MB: only a model that needs it pays for it.
        from iris_api.flavor import read_flavor  # noqa: PLC0415
        from iris_api.vetting import open_estimator  # noqa: PLC0415

        flavor = read_flavor(folder / store.MODEL_FOLDER)
        if (folder / store.SKOPS_FILE).exists():
            flavor = replace(flavor, model_file=store.SKOPS_FILE, serialization_format="skops")
            return cls(entry, SklearnEngine(open_estimator(folder, flavor)))
        return cls(entry, SklearnEngine(open_estimator(folder / store.MODEL_FOLDER, flavor)))

    def run(self, rows: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[Any] | None]:
        """Classify rows.

        Args:
            rows: shape (n, 4), in centimetres, columns in the order of `FEATURES`.

        Returns:
            Indices into `classes`, shape (n,), and probabilities, shape (n, k) with columns as in
            `classes`, or None for a model that gives none.
        """
        return self._engine.run(rows if self._order is None else rows[:, self._order])

"""A model that is verified, loaded and ready to answer."""

import copy
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from iris_api.errors import IrisError, one_line
from iris_api.model.engines import Answer, Engine, OnnxEngine, SklearnEngine
from iris_api.model.self_check import check_example
from iris_api.schema import Label
from iris_api.store.entry import MODEL_FOLDER, ONNX_FILE, SKOPS_FILE, Entry, damaged, verify
from iris_api.store.metadata import Provenance
from iris_api.vetting.training_profile import TrainingProfile

SHOWN_EXAMPLES = 2
"""Rows of the example that documents show."""


class Model:
    """One version of a registered model."""

    def __init__(self, entry: Entry, engine: Engine, origin: Literal["store", "bento"]) -> None:
        self.tag = str(entry.tag)
        self.metadata = entry.metadata
        self.version = entry.metadata.version
        self.schema = entry.metadata.contract
        self.classes = entry.metadata.classes  # as the probabilities; none of a regressor
        self.origin = origin  # the model store of BENTOML_HOME, or the served Bento
        self._labels = np.array(self.classes, dtype=object) if self.classes else None
        names = self.schema.names
        order = [names.index(feature) for feature in entry.metadata.features]
        self._order = None if order == sorted(order) else order
        example = entry.metadata.example.rows[:SHOWN_EXAMPLES]
        places = [order.index(place) for place in range(len(names))]
        self.examples = [[row[place] for place in places] for row in example]
        self.engine = engine
        self.has_probabilities = engine.has_probabilities
        self.profile = TrainingProfile.read(entry.path / MODEL_FOLDER)

    @classmethod
    def load(cls, entry: Entry, *, origin: Literal["store", "bento"]) -> Self:
        """Verify an entry, open its model and have it answer its example.

        Raises:
            IrisError: Its files or answers are not those of the import, or it cannot be opened.
            OSError: A file cannot be read.
        """
        try:
            verify(entry)
            engine = _open_engine(entry)
            check_example(engine, entry)
            return cls(entry, engine, origin)
        except (IrisError, OSError):
            raise
        except Exception as error:
            # An ONNX model of another version, for example: onnxruntime has a type for each
            # failure, without a common base. The caller has other entries to fall back to.
            problem = f"cannot be opened ({type(error).__name__}: {one_line(error)})"
            raise damaged(entry, problem) from error

    def promoted(self, entry: Entry, origin: str) -> Self | None:
        """Return this model with the stage and aliases of its entry; None if more has changed."""
        now = dict(Provenance.model_validate(dict(entry.metadata)))
        known = self.metadata.model_copy(update=now)
        is_same = (str(entry.tag), origin) == (self.tag, self.origin)
        if not is_same or entry.metadata != known:
            return None
        promoted = copy.copy(self)
        promoted.metadata = entry.metadata
        return promoted

    def answer(self, rows: NDArray[np.float64], *, probabilities: bool) -> Answer:
        """Answer rows, float64 (n, columns), in the order of the schema's columns."""
        ordered = rows if self._order is None else rows[:, self._order]
        return self.engine.answer(ordered, probabilities=probabilities)

    def predictions(self, answer: Answer) -> list[Label]:
        """Return the label of each row, or what a regressor predicts, as JSON has them."""
        values = answer.values
        found: list[Label] = (values if self._labels is None else self._labels[values]).tolist()
        return found


def _open_engine(entry: Entry) -> Engine:
    if entry.metadata.engine == "onnx":
        return OnnxEngine((entry.path / ONNX_FILE).read_bytes())
    # scikit-learn takes seconds and 150 MB: only a model that needs it pays for it.
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    from iris_api.vetting.estimator import open_estimator  # noqa: PLC0415
    from iris_api.vetting.mixed_tables.frames import answer_rows  # noqa: PLC0415
    from iris_api.vetting.mlmodel import read_flavor  # noqa: PLC0415

    threadpool_limits(1)  # the service scales by its workers
    directory, converted = entry.path / MODEL_FOLDER, entry.path / SKOPS_FILE
    skops = converted.read_bytes() if converted.exists() else None
    estimator = open_estimator(directory, read_flavor(directory), skops)
    return SklearnEngine(
        answer_rows(estimator, entry.metadata.contract.in_order(entry.metadata.features))
    )

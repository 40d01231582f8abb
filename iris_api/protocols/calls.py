"""The kinds of prediction call: how bodies become rows, and how answers become bodies.

Here are those of the native protocol and of KServe's V1, whose bodies are almost the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from iris_api.model.engines import Answer
from iris_api.model.loaded_model import Model
from iris_api.protocols.native import NativeProtocol, write_answer
from iris_api.protocols.problems import InvalidRequestError

JSON = b"application/json"

Headers = Sequence[tuple[bytes, bytes]]
"""The headers of a request, their names in lower case."""


class Query(NamedTuple):
    """The rows of a request, and what its answer must have."""

    rows: NDArray[np.float64]
    probabilities: bool = False
    details: Any = None  # what the protocol keeps from the request for its reply


class Reply(NamedTuple):
    """The body of an answer, and the headers that its protocol adds."""

    content: bytes
    headers: Mapping[str, str] = {}
    media_type: str | None = None  # JSON


class Call:
    """A kind of prediction call to one model."""

    media_types: ClassVar[tuple[bytes, ...]] = (JSON,)
    media_types_text: ClassVar[str] = "send JSON, with Content-Type: application/json"
    needs_probabilities: ClassVar[bool] = False

    def __init__(self, model: Model, native: NativeProtocol) -> None:
        self.model = model
        self.native = native

    def parse(self, body: bytes, headers: Headers) -> Query:
        """Parse the body of a request, or raise an InvalidRequestError."""
        raise NotImplementedError

    def write(self, query: Query, answer: Answer) -> Reply:
        """Write the answer to a query."""
        raise NotImplementedError


class Predict(Call):
    """`POST /predict`."""

    def parse(self, body: bytes, _headers: Headers) -> Query:
        """Parse JSON in one of the two forms."""
        return Query(self.native.parse_rows(body), self.needs_probabilities)

    def write(self, query: Query, answer: Answer) -> Reply:
        """Write `Predictions`, or `Probabilities`."""
        return Reply(write_answer(self.model, answer, probabilities=query.probabilities))


class PredictProba(Predict):
    """`POST /predict_proba`."""

    needs_probabilities = True


class PredictV1(Predict):
    """`POST /v1/models/NAME:predict`, KServe's protocol V1: many rows alone."""

    def parse(self, body: bytes, headers: Headers) -> Query:
        """Parse JSON with `instances`."""
        if b'"instances"' not in body:
            raise InvalidRequestError("the body must be an object with instances")
        return super().parse(body, headers)


def header(headers: Headers, name: bytes) -> bytes | None:
    """Return the value of a header, or None."""
    return next((value for key, value in headers if key == name), None)

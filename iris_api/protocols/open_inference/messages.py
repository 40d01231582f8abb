"""The messages of the Open Inference Protocol: a model's metadata, and the JSON Schema of all.

JSON Schema cannot say that data fit their shape.
"""

from typing import TYPE_CHECKING, Any

from iris_api.protocols.native_messages import array, record
from iris_api.schema import ColumnType, Schema

if TYPE_CHECKING:  # the process that starts the workers must not load numpy
    from iris_api.model.loaded_model import Model

DATATYPES: dict[ColumnType, str] = {
    "number": "FP64",
    "integer": "INT64",
    "boolean": "BOOL",
    "string": "BYTES",
}
"""The datatype of a column in the metadata of the model."""

_LABELS = {bool: "BOOL", int: "INT64", str: "BYTES"}

_TEXT = {"type": "string"}
_PARAMETERS = {"type": "object"}
_TENSOR = {"name": _TEXT, "datatype": _TEXT, "shape": array({"type": "integer"})}
_DATA = {"parameters": _PARAMETERS, "data": {"type": "array", "description": "flat or nested"}}
_DESCRIBED = array(record("name datatype shape", **_TENSOR))
_SENT = array(record("name datatype shape", **_TENSOR, **_DATA), 1)
_WANTED = array(record("name", name=_TEXT, parameters=_PARAMETERS))
_NAMED = {"model_name": _TEXT, "model_version": _TEXT, "id": _TEXT}

SCHEMAS: dict[str, Any] = {
    "InferRequest": record(
        "inputs", id=_TEXT, parameters=_PARAMETERS, inputs=_SENT, outputs=_WANTED
    ),
    "InferResponse": record("model_name model_version outputs", **_NAMED, outputs=_SENT),
    "ServerMetadata": record(
        "name version extensions", name=_TEXT, version=_TEXT, extensions=array(_TEXT)
    ),
    "ModelMetadata": record(
        "name versions platform inputs outputs",
        name=_TEXT,
        versions=array(_TEXT),
        platform=_TEXT,
        inputs=_DESCRIBED,
        outputs=_DESCRIBED,
    ),
}
"""The JSON Schema of each message."""


def describe(model: "Model") -> dict[str, Any]:
    """Return the metadata of a model: its inputs and its outputs."""
    inputs = [
        {"name": column.name, "datatype": DATATYPES[column.type], "shape": [-1, 1]}
        for column in model.schema.columns
    ]
    outputs = [{"name": "predict", "datatype": label_datatype(model.schema), "shape": [-1]}]
    if model.has_probabilities:
        shape = [-1, len(model.classes)]
        outputs.append({"name": "predict_proba", "datatype": "FP64", "shape": shape})
    return {
        "name": model.metadata.name,
        "versions": [str(model.version)],
        "platform": "mlflow_sklearn",
        "inputs": inputs,
        "outputs": outputs,
    }


def label_datatype(schema: Schema) -> str:
    """Return the datatype of the labels of a classifier, or of the numbers of a regressor."""
    labels = schema.labels
    return _LABELS.get(type(labels[0]), "FP64") if labels else "FP64"

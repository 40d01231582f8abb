"""The OpenAPI document: every route, both forms of a request, every error.

BentoML generates one as well, but with its own errors instead of ours, and without the second form.
"""

import copy
import re
from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

from iris_api.protocols.native_messages import (
    Probabilities,
    array,
    examples,
    instances,
    predictions,
    record,
    row,
)
from iris_api.protocols.open_inference import messages
from iris_api.protocols.problems import INVOCATIONS
from iris_api.schema import RESERVED, Schema
from iris_api.serving.messages import ErrorBody, Health, ServedModel

REF = "#/components/schemas/{model}"

V1 = "/v1/models/{name}:predict"

V2 = "/v2/models/{name}/infer"
V2_VERSION = "/v2/models/{name}/versions/{version}/infer"

PREDICTION_PATHS = ("/predict", "/predict_proba", INVOCATIONS, V1, V2, V2_VERSION)
"""The paths of prediction calls, which have the errors below."""

TAGS = {
    "predictions": "Rows in, answers out.",
    "other protocols": "MLflow's scoring server, KServe's V1 and the Open Inference Protocol.",
    "model": "What answers: where it comes from, its schema and its proof.",
    "operations": "For probes and Prometheus.",
}

ERRORS = {
    400: "The body breaks the contract; `detail` names the places.",
    401: "The service has API keys, and the request has none of them.",
    404: "The path names another model or version, or the model gives no probabilities.",
    405: "Another method than POST.",
    413: "The body has too many bytes or rows.",
    415: "The body has another media type, or another encoding than gzip.",
    429: "The worker has as many requests as it accepts.",
    500: "The service failed; its log says why.",
    503: "No model can answer; the reason is in the error.",
    504: "The body was not received, or the answer not computed, in time.",
}


def _header(name: str, description: str, kind: str) -> dict[str, Any]:
    return {"headers": {name: {"description": description, "schema": {"type": kind}}}}


ERROR_HEADERS = {
    401: _header("WWW-Authenticate", "The scheme to use.", "string"),
    405: _header("Allow", "The methods that are possible.", "string"),
    429: _header("Retry-After", "Seconds to wait.", "integer"),
}
VERSION_HEADER = _header(
    "X-Model-Version", "Registry version of the model that computed the answer.", "integer"
)


_TEXT = {"type": "string"}
_ROWS = array({"type": ["array", "object"]}, 1)

OTHER_SCHEMAS: dict[str, Any] = messages.SCHEMAS | {
    "MlflowError": record("error_code message", error_code=_TEXT, message=_TEXT),
    "Frame": {
        "description": "Many rows, in one of the forms of MLflow's scoring server.",
        "oneOf": [
            record("dataframe_split", dataframe_split=record("data", data=_ROWS)),
            record("dataframe_records", dataframe_records=_ROWS),
            record(RESERVED, **{RESERVED: _ROWS}),
            record("inputs", inputs={"type": ["array", "object"]}),
        ],
    },
    "Models": record("models", models=array(_TEXT)),
    "ModelReady": record("name ready", name=_TEXT, ready={"type": "boolean"}),
}
"""The messages of the other protocols."""


def document(
    version: str,
    name: str,
    schema: Schema | None,
    rows: Sequence[Sequence[float]],
    *,
    has_keys: bool = False,
) -> dict[str, Any]:
    """Describe this version of the service.

    Args:
        version: The version of this project.
        name: The name of the registered model.
        schema: The schema of the model that answers, if any does.
        rows: Its examples, in the order of the schema's columns.
        has_keys: Whether predictions need an API key.
    """
    bodies = (Probabilities, Health, ServedModel, ErrorBody)
    _, schemas = models_json_schema([(each, "validation") for each in bodies], ref_template=REF)
    schemas["$defs"] |= OTHER_SCHEMAS | {"Predictions": predictions(schema)}
    request: dict[str, Any] = {"schema": {"type": "object"}}
    many = request
    if schema:
        schemas["$defs"] |= {"Row": row(schema), "Instances": instances(schema)}
        found = examples(schema, rows)
        request = {"schema": {"oneOf": [_ref("Row"), _ref("Instances")]}, "examples": found}
        many = {"schema": _ref("Instances"), "examples": {"instances": found["instances"]}}
    paths = {
        "/predict": _prediction("Predict the label or number of each row.", request, "Predictions"),
        "/predict_proba": _prediction(
            "Give each class's probability for each row.", request, "Probabilities"
        ),
        **_own_routes(),
        **_other_protocols(many),
    }
    if schema and schema.task == "regressor":
        del paths["/predict_proba"], schemas["$defs"]["Probabilities"]
    for path, operations in paths.items():
        for operation in operations.values():
            operation["operationId"] = re.sub(r"\W+", "_", path).strip("_")
            operation["parameters"] = [
                {"name": each, "in": "path", "required": True, "schema": kind}
                for each, kind in (("name", _TEXT | {"enum": [name]}), ("version", _TEXT))
                if f"{{{each}}}" in path
            ]
            if has_keys and path in PREDICTION_PATHS:
                operation["security"] = [{"key": []}]
    key = {"type": "http", "scheme": "bearer", "description": "A key of the service."}
    security = {"securitySchemes": {"key": key}} if has_keys else {}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Iris API",
            "version": version,
            "description": "Predicts with a scikit-learn model from an MLflow registry.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "."}],
        "tags": [{"name": tag, "description": text} for tag, text in TAGS.items()],
        "paths": paths,
        "components": {"schemas": schemas["$defs"], **security},
    }


def _own_routes() -> dict[str, Any]:
    health = {"200": _json("A model can answer.", "Health")}
    health["503"] = _json("No model can answer.", "Health")
    model = {"200": _json("The model that answers now.", "ServedModel"), **_errors(503)}
    text = {"200": {"description": "Plain text.", "content": {"text/plain": {}}}}
    return {
        "/health": _get("operations", "Say whether a model can answer.", health),
        "/model": _get("model", "Return where the model comes from.", model),
        "/metrics": _get("operations", "Return metrics in Prometheus' text format.", text),
        "/livez": _get("operations", "Answer while the process lives.", text),
        "/readyz": _get("operations", "Answer once the process accepts requests.", text),
    }


def _other_protocols(many: dict[str, Any]) -> dict[str, Any]:
    """Describe MLflow's scoring server, KServe's V1 and the Open Inference Protocol."""

    def get(summary: str, answer: str, *errors: int) -> dict[str, Any]:
        return _get("other protocols", summary, {"200": _json("OK.", answer), **_errors(*errors)})

    empty = {"200": {"description": "OK.", "content": {"application/json": {}}}}
    frame = _prediction(
        "Predict as MLflow's scoring server.",
        {"schema": _ref("Frame")},
        "Predictions",
        "MlflowError",
    )
    frame["post"]["requestBody"]["content"]["text/csv"] = {}
    infer = _prediction("Predict by tensors.", {"schema": _ref("InferRequest")}, "InferResponse")
    infer["post"]["requestBody"]["content"]["application/octet-stream"] = {}
    ready = get("Say whether the model can answer.", "ModelReady", 404, 503)
    metadata = get("Return the inputs and outputs of the model.", "ModelMetadata", 404, 503)
    v1 = _prediction("Predict as KServe's protocol V1.", many, "Predictions")
    for each in (frame, infer, v1):
        each["post"]["tags"] = ["other protocols"]
    version = "/v2/models/{name}/versions/{version}"
    return {
        INVOCATIONS: frame,
        "/ping": _get(
            "other protocols", "Answer while a model can.", empty | _errors(503, body="MlflowError")
        ),
        "/version": _get("other protocols", "Return MLflow's version.", empty),
        "/v1/models": get("Return the name of the model.", "Models"),
        "/v1/models/{name}": ready,
        V1: v1,
        "/v2": get("Return the server's name and extensions.", "ServerMetadata"),
        "/v2/health/live": _get("other protocols", "Answer while the process lives.", empty),
        "/v2/health/ready": _get(
            "other protocols", "Answer while a model can.", empty | _errors(503)
        ),
        "/v2/models/{name}": metadata,
        "/v2/models/{name}/ready": copy.deepcopy(ready),
        V2: infer,
        version: copy.deepcopy(metadata),
        f"{version}/ready": copy.deepcopy(ready),
        V2_VERSION: copy.deepcopy(infer),
    }


def _get(tag: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"tags": [tag], "summary": summary, "responses": responses | _errors(405)}}


def _prediction(
    summary: str, content: dict[str, Any], answer: str, error: str = "ErrorBody"
) -> dict[str, Any]:
    success = _json("One entry for each row, in the order of the rows.", answer) | VERSION_HEADER
    return {
        "post": {
            "tags": ["predictions"],
            "summary": summary,
            "requestBody": {"required": True, "content": {"application/json": content}},
            "responses": {"200": success, **_errors(*ERRORS, body=error)},
        }
    }


def _errors(*statuses: int, body: str = "ErrorBody") -> dict[str, Any]:
    return {
        str(status): _json(ERRORS[status], body) | ERROR_HEADERS.get(status, {})
        for status in statuses
    }


def _json(description: str, model: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _ref(model)}}}


def _ref(model: str) -> dict[str, str]:
    return {"$ref": REF.format(model=model)}

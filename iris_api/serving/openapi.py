"""The OpenAPI document: every route, both forms of a request, every error.

BentoML generates one as well, but with its own errors instead of ours, and without the second form.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from iris_api.protocols.native_messages import Predictions, Probabilities, examples, instances, row
from iris_api.schema import Schema
from iris_api.serving.messages import ErrorBody, Health, ServedModel

REF = "#/components/schemas/{model}"

PREDICTION_PATHS = ("/predict", "/predict_proba")
"""The paths of prediction calls, which have the errors below."""

TAGS = {
    "predictions": "Rows in, answers out.",
    "model": "What answers: where it comes from, its schema and its proof.",
    "operations": "For probes and Prometheus.",
}

ERRORS = {
    400: "The body breaks the contract; `detail` names the places.",
    401: "The service has API keys, and the request has none of them.",
    404: "The model gives no probabilities.",
    405: "Another method than POST.",
    413: "The body has too many bytes or rows.",
    415: "The body does not say that it is JSON.",
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


def document(
    version: str,
    schema: Schema | None,
    rows: Sequence[Sequence[float]],
    *,
    has_keys: bool = False,
) -> dict[str, Any]:
    """Describe this version of the service.

    Args:
        version: The version of this project.
        schema: The schema of the model that answers, if any does.
        rows: Its examples, in the order of the schema's columns.
        has_keys: Whether predictions need an API key.
    """
    bodies = (Predictions, Probabilities, Health, ServedModel, ErrorBody)
    _, schemas = models_json_schema([(each, "validation") for each in bodies], ref_template=REF)
    health = {"200": _json("A model can answer.", Health)}
    health["503"] = _json("No model can answer.", Health)
    model = {"200": _json("The model that answers now.", ServedModel), **_errors(503)}
    text = {"200": {"description": "Plain text.", "content": {"text/plain": {}}}}
    request: dict[str, Any] = {"schema": {"type": "object"}}
    if schema:
        schemas["$defs"] |= {"Row": row(schema), "Instances": instances(schema)}
        forms = [{"$ref": REF.format(model=form)} for form in ("Row", "Instances")]
        request = {"schema": {"oneOf": forms}, "examples": examples(schema, rows)}
    paths = {
        "predict": _prediction("Predict the label of each row.", request, Predictions, has_keys),
        "predict_proba": _prediction(
            "Give each class's probability for each row.", request, Probabilities, has_keys
        ),
        "health": _get("operations", "Say whether a model can answer.", health),
        "model": _get("model", "Return where the model comes from.", model),
        "metrics": _get("operations", "Return metrics in Prometheus' text format.", text),
        "livez": _get("operations", "Answer while the process lives.", text),
        "readyz": _get("operations", "Answer once the process accepts requests.", text),
    }
    for name, operations in paths.items():
        for operation in operations.values():
            operation["operationId"] = name
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
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": {f"/{name}": operations for name, operations in paths.items()},
        "components": {"schemas": schemas["$defs"], **security},
    }


def _get(tag: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"tags": [tag], "summary": summary, "responses": responses | _errors(405)}}


def _prediction(
    summary: str, content: dict[str, Any], answer: type[BaseModel], has_keys: bool
) -> dict[str, Any]:
    success = _json("One entry for each row, in the order of the rows.", answer) | VERSION_HEADER
    errors = [status for status in ERRORS if status != 404 or answer is Probabilities]
    return {
        "post": {
            "tags": ["predictions"],
            "summary": summary,
            **({"security": [{"key": []}]} if has_keys else {}),
            "requestBody": {"required": True, "content": {"application/json": content}},
            "responses": {"200": success, **_errors(*errors)},
        }
    }


def _errors(*statuses: int) -> dict[str, Any]:
    return {
        str(status): _json(ERRORS[status], ErrorBody) | ERROR_HEADERS.get(status, {})
        for status in statuses
    }


def _json(description: str, model: type[BaseModel]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _ref(model)}}}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}

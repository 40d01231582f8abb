"""The OpenAPI document: every route, both request forms, every error.

BentoML generates one, but with its own errors instead of ours and without the second form.
"""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from iris_api.protocols import messages


def _header(name: str, description: str, kind: str) -> dict[str, Any]:
    return {"headers": {name: {"description": description, "schema": {"type": kind}}}}


REF = "#/components/schemas/{model}"

PREDICTIONS = ("/predict", "/predict_proba")
"""The paths of prediction calls, whose errors these are."""

ERRORS = {
    400: "The body breaks the contract; `detail` names the places.",
    401: "The service has API keys, and the request has none of them.",
    404: "The model gives no probabilities.",
    405: "Another method than POST.",
    413: "The body has too many bytes or rows.",
    415: "The body does not say that it is JSON.",
    429: "The worker has as many requests as it takes.",
    500: "The service failed; its log says why.",
    503: "No model can answer; the reason is in the error.",
    504: "The body was not received, or the answer not computed, in time.",
}

ERROR_HEADERS: dict[int, dict[str, Any]] = {
    401: _header("WWW-Authenticate", "The scheme to use.", "string"),
    405: _header("Allow", "The methods that are possible.", "string"),
    429: _header("Retry-After", "Seconds to wait.", "integer"),
}


def document(version: str) -> dict[str, Any]:
    """Describe the service.

    Args:
        version: of the project.
    """
    _, schemas = models_json_schema(
        [
            (model, "validation")
            for model in (
                messages.Flower,
                messages.Instances,
                messages.Predictions,
                messages.Probabilities,
                messages.Health,
                messages.Provenance,
                messages.ErrorBody,
            )
        ],
        ref_template=REF,
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Iris API",
            "version": version,
            "description": "Classifies irises with a scikit-learn model from an MLflow registry.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "."}],
        "paths": {
            "/predict": {
                "post": _prediction("predict", "Predict the label of each row.", "Predictions")
            },
            "/predict_proba": {
                "post": _prediction(
                    "predict_proba", "Give each class's probability for each row.", "Probabilities"
                )
            },
            "/health": {
                "get": {
                    "operationId": "health",
                    "summary": "Say whether a model can answer.",
                    "responses": {
                        "200": _json("A model can answer.", "Health"),
                        "503": _json("No model can answer.", "Health"),
                        **_errors(405),
                    },
                }
            },
            "/model": {
                "get": {
                    "operationId": "model",
                    "summary": "Tell where the model comes from.",
                    "responses": {
                        "200": _json("The model that answers now.", "Provenance"),
                        **_errors(405, 503),
                    },
                }
            },
            "/metrics": {"get": _text("metrics", "Metrics in Prometheus' text format.")},
            "/livez": {"get": _text("livez", "Answers while the process lives.")},
            "/readyz": {"get": _text("readyz", "Answers once the process takes requests.")},
        },
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key of the service, where it has been given any.",
                }
            },
        },
    }


def _prediction(operation: str, summary: str, answer: str) -> dict[str, Any]:
    forms: list[type[BaseModel]] = [messages.Flower, messages.Instances]
    return {
        "operationId": operation,
        "summary": summary,
        "security": [{"key": []}, {}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"oneOf": [{"$ref": REF.format(model=f.__name__)} for f in forms]},
                    "examples": {
                        form.__name__.lower(): {
                            "summary": form.__doc__,
                            "value": form.model_json_schema()["example"],
                        }
                        for form in forms
                    },
                }
            },
        },
        "responses": {
            "200": _json("One entry for each row, in the order of the rows.", answer)
            | _header(
                "X-Model-Version",
                "Registry version of the model that computed the answer.",
                "integer",
            ),
            **_errors(*(status for status in ERRORS if status != 404 or operation != "predict")),
        },
    }


def _errors(*statuses: int) -> dict[str, Any]:
    return {
        str(status): _json(ERRORS[status], "ErrorBody") | ERROR_HEADERS.get(status, {})
        for status in statuses
    }


def _json(description: str, model: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": REF.format(model=model)}}},
    }


def _text(operation: str, summary: str) -> dict[str, Any]:
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {
            "200": {"description": "Plain text.", "content": {"text/plain": {}}},
            **_errors(405),
        },
    }

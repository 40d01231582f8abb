"""The OpenAPI document against the answers of the service; test_fuzz.py has generated requests."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

NO_SCHEMA = re.compile("not valid JSON|is given twice|not NaN or Infinity")
"""Errors about what JSON schemas say nothing of."""

INVALID = [
    case
    for case in json.loads(Path(__file__).with_name("bad_requests.json").read_text("utf-8"))
    if case["status"] == 400 and not NO_SCHEMA.search(case["answer"]["error"])
]

ROW = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
TENSOR = {"name": "x", "shape": [1, 4], "datatype": "FP64", "data": ROW["instances"][0]}
BODIES: dict[str, Any] = {"infer": {"inputs": [TENSOR]}}


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    """Fetch the document once."""
    found: dict[str, Any] = client.get("/docs.json").json()
    return found


def _check(document: dict[str, Any], described: dict[str, Any], content: Any) -> None:
    """Check JSON against the schema of a described request or response."""
    schema = described["content"]["application/json"]["schema"]
    root = schema | {"components": document["components"]}
    jsonschema.Draft202012Validator(root).validate(content)


def test_other_protocols(document: dict[str, Any], client: httpx.Client) -> None:
    """Answers and errors of the other protocols are as the document describes them."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            place = path.replace("{name}", "IrisModel").replace("{version}", "1")
            body = BODIES.get(path.rpartition("/")[2], ROW) if method == "post" else None
            for url in (place, place.replace("IrisModel", "Other")):
                answer = client.request(method, url, json=body)
                described = operation["responses"][str(answer.status_code)]
                if "schema" in described["content"].get("application/json", {}):
                    _check(document, described, answer.json())


@pytest.mark.parametrize("path", ["/predict", "/predict_proba"])
def test_request_forms(document: dict[str, Any], client: httpx.Client, path: str) -> None:
    """Both forms have an example that their schema allows and the service answers."""
    operation = document["paths"][path]["post"]
    request, success = operation["requestBody"], operation["responses"]["200"]
    examples = request["content"]["application/json"]["examples"]
    assert sorted(examples) == ["instances", "row"]

    for example in examples.values():
        answer = client.post(path, json=example["value"])
        _check(document, request, example["value"])
        assert answer.status_code == 200
        _check(document, success, answer.json())
        assert success["headers"].keys() <= {key.title() for key in answer.headers}


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case["name"])
def test_invalid_bodies(
    document: dict[str, Any], client: httpx.Client, case: dict[str, Any]
) -> None:
    """Bodies that the service rejects are invalid by the schema, and the error is as described."""
    operation = document["paths"]["/predict"]["post"]
    answer = client.post("/predict", content=case["body"])

    with pytest.raises(jsonschema.ValidationError):
        _check(document, operation["requestBody"], json.loads(case["body"]))
    assert answer.status_code == 400
    _check(document, operation["responses"]["400"], answer.json())

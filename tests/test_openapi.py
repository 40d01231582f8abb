"""The OpenAPI document against the answers of the service."""

import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

INVALID = [
    case
    for case in json.loads(Path(__file__).with_name("bad_requests.json").read_text("utf-8"))
    if case["status"] == 400 and not case["answer"]["error"].startswith("not valid JSON")
]


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    """Fetch the document once."""
    found: dict[str, Any] = client.get("/docs.json").json()
    return found


def _check(document: dict[str, Any], schema: dict[str, Any], content: Any) -> None:
    root = schema | {"components": document["components"]}
    jsonschema.Draft202012Validator(root).validate(content)


def _response_schema(document: dict[str, Any], answer: httpx.Response) -> dict[str, Any]:
    request = answer.request
    operation = document["paths"][request.url.path][request.method.lower()]
    described = operation["responses"][str(answer.status_code)]
    schema: dict[str, Any] = described["content"]["application/json"]["schema"]
    return schema


@pytest.mark.parametrize("path", ["/predict", "/predict_proba"])
def test_request_forms(document: dict[str, Any], client: httpx.Client, path: str) -> None:
    """Both forms have an example that their schema allows and the service answers."""
    described = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    assert sorted(described["examples"]) == ["flower", "instances"]

    for example in described["examples"].values():
        answer = client.post(path, json=example["value"])
        _check(document, described["schema"], example["value"])
        assert answer.status_code == 200
        _check(document, _response_schema(document, answer), answer.json())
        described_headers = document["paths"][path]["post"]["responses"]["200"]["headers"]
        assert described_headers.keys() <= {key.title() for key in answer.headers}


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case["name"])
def test_invalid_bodies(
    document: dict[str, Any], client: httpx.Client, case: dict[str, Any]
) -> None:
    """What the service rejects is invalid by the schema, and the error is as described."""
    described = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    answer = client.post("/predict", content=case["body"])

    with pytest.raises(jsonschema.ValidationError):
        _check(document, described["schema"], json.loads(case["body"]))
    assert answer.status_code == 400
    _check(document, _response_schema(document, answer), answer.json())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/model", 200),
        ("PUT", "/predict", 405),
        ("POST", "/predict", 415),
    ],
)
def test_other_answers(
    document: dict[str, Any], client: httpx.Client, method: str, path: str, status: int
) -> None:
    """The other answers have the described shape, too."""
    answer = client.request(method, path, headers={"Content-Type": "text/plain"})

    assert answer.status_code == status
    described = next(iter(document["paths"][path].values()))["responses"][str(status)]
    _check(document, described["content"]["application/json"]["schema"], answer.json())


def test_every_described_route_is_there(document: dict[str, Any], client: httpx.Client) -> None:
    """No described route answers 404, and every one knows its method."""
    for path, operations in document["paths"].items():
        for method in operations:
            assert client.request(method, path).status_code not in {404, 405}, path

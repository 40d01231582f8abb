"""The OpenAPI document against what the service really answers."""

from typing import Any

import httpx
import jsonschema
import pytest

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


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


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"instances": []},
        {"instances": [[1, 2, 3]]},
        {"instances": [[1, 2, 3, 4, 5]]},
        {"instances": [[1, 2, 3, "4"]]},
        {"instances": [[1, 2, 3, 101]]},
        {"instances": [[1, 2, 3, -1]]},
        {"instances": [[1, 2, 3, 4]], "more": 1},
        {"instances": [[1, 2, 3, 4]], **FLOWER},
        FLOWER | {"more": 1},
        FLOWER | {"sepal_length": True},
    ],
)
def test_refused_bodies(document: dict[str, Any], client: httpx.Client, body: Any) -> None:
    """What the service refuses, the schema refuses, and the error has the described shape."""
    described = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    answer = client.post("/predict", json=body)

    with pytest.raises(jsonschema.ValidationError):
        _check(document, described["schema"], body)
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

"""A model that is a folder: its import, its service, and the files for KServe that use it."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import servers, warm

from iris_api.serving import openapi
from iris_api.settings import Settings

KSERVE = servers.ROOT / "deploy" / "kserve"


@pytest.fixture
def import_folder(plain_env: dict[str, str], tmp_path: Path) -> Any:
    """Return a function that imports a folder without a tracking server."""
    env = plain_env | {
        "BENTOML_HOME": str(tmp_path / "home"),
        "IRIS_MODEL_URI": "models:/flowers/7",
    }

    def run(folder: Path, **more: str) -> warm.Done:
        return warm.run(tmp_path / "output", env=env | {"IRIS_MODEL_FOLDER": str(folder)} | more)

    return run


def test_import(import_folder: Any, saved: Path, tmp_path: Path) -> None:
    """The URI gives the name and the version, and the same vetting and proof are made."""
    first = import_folder(saved / "skops")
    again = import_folder(Path(os.path.relpath(saved / "skops")))

    assert first.status == again.status == 0, first.stderr
    assert first.stdout == again.stdout
    assert first.stdout.startswith("flowers:v7-")
    assert "compiled to ONNX and proved on" in first.stderr
    (entry,) = (tmp_path / "home" / "models" / "flowers").glob("v7-*/model.yaml")
    metadata = yaml.safe_load(entry.read_text())["metadata"]
    assert (metadata["name"], metadata["version"]) == ("flowers", 7)
    assert metadata["source"] == (saved / "skops").resolve().as_uri()


def test_folders_that_are_rejected(import_folder: Any, saved: Path, tmp_path: Path) -> None:
    """A folder without a model, with links, or too large is one line that says so."""
    empty, linked = tmp_path / "empty", tmp_path / "linked"
    empty.mkdir()
    linked.mkdir()
    (linked / "MLmodel").write_text("{}")
    (linked / "passwd").symlink_to("/etc/passwd")

    assert "has no file MLmodel; set it to a folder" in import_folder(empty).error
    assert "passwd is neither a file nor a folder; leave it out" in import_folder(linked).error
    large = import_folder(saved / "skops", IRIS_IMPORT_MAX_BYTES="10")
    assert "and IRIS_IMPORT_MAX_BYTES allows 10" in large.error


def test_kserve() -> None:
    """The files for KServe name settings, a port and paths of this service, and each other."""
    runtime = yaml.safe_load((KSERVE / "serving-runtime.yaml").read_text())
    service = yaml.safe_load((KSERVE / "inference-service.yaml").read_text())
    (container,) = runtime["spec"]["containers"]
    env = {each["name"]: each["value"] for each in container["env"]}
    model = service["spec"]["predictor"]["model"]
    formats = {each["name"] for each in runtime["spec"]["supportedModelFormats"]}

    assert Settings.model_validate(env).model_folder == Path("/mnt/models")
    assert [port["containerPort"] for port in container["ports"]] == [Settings().port]
    paths = openapi.document("", "", None, [])["paths"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in paths
        assert container[probe]["httpGet"]["port"] == Settings().port
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] in formats
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]

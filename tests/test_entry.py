"""Entries that an earlier version of this project wrote are listed, served and updated."""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from support import servers
from support.warm import Run

from iris_api.store.metadata import EntryMetadata, NotCompiled, Signature

WRITTEN = Path(__file__).with_name("data") / "entry_of_0.1.0.yaml"
"""The model.yaml of an entry as version 0.1.0 imported it."""


@pytest.fixture
def former(store: Path) -> Path:
    """Give the entry in the store the model.yaml of version 0.1.0; its files are newer."""
    (entry,) = (store / "models/irismodel").glob("v1-*")
    current = yaml.safe_load((entry / "model.yaml").read_text("utf-8"))
    content = yaml.safe_load(WRITTEN.read_text("utf-8"))
    content["version"] = entry.name
    for key in ("digest", "files", "tracking_uri", "run_id", "model_id", "source"):
        content["metadata"][key] = current["metadata"][key]
    (entry / "model.yaml").write_text(yaml.safe_dump(content), "utf-8")
    return entry


def _read(**changes: Any) -> EntryMetadata:
    written = yaml.safe_load(WRITTEN.read_text("utf-8"))["metadata"]
    return EntryMetadata.read(written | changes)


def test_listed(run: Run, former: Path) -> None:
    """The entry is in the list, and importing its version again finds it."""
    listed = json.loads(run("--list", "--json").stdout)
    imported = run("models:/IrisModel/1")

    assert [row["tag"] for row in listed] == [f"irismodel:{former.name}"]
    assert listed[0]["imported_at"] == "2026-11-27T22:02:12+00:00"
    assert imported.stdout == f"irismodel:{former.name}\n"
    assert f"irismodel:{former.name} is in the store already, and active" in imported.stderr


@pytest.mark.thorough
def test_served(former: Path, store: Path, plain_env: dict[str, str], tmp_path: Path) -> None:
    """The entry is verified, answers its example, and GET /model shows what it records."""
    env = plain_env | {"BENTOML_HOME": str(store)}
    with servers.bentoml_service(tmp_path / "log", env=env) as server:
        model = httpx.get(f"{server.url}/model").json()

    assert model["tag"] == f"irismodel:{former.name}"
    assert model["imported_at"] == "2026-11-27T22:02:12+00:00"
    assert model["proof"]["rows"] == 9747
    assert model["signature"] == {
        "inputs": [
            {"name": name, "type": "double", "required": True} for name in model["features"]
        ],
        "outputs": [{"type": "tensor", "tensor-spec": {"dtype": "str", "shape": [-1]}}],
    }
    assert {"files", "example"}.isdisjoint(model)


def test_missing_and_unknown_keys() -> None:
    """Metadata that serving does not need have defaults, and unknown metadata are ignored."""
    written = yaml.safe_load(WRITTEN.read_text("utf-8"))["metadata"]
    needed = ("name", "version", "digest", "features", "classes", "engine", "files", "example")
    read = EntryMetadata.read({key: written[key] for key in needed} | {"novelty": 1})

    assert (read.stage, read.aliases, read.run_id, read.imported_at) == ("None", [], None, None)
    assert read.signature == Signature()
    assert read.metrics == {}
    for key in needed:
        with pytest.raises(ValueError, match=f"^{key}: Field required$"):
            EntryMetadata.read({other: value for other, value in written.items() if other != key})


def test_values_of_earlier_versions() -> None:
    """An empty text is no run, and an empty proof is a model that was not to be compiled."""
    read = _read(run_id="", model_id="", proof={}, imported_at="2026-11-23T08:55:23+00:00")

    assert read.run_id is read.model_id is None
    assert read.proof == NotCompiled()
    assert read.imported_at == datetime(2026, 11, 23, 8, 55, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    "outputs",
    ["", "[{]", "5", '[{"type": 5}]', "[" * 5000, '[{"type": "\\ud800"}]', '[{"type": NaN}]', 5],
)
def test_odd_signature(outputs: object) -> None:
    """The part of a signature that is no list of columns is left out, and the rest is read."""
    read = _read(signature={"inputs": '[{"type": "long", "name": "a"}]', "outputs": outputs})

    assert read.signature.outputs is None
    assert read.model_dump(mode="json", exclude_none=True)["signature"] == {
        "inputs": [{"type": "long", "name": "a"}]
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", ["IrisModel"]),
        ("aliases", 5),
        ("version", "one"),
        ("version", True),
        ("version", 0),
        ("files", []),
        ("imported_at", date(2026, 1, 1)),
        ("imported_at", "2026-01-01T00:00:00"),
        ("engine", "pickle"),
        ("proof", {"rows": 5}),
    ],
)
def test_wrong_types(key: str, value: object) -> None:
    """A value of another type than the import writes is an error that names its key."""
    with pytest.raises(ValueError, match=f"^{key}[.:]"):
        _read(**{key: value})

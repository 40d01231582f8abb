"""The output of `--list` and `--dry-run`, as text and as JSON."""

import json
import re
import shlex
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Tracking
from support import servers
from support.warm import Run, runner, snapshot, staged

from iris_api.schema import FEATURES


@pytest.fixture
def offline(plain_env: dict[str, str], store: Path, tmp_path: Path) -> Run:
    """Give the command line without a tracking server."""
    return runner(tmp_path / "output", plain_env | {"BENTOML_HOME": str(store)})


def _entry(store: Path) -> Path:
    (entry,) = (store / "models/irismodel").glob("v1-*")
    return entry


def _tag(store: Path) -> str:
    return f"irismodel:{_entry(store).name}"


def _add_version(store: Path) -> str:
    """Put version 2 into a store, with the alias rival."""
    entry = _entry(store)
    added = entry.with_name("v2-01234567")
    shutil.copytree(entry, added)
    text = (entry / "model.yaml").read_text("utf-8").replace(entry.name, added.name)
    text = text.replace("\n  version: 1\n", "\n  version: 2\n").replace("- champion", "- rival")
    (added / "model.yaml").write_text(text, encoding="utf-8")
    return f"irismodel:{added.name}"


def test_list(offline: Run, store: Path) -> None:
    """A table has one line for each version, and a star before the active one."""
    added = _add_version(store)
    before = snapshot(store)
    done = offline("--list")

    header, *lines = done.stdout.splitlines()
    assert done.status == 0
    assert done.stderr == ""
    assert header.split() == [
        *("TAG", "VERSION", "STAGE", "ALIASES", "AS", "OF", "REGISTRY", "ENGINE", "SIZE", "AGE")
    ]
    assert len(lines) == 2
    one, two = sorted(lines, key=lambda line: line[2:])
    since = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    size = r"\d+\.\d\d KiB"  # as `bentoml models list` has it
    rest = rf" +(\d+) +Production +(\w+) +{since} +http://\S+ +onnx +{size} +\d+ (s|min|h|d)"
    assert re.fullmatch(re.escape(f"* {_tag(store)}") + rest, one)
    assert re.fullmatch(re.escape(f"  {added}") + rest, two)
    assert " champion " in one
    assert " rival " in two
    assert snapshot(store) == before


def test_list_as_json(offline: Run, store: Path) -> None:
    """The JSON has the same, with whole numbers of bytes and seconds, and nothing of others."""
    _add_version(store)
    for name, text in (
        ("empty", ""),
        ("list", "- 1"),
        ("yaml", "{"),
        ("part", "name: irismodel\nversion: part\n"),
    ):
        folder = store / "models/irismodel" / name
        folder.mkdir()
        (folder / "model.yaml").write_text(text, encoding="utf-8")
    (store / "models/other").mkdir()
    done = offline("--list", "--json")

    rows: list[dict[str, Any]] = json.loads(done.stdout)
    size = sum(path.stat().st_size for path in _entry(store).rglob("*") if path.is_file())
    first = next(row for row in rows if row["version"] == 1)
    age = first.pop("age")
    assert done.status == 0, done.stderr
    assert isinstance(age, int)
    assert 0 <= age < 10**6
    assert first.pop("imported_at") == first.pop("as_of")
    assert first.pop("tracking_uri").startswith("http://127.0.0.1:")
    assert first == {
        "tag": _tag(store),
        "active": True,
        "name": "IrisModel",
        "version": 1,
        "stage": "Production",
        "aliases": ["champion"],
        "registry_uri": None,
        "workspace": None,
        "engine": "onnx",
        "estimator": "LogisticRegression",
        "bytes": size,
        "problem": None,
    }
    assert sorted(row["active"] for row in rows) == [False, True]


def test_list_asks_the_registry(run: Run, tracking: Tracking, store: Path) -> None:
    """Stages and aliases are those of now, of entries of this registry, where it answers."""
    (entry,) = store.glob("models/irismodel/v1-*/model.yaml")
    text = re.sub("tracking_uri: .*", f"tracking_uri: {tracking.url}", entry.read_text("utf-8"))
    entry.write_text(text.replace("stage: Production", "stage: Staging"), "utf-8")
    added = _add_version(store)
    other = store / "models" / added.replace(":", "/") / "model.yaml"
    other.write_text(other.read_text("utf-8").replace(tracking.url, "http://other:1"), "utf-8")
    (row, of_other) = sorted(json.loads(run("--list", "--json").stdout), key=lambda row: row["tag"])
    port = servers.free_port()
    entry.write_text(entry.read_text("utf-8").replace(tracking.url, f"http://127.0.0.1:{port}"))
    away = run("--list", "--json", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}")

    age = datetime.now(UTC) - datetime.fromisoformat(row["as_of"])
    assert (row["stage"], row["aliases"]) == ("Production", ["champion"])
    assert age < timedelta(minutes=1)
    assert (of_other["stage"], of_other["aliases"]) == ("Staging", ["rival"])
    assert of_other["as_of"] == of_other["imported_at"]
    assert json.loads(away.stdout)[0]["stage"] == "Staging"
    assert away.stderr.startswith(
        f"stages and aliases are not those of now: http://127.0.0.1:{port} refuses the connection"
    )


def test_list_after_a_rollback(run: Run, store: Path) -> None:
    """The star marks the version that was activated last, not the newest."""
    added = _add_version(store)
    (store / "models/irismodel/latest").write_text(added.split(":")[1], encoding="utf-8")
    before = json.loads(run("--list", "--json").stdout)
    run("models:/IrisModel/1")
    after = json.loads(run("--list", "--json").stdout)

    assert [row["tag"] for row in before if row["active"]] == [added]
    assert [row["tag"] for row in after if row["active"]] == [_tag(store)]


@pytest.mark.parametrize(
    "damage",
    [b"\0\0\0", b"\xff\xfe", b"", b"../../x", b"latest", b"v1", b"v9-01234567"],
    ids=["zeros", "no text", "empty", "path", "itself", "beginning", "gone"],
)
def test_damaged_pointer(run: Run, store: Path, damage: bytes) -> None:
    """Without an active version none has the star, and the next import repairs the file."""
    added = _add_version(store)
    pointer = store / "models/irismodel/latest"
    pointer.write_bytes(damage)
    listed = run("--list", "--json")
    left = pointer.read_bytes()
    imported = run("models:/IrisModel/1")

    assert {row["tag"]: row["active"] for row in json.loads(listed.stdout)} == {
        _tag(store): False,
        added: False,
    }
    assert left == damage
    assert imported.stdout == f"{_tag(store)}\n"
    assert f"irismodel:{pointer.read_text('utf-8')}" == _tag(store)
    assert not (store / "models/irismodel/previous").exists()


@pytest.mark.parametrize("file", ["model.yaml", "model.onnx", "mlflow_model/MLmodel"])
def test_damaged_active_entry(
    offline: Run, run: Run, store: Path, plain_env: dict[str, str], file: str
) -> None:
    """A damaged active entry is listed with a command that removes it, and imported again."""
    (_entry(store) / file).write_text("[")
    folder, tag = _entry(store), _tag(store)
    table = offline("--list")
    (row,) = json.loads(offline("--list", "--json").stdout)
    command = re.search(r"; run (rm -r .*), then import it again$", row["problem"])
    assert command
    removed = subprocess.run(shlex.split(command[1]), check=False, env=plain_env)
    left = folder.exists()
    again = run("models:/IrisModel/1")

    assert table.stdout.splitlines()[1].startswith(f"* {tag} ")
    assert table.stderr == f"{row['problem']}\n"
    assert (row["tag"], row["active"]) == (tag, True)
    assert (removed.returncode, left) == (0, False)
    assert again.stdout == f"{tag}\n"
    assert json.loads(offline("--list", "--json").stdout)[0]["problem"] is None


def test_list_without_a_store(offline: Run, tmp_path: Path) -> None:
    """Nothing is listed, and no store is made."""
    home = tmp_path / "new"
    table = offline("--list", BENTOML_HOME=str(home))
    rows = offline("--list", "--json", BENTOML_HOME=str(home))

    assert (table.status, rows.status) == (0, 0)
    assert table.stderr == rows.stderr == f"nothing is imported in the model store {home}/models\n"
    assert table.stdout == "  TAG VERSION STAGE ALIASES AS OF REGISTRY ENGINE SIZE AGE\n"
    assert json.loads(rows.stdout) == []
    assert not home.exists()


ODD = {
    "timestamp": ("module: bentoml.mlflow", "module: !!timestamp foo"),
    "name": ("name: irismodel", "name: 5"),
    "version": ("version: FOLDER", "version: 7"),
    "another folder": ("version: FOLDER", "version: v7"),
    "deep": ("module: bentoml.mlflow", f"module: {'[' * 5000}"),
    "labels": ("labels:", "labels: 5\nothers:"),
    "no text": ("module: bentoml.mlflow", "module: \udcff"),
    "switch as version": ("  version: 1\n", "  version: true\n"),
    "no zone": ("creation_time: '", "creation_time: '2026-01-01T00:00:00'\nothers: '"),
}
"""A text in model.yaml, and an odd one in its place."""


@pytest.mark.parametrize(("usual", "odd"), ODD.values(), ids=ODD)
@pytest.mark.parametrize("model", ["irismodel", "other"])
def test_unreadable_entry(
    offline: Run, run: Run, store: Path, model: str, usual: str, odd: str
) -> None:
    """An entry that cannot be read is left out of the list, and does not stop an import."""
    entry = _entry(store)
    folder = store / "models" / model / "v9-01234567"
    folder.mkdir(parents=True)
    text = (entry / "model.yaml").read_text("utf-8")
    usual = usual.replace("FOLDER", entry.name)
    assert usual in text
    text = text.replace(usual, odd, 1).replace(f"version: {entry.name}", f"version: {folder.name}")
    (folder / "model.yaml").write_text(
        text.replace("\nname: irismodel", f"\nname: {model}"), "utf-8", "surrogateescape"
    )
    listed = offline("--list", "--json")
    imported = run("models:/IrisModel/1")

    assert [row["tag"] for row in json.loads(listed.stdout)] == [_tag(store)]
    assert listed.stderr == ""
    assert imported.stdout == f"{_tag(store)}\n"


def test_dry_run(run: Run, tracking: Tracking, tmp_path: Path) -> None:
    """A dry run prints what the import would store, and makes no store."""
    home = tmp_path / "new"
    done = run("--dry-run", "models:/IrisModel@champion", BENTOML_HOME=str(home))

    said = {line[:16].strip(): line[17:] for line in done.stdout.splitlines()}
    assert done.status == 0
    assert said["version"] == "1"
    assert said["stage"] == "Production"
    assert said["aliases"] == "champion"
    assert said["in_store"] == "no"
    assert said["files"] == "8"
    assert int(said["bytes"]) > 1000
    assert said["estimator"] == "LogisticRegression"
    assert said["engine"] == "onnx"
    assert said["proof"].startswith("precision float64, rows ")
    assert said["features"] == ", ".join(FEATURES)
    assert said["classes"] == "setosa, versicolor, virginica"
    assert not re.search(r"[{}]|\['", done.stdout)  # as Python prints its own
    assert done.stderr.splitlines()[0] == "importing models:/IrisModel@champion, as a dry run"
    assert f"through {tracking.url}" in done.stderr
    assert not home.exists()


def test_dry_run_as_json(run: Run, store: Path) -> None:
    """The JSON is one object, and says that the store has this version already."""
    before = snapshot(store)
    done = run("--dry-run", "--json")

    found = json.loads(done.stdout)
    assert done.status == 0
    assert found["tag"] == _tag(store)
    assert found["in_store"] is True
    assert found["version"] == 1
    assert found["aliases"] == ["champion"]
    assert found["proof"]["rows"] > 1000
    assert found["signature"]["inputs"][0]["name"] == FEATURES[0]
    assert snapshot(store) == before
    assert staged(store) == []


def test_dry_run_is_what_the_import_does(run: Run, tmp_path: Path) -> None:
    """The import stores the tag that a dry run prints."""
    home = str(tmp_path / "new")
    said = json.loads(run("--dry-run", "--json", "--engine", "sklearn", BENTOML_HOME=home).stdout)
    done = run("--engine", "sklearn", BENTOML_HOME=home)

    assert said["engine"] == "sklearn"
    assert said["proof"] == {
        "reason": "The model was imported with --engine sklearn, so it was not compiled."
    }
    assert done.stdout == f"{said['tag']}\n"


RANGE = "argument --timeout: must be more than 0 and at most 31536000"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--json", "--json goes with --dry-run or --list; an import prints the tag"),
        ("--list --dry-run", "argument --dry-run: not allowed with argument --list"),
        ("--list models:/A/1", "--list does not go with a model URI"),
        ("--watch 5 --dry-run", "argument --dry-run: not allowed with argument --watch"),
        ("--watch 5 --list", "argument --list: not allowed with argument --watch"),
        ("--watch 5 --json", "--json goes with --dry-run or --list; an import prints the tag"),
        ("--watch 0", "argument --watch: must be more than 0 and at most 31536000"),
        ("--timeout 0", RANGE),
        ("--timeout 1e300", RANGE),
        ("--timeout inf", RANGE),
        ("--timeout nan", RANGE),
        ("--timeout soon", "argument --timeout: invalid seconds value: 'soon'"),
    ],
)
def test_wrong_usage(offline: Run, arguments: str, line: str) -> None:
    """Options that exclude each other, or have no sense, end with exit status 2."""
    done = offline(*arguments.split())

    assert done.status == 2
    assert done.stdout == ""
    assert done.last == f"import_model.py: error: {line}"

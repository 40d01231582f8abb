"""A loaded model: how its engine is opened, and when it is not loaded."""

import dataclasses
import re
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support import servers

from iris_api.model.engines import RowsError, SklearnEngine
from iris_api.model.loaded_model import Model
from iris_api.store import entry as store

VARIABLE = "ORT_DISABLE_TELEMETRY"

LOADING = """
import os, sys
from pathlib import Path
from iris_api.model.engines import open_session
print("onnxruntime" in sys.modules, os.environ.get("ORT_DISABLE_TELEMETRY"))
open_session(Path(sys.argv[1]).read_bytes())
print("onnxruntime" in sys.modules, os.environ.get("ORT_DISABLE_TELEMETRY"))
"""


@pytest.fixture
def entry(home: Path) -> store.Entry:
    """Give the entry of version 1."""
    (path,) = (home / "models/irismodel").glob("v1-*")
    return store.get(bentoml.Tag("irismodel", path.name), home / "models")


def _rejected(entry: store.Entry) -> str:
    """Return why an entry is not loaded, without the way out."""
    with pytest.raises(store.StoreError) as raised:
        Model.load(entry, origin="store")
    message = str(raised.value)
    assert message.startswith(f"{entry.tag}: ")
    assert message.endswith(f"; run rm -r {entry.path}, then import it again")
    return message.removeprefix(f"{entry.tag}: ")


@pytest.mark.parametrize(("chosen", "effective"), [({}, "1"), ({VARIABLE: "0"}, "0")])
def test_onnxruntime_reports_nothing(
    plain_env: dict[str, str], entry: store.Entry, chosen: dict[str, str], effective: str
) -> None:
    """ONNX Runtime's reports are switched off before it is loaded, unless the user wants them."""
    done = servers.run("-c", LOADING, str(entry.path / "model.onnx"), env=plain_env | chosen)

    before = chosen.get(VARIABLE)
    assert done.stdout.splitlines() == [f"False {before}", f"True {effective}"]


def test_onnxruntime_is_loaded_in_one_place() -> None:
    """Every other module opens its sessions with that function."""
    loading = re.compile(r"^\s*(import|from) onnxruntime", re.MULTILINE)
    sources = (servers.ROOT / "iris_api").rglob("*.py")

    assert [path.name for path in sources if loading.search(path.read_text("utf-8"))] == [
        "engines.py"
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"values": [2, 1, 0]},
        {"probabilities": [[1.0, 0.0, 0.0]] * 3},
        {"probabilities": None},
    ],
    ids=["labels", "probabilities", "none"],
)
def test_self_check(entry: store.Entry, changes: dict[str, object]) -> None:
    """A model whose answers differ from those of its import is not loaded."""
    example = entry.metadata.example.model_copy(update=changes)
    metadata = entry.metadata.model_copy(update={"example": example})

    found = _rejected(dataclasses.replace(entry, metadata=metadata))
    assert found.startswith("does not answer its example as at its import")


def test_unreadable_model(entry: store.Entry, tmp_path: Path) -> None:
    """A model that onnxruntime cannot read, such as one of a newer version, is not loaded."""
    path = Path(shutil.copytree(entry.path, tmp_path / "entry"))
    (path / "model.onnx").write_bytes(b"of another time")
    files = entry.metadata.files | {"model.onnx": sha256(b"of another time").hexdigest()}
    metadata = entry.metadata.model_copy(update={"files": files})
    changed = dataclasses.replace(entry, path=path, metadata=metadata)

    assert _rejected(changed).startswith("cannot be opened (InvalidProtobuf: ")


FOREST = RandomForestClassifier(5, random_state=0)
CLASSIFIERS = {
    "threshold": (FixedThresholdClassifier(LogisticRegression(), threshold=0.9), 2),
    "threshold in a pipeline": (
        make_pipeline(StandardScaler(), FixedThresholdClassifier(LogisticRegression())),
        2,
    ),
    "logistic": (LogisticRegression(), 2),
    "forest": (FOREST, 1),
    "search of a pipeline": (
        GridSearchCV(make_pipeline(FOREST), {"randomforestclassifier__max_depth": [3]}, cv=2),
        1,
    ),
}
"""Classifiers, and how often one runs to answer with probabilities."""


@pytest.mark.parametrize(("classifier", "runs"), CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_labels_beside_probabilities(
    monkeypatch: pytest.MonkeyPatch, classifier: Any, runs: int
) -> None:
    """The labels that are counted for probabilities are those of `predict`."""
    rows, labels = load_iris(return_X_y=True)
    classifier.fit(rows[50:], labels[50:])
    expected = classifier.predict(rows) - 1
    calls = []
    predict = type(classifier).predict

    def counted(*given: Any) -> Any:
        calls.append(given)
        return predict(*given)

    monkeypatch.setattr(type(classifier), "predict", counted)
    answer = SklearnEngine(classifier).answer(rows, probabilities=True)

    assert np.array_equal(answer.values, expected)
    assert answer.probabilities is not None
    assert len(calls) == runs - 1


@pytest.mark.filterwarnings("ignore:overflow")
def test_rows_that_an_estimator_does_not_accept() -> None:
    """Numbers that scikit-learn's trees cannot hold are an error of the rows."""
    rows, labels = load_iris(return_X_y=True)
    forest = RandomForestClassifier(n_estimators=2).fit(rows, labels)

    with pytest.raises(RowsError, match=r"does not accept these rows: .*too large"):
        SklearnEngine(forest).answer(rows * 1e40, probabilities=False)

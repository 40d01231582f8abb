"""Every kind of estimator compiles to scikit-learn's own answers, on the rows where it is hard."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import skops.io
from conftest import Tracking
from numpy.typing import NDArray
from support import registered, warm
from support.estimators import ESTIMATORS, FOR_TWO_CLASSES
from support.hostile_rows import hostile_rows
from support.irises import IRIS, SPECIES, fit
from support.saved_models import Copy

from iris_api.compiling.conversion import compile_model
from iris_api.compiling.converters.lookup import convert
from iris_api.compiling.proof import LIMIT
from iris_api.compiling.ties import find_tied_votes, find_ties
from iris_api.model.engines import open_session
from iris_api.store.entry import ONNX_FILE
from iris_api.vetting.archive import TRUSTED_TYPES
from iris_api.vetting.estimator import open_estimator, vet
from iris_api.vetting.mlmodel import read_flavor

TWO = np.where(IRIS.target == 1, "versicolor", "other")

OF_THREE = [pytest.param(name, SPECIES, id=f"{name}, three classes") for name in ESTIMATORS]
OF_TWO = [
    pytest.param(name, TWO, id=f"{name}, two classes")
    for name in ESTIMATORS | FOR_TWO_CLASSES
    # Its one column is a sum in the order of the processor: no tree holds beside its splits.
    if name != "discriminants > forest"
]

OUTDATED = {"TreeEnsembleClassifier", "TreeEnsembleRegressor"}
"""Operators that ai.onnx.ml 5 no longer has."""

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # overflows at 100 cm
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def assert_parity(estimator: Any, model: bytes, count: int) -> int:
    """Compare about `count` rows, and return how many were ties with another label."""
    rows, halved = hostile_rows(estimator, count)
    session = open_session(model)

    got = session.run(None, {"rows": rows})
    some = np.arange(0, len(rows), len(rows) // 50)
    alone = [session.run(None, {"rows": rows[[row]]}) for row in some]

    other = np.flatnonzero(estimator.classes_[got[0]] != estimator.predict(rows))
    assert find_ties(estimator, rows[other]).all(), rows[other[0]].tolist()
    assert not other.size or other.min() >= len(rows) - halved
    if hasattr(estimator, "predict_proba"):
        apart = np.abs(got[1] - estimator.predict_proba(rows)).max(axis=1)
        far = np.flatnonzero(~(apart < LIMIT))
        assert find_tied_votes(estimator, rows[far]).all(), rows[far[0]].tolist()
    assert len(got) == (2 if hasattr(estimator, "predict_proba") else 1)
    labels_alone, *probabilities_alone = map(np.concatenate, zip(*alone, strict=True))
    assert find_ties(estimator, rows[some][labels_alone != got[0][some]]).all()
    for each in probabilities_alone:
        near = np.isclose(each, got[1][some], rtol=0, atol=LIMIT).all(axis=1)
        assert find_tied_votes(estimator, rows[some][~near]).all()
    return len(other)


@pytest.mark.parametrize(("name", "labels"), OF_THREE[::10] + OF_TWO[5::10])
def test_hostile_rows_get_the_same_answers(name: str, labels: NDArray[Any]) -> None:
    """A few hundred rows find the coarse mistakes, and each graph answers alone as in a batch."""
    estimator = fit((ESTIMATORS | FOR_TWO_CLASSES)[name], labels)

    model = convert(estimator)

    onnx.checker.check_model(model)
    assert not OUTDATED & {node.op_type for node in model.graph.node}
    assert_parity(estimator, model.SerializeToString(), 800)


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "labels"), OF_THREE[::3] + OF_TWO[1::3])
def test_twenty_thousand_hostile_rows_get_the_same_answers(
    name: str, labels: NDArray[Any], copied: Copy, record_property: Callable[[str, object], None]
) -> None:
    """An imported model has scikit-learn's labels, save for ties among rows halved down to one."""
    fitted = fit((ESTIMATORS | FOR_TWO_CLASSES)[name], labels)
    vetted = vet(copied(model=skops.io.dumps(fitted)), trust_pickle=False)

    compiled = compile_model(vetted)

    record_property("ties", assert_parity(vetted.estimator, compiled.model, 20_000))
    assert compiled.proof.rows > 10_000


REGISTERED = {
    "forest": SPECIES,
    "histogram boosting": TWO,
    "soft voting": TWO,
    "sigmoid of svc, many": SPECIES,
    "tuned threshold": TWO,
}
"""A few kinds, and their labels of two or three classes."""


@pytest.mark.thorough
@pytest.mark.parametrize("name", REGISTERED)
def test_registered_models_get_the_same_answers(
    name: str, tracking: Tracking, tmp_path: Path
) -> None:
    """A model that is registered, and imported from the registry, answers the same."""
    registered.use(tracking.url)
    kind = name.title().replace(" ", "").replace(",", "")
    estimator = (ESTIMATORS | FOR_TWO_CLASSES)[name]
    trusted = sorted(TRUSTED_TYPES)
    registered.log(kind, estimator, labels=REGISTERED[name], skops_trusted_types=trusted)

    done = warm.run(
        tmp_path, f"models:/{kind}/1", env=tracking.env | {"BENTOML_HOME": str(tmp_path)}
    )

    entry = tmp_path / "models" / done.stdout.strip().replace(":", "/")
    model = entry / "mlflow_model"
    fitted = open_estimator(model, read_flavor(model))
    assert_parity(fitted, (entry / ONNX_FILE).read_bytes(), 20_000)

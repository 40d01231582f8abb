"""Every kind of estimator compiles to scikit-learn's own answers, on rows that are out to get it."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from support.estimators import ESTIMATORS, FOR_TWO_CLASSES
from support.hostile_rows import hostile_rows
from support.irises import IRIS, ROWS, SPECIES

from iris_api.compiling.converters.registry import convert
from iris_api.model.onnx_session import open_session

THREE = SPECIES
TWO = np.where(IRIS.target == 1, "versicolor", "other")

CASES = [
    *(pytest.param(name, THREE, id=f"{name}, three classes") for name in ESTIMATORS),
    *(pytest.param(name, TWO, id=f"{name}, two classes") for name in ESTIMATORS | FOR_TWO_CLASSES),
]

PROBABILITY_LIMIT = 1e-9
TIE_LIMIT = 1e-12
"""Relative difference of two scores that sums in another order may bring about."""

OUTDATED = {"TreeEnsembleClassifier", "TreeEnsembleRegressor"}
"""Operators that ai.onnx.ml 5 no longer has."""

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # overflows at 100 cm
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def assert_parity(name: str, labels: NDArray[Any], count: int) -> int:
    """Compare about `count` rows, and return how many had two labels of the same score."""
    estimator = copy.deepcopy((ESTIMATORS | FOR_TWO_CLASSES)[name]).fit(ROWS, labels)
    rows = hostile_rows(estimator, count)
    model = convert(estimator)
    session = open_session(model.SerializeToString())

    got = session.run(None, {"rows": rows})
    alone = [session.run(None, {"rows": row[np.newaxis]}) for row in rows[:: len(rows) // 50]]

    assert not OUTDATED & {node.op_type for node in model.graph.node}
    onnx.checker.check_model(model)
    other = np.flatnonzero(estimator.classes_[got[0]] != estimator.predict(rows))
    tied = [row for row in other if _same_score(estimator, rows[row], TIE_LIMIT)]
    assert other.tolist() == tied, rows[other[0]].tolist()
    assert len(got) == (2 if hasattr(estimator, "predict_proba") else 1)
    if len(got) == 2:
        assert np.abs(got[1] - estimator.predict_proba(rows)).max() < PROBABILITY_LIMIT
    for index, result in enumerate(zip(*alone, strict=True)):
        whole = got[index][:: len(rows) // 50]
        assert np.allclose(np.concatenate(result), whole, rtol=0, atol=PROBABILITY_LIMIT)
    return len(tied)


def _same_score(estimator: Any, row: NDArray[np.float64], limit: float) -> bool:
    """Tell whether an estimator's own scores leave the label to the last digits."""
    answer = getattr(estimator, "decision_function", getattr(estimator, "predict_proba", None))
    if answer is None:
        return False
    scores = np.ravel(answer(row[np.newaxis]))
    if len(scores) == 1:
        scores = np.array([0.0, scores[0]])
    second, best = np.sort(scores)[-2:]
    return bool(best - second <= limit * max(1.0, np.abs(scores).max()))


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "labels"), CASES)
def test_twenty_thousand_hostile_rows_get_the_same_answers(
    name: str, labels: NDArray[Any], record_property: Callable[[str, object], None]
) -> None:
    """All labels are the same but those of equal scores, which are a few in a thousand at most."""
    tied = assert_parity(name, labels, 20_000)

    record_property("ties", tied)
    assert tied <= 20

"""Generated requests: from the OpenAPI document, and rows compared with scikit-learn."""

from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import programs, servers

from iris_api.schema import FEATURES

LENGTHS = st.floats(0, 100, allow_nan=False) | st.integers(0, 100)
ROWS = st.lists(st.tuples(LENGTHS, LENGTHS, LENGTHS, LENGTHS), min_size=1, max_size=50)
SMALL = st.floats(0, 10).map(lambda number: round(number, 1))
FLOWERS = st.lists(st.tuples(SMALL, SMALL, SMALL, SMALL), min_size=1, max_size=50)


LOOSE = "/(invocations|v2/.*infer)$"
"""Paths whose schemas allow bodies that are wrong, such as data that do not fit their shape."""


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("options", "tested"),
    [
        (("--exclude-path-regex", LOOSE, "--max-examples", "100"), 19),
        (
            (
                *("--include-path-regex", LOOSE, "--max-examples", "30", "--exclude-checks"),
                "positive_data_acceptance,negative_data_rejection",
            ),
            3,
        ),
    ],
    ids=["exact", "loose"],
)
def test_openapi_document(service: servers.Server, options: tuple[str, ...], tested: int) -> None:
    """No generated request is answered with a status from 500 on, or unlike the document."""
    done = programs.schemathesis(service.url, service.log.parent, *options)

    assert done.returncode == 0, done.stdout
    assert f"Tested: {tested}" in done.stdout


@pytest.mark.parametrize("examples", [50, pytest.param(300, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("rows", [ROWS, FLOWERS], ids=["any", "flowers"])
def test_rows_against_sklearn(
    client: httpx.Client, estimator: Any, rows: Any, examples: int
) -> None:
    """All valid rows get scikit-learn's own answers, in both forms of a row."""

    @settings(max_examples=examples, deadline=None, database=None)
    @given(rows)
    def check(rows: list[tuple[float, ...]]) -> None:
        named = [dict(zip(FEATURES, row, strict=True)) for row in rows]
        answer = client.post("/predict_proba", json={"instances": rows})
        labels = client.post("/predict", json={"instances": named})
        expected = estimator.predict_proba(np.array(rows, dtype=float))
        top, second = np.sort(expected, axis=1)[:, :-3:-1].T

        assert answer.status_code == labels.status_code == 200
        assert np.abs(np.array(answer.json()["probabilities"]) - expected).max() < 1e-6
        untied = top - second > 1e-6
        predicted = np.array(labels.json()["predictions"])
        assert (predicted == estimator.classes_[expected.argmax(axis=1)])[untied].all()

    check()

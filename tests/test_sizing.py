"""docs/sizing.md uses the numbers of the benchmark, and its pods follow from them."""

import math

import pytest
from support import documentation, servers

RESULTS = (servers.ROOT / "benchmarks" / "RESULTS.md").read_text("utf-8")
SIZING = documentation.PAGES["docs/sizing.md"]


def _number(text: str) -> float:
    return float(text.replace(" ", ""))


def test_numbers_are_those_of_the_benchmark() -> None:
    """The page has what RESULTS.md says of this service, for the logistic regression."""
    logistic = RESULTS.split("\n## Logistic\n")[1]
    ours = next(
        cells for name, *cells in documentation.table(logistic, "") if name == "this service"
    )
    known = [
        value for _, value, how in documentation.table(SIZING, "") if how.startswith("RESULTS")
    ]

    assert known == [ours[2], ours[5], ours[8], ours[0]]


def test_pods() -> None:
    """The pods are the requests over a worker's limit times its share, and three at least."""
    known = {name: _number(value) for name, value, _ in documentation.table(SIZING, "")}
    (limit,) = (value for name, value in known.items() if name.startswith("requests/s of a worker"))
    (share,) = (value for name, value in known.items() if name.startswith("share of its limit"))
    (pods,) = (
        cells for name, *cells in documentation.table(SIZING, "requests/s") if name == "pods"
    )

    expected = [max(3, math.ceil(rate / (limit * share))) for rate in (1e3, 1e5, 1e6)]
    assert [_number(cell) for cell in pods] == pytest.approx(expected, rel=0.05)

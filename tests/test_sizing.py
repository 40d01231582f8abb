"""deploy/SIZING.md reckons with the benchmark's numbers, and reckons right; the README has them."""

import math
import re

import pytest
from support import servers

SIZING = (servers.ROOT / "deploy" / "SIZING.md").read_text("utf-8")
README = (servers.ROOT / "README.md").read_text("utf-8")
RESULTS = (servers.ROOT / "benchmarks" / "RESULTS.md").read_text("utf-8")
RATES = (1_000, 100_000, 1_000_000)
MONTH = 30 * 24 * 3600
"""In seconds."""


def _rows(text: str) -> dict[str, list[str]]:
    """Return the cells of each line of the tables, by its first cell."""
    lines = re.findall(r"^\| (.+) \|$", text, re.MULTILINE)
    return {first: rest for first, *rest in (line.split(" | ") for line in lines)}


def _known(beginning: str) -> float:
    (value,) = (cells[0] for name, cells in _rows(SIZING).items() if name.startswith(beginning))
    return float(value.replace(" ", ""))


def _pods(limit: str = "requests/s of a worker", times: float = 1) -> list[float]:
    of_one = _known(limit) * _known("share of its limit") / times
    return [max(3, math.ceil(rate / of_one)) for rate in RATES]


def _ours(model: str) -> dict[str, str]:
    """Return what the benchmark measured of this service, by the heads of its table."""
    table = RESULTS.split(f"\n## {model}\n")[1].split("\nCost of a row")[0]
    head = re.findall(r"^\|  \| (.+) \|$", table, re.MULTILINE)[0].split(" | ")
    return dict(zip(head, _rows(table)["this service"], strict=True))


def test_numbers_are_those_of_the_benchmark() -> None:
    """What is said to be of RESULTS.md stands there, for the logistic regression."""
    assert {
        "requests/s at 16": _known("requests/s of a worker"),
        "rows/s, bodies of 100": _known("rows/s of a worker"),
        "memory, MB": _known("memory of the service"),
        "start to first prediction, s": _known("start to first prediction"),
    }.items() <= {
        name: float(value.replace(" ", "")) for name, value in _ours("Logistic").items()
    }.items()


def test_speed_in_the_readme() -> None:
    """The README's table of the speed has the benchmark's numbers."""
    table = README.split("\n## How fast it is\n")[1].split("\n\nLong bodies")[0]
    models = [_ours("Logistic"), _ours("Forest")]
    peers = {
        "times BentoML with the MLflow pyfunc": "BentoML + pyfunc, data frame",
        "times `mlflow models serve`": "mlflow models serve",
        "times FastAPI with scikit-learn": "FastAPI + scikit-learn",
        "share of the limit, bare ASGI with onnxruntime and no validation": (
            "limit: ASGI + onnxruntime"
        ),
    }
    goals = _rows(RESULTS)

    told = _rows(table)
    assert told.pop("one row, 16 requests at a time") == ["logistic", "forest"]
    assert told == {
        "requests/s": [of["requests/s at 16"] for of in models],
        "p99, ms": [of["p99 at 16, ms"] for of in models],
        **{name: goals[f"requests/s at 16 : {peer}"][::3] for name, peer in peers.items()},
    }


def test_what_it_comes_to() -> None:
    """The second table is what the first one makes of three rates, to the digits that it shows."""
    of_a_pod = {
        "memory, GB": (_known("memory of the service") + _known("memory of the watch")) / 1000,
        "series": _known("series of a pod"),
        "memory of Prometheus for them, MB": _known("series of a pod")
        * _known("memory of Prometheus for a series")
        / 1000,
        "disk of Prometheus for 30 days, GB": _known("series of a pod") / 15 * MONTH * 2 / 1e9,
        "time of the drift rules, due each minute, s": _known("time of the drift rules for"),
        "looks at the registry a second": 1 / 30,
        "cores for all imports of a promotion within 30 s": _known("processor time of an import")
        / 30,
    }
    expected = {name: [pods * of for pods in _pods()] for name, of in of_a_pod.items()}
    expected["pods"] = _pods()
    separate = "pods, where each request has a connection of its own"
    expected[separate] = _pods(times=_known("processor time of a request"))
    expected["pods, where it is that many rows, 100 in a body"] = _pods("rows/s of a worker")
    rows = _rows(SIZING)

    for name, values in expected.items():
        told = [float(cell.replace(" ", "")) for cell in rows[name]]
        assert told == [pytest.approx(value, rel=0.05) for value in values], name

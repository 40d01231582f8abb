"""The peers of the benchmarks start, and give the answers of scikit-learn."""

import itertools
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import mlserver, report
from benchmarks.ablation import GROUPS
from benchmarks.measures import GOALS, PARTS, Results
from benchmarks.models import Model
from benchmarks.peers import BENTOML, OURS, PEERS, Peer
from benchmarks.servers import BenchmarkError
from benchmarks.soak import Minute, find_problems

WITHOUT = [peer for group in GROUPS for peer in group.peers if peer.name.startswith("without")]
OTHERS = ("p50", "p99", "memory", "start")
"""Values that are found beside those of the loads."""


@pytest.fixture(scope="module")
def model(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Return a copy of the imported model: two BentoML servers need two homes."""
    copy = tmp_path_factory.mktemp("benchmarks") / "home"
    shutil.copytree(home / "models", copy / "models")
    return Model.read(copy)


@pytest.mark.thorough
@pytest.mark.parametrize("peer", [*PEERS, BENTOML, WITHOUT[0]], ids=lambda peer: peer.name)
def test_peer(peer: Peer, model: Model, tmp_path: Path) -> None:
    """A peer gives the right label for every row by each call; a wrong one would be noticed.

    The other peers of `make ablation` are started as this service without a part is. It checks
    each before it measures.
    """
    mlserver.install()
    others = replace(model, labels=model.labels[::-1])
    count = len(model.rows)

    with model.serve(peer, tmp_path / "server.log") as server:
        server.wait(peer.calls["arrays"].path, model.message(peer, "arrays", 1))
        for name in peer.calls:
            model.check(peer, server, name, 1 if name == "row" else count)
        with pytest.raises(BenchmarkError, match="not those of scikit-learn"):
            others.check(peer, server, "arrays", count)


def test_report_of_a_run(tmp_path: Path) -> None:
    """Each goal that was measured is in the report, with its ratio and whether it is met."""
    results: Results = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for part in PARTS:
        for peer, name in itertools.product(part.peers, (*part.measures, *OTHERS)):
            results[part.model][peer.name][name] = [100.0, 200.0, 150.0]
    results["logistic"][OURS.name]["latency"] = [130.0, 260.0, 195.0]

    report.write(tmp_path, results, {"Date": "today"}, seconds=2)

    text = (tmp_path / "RESULTS.md").read_text("utf-8")
    assert "| p50 at 1, ms : limit | 1.3 | ≤ 1.25 | **no** | 1 | ≤ 1.25 | yes |" in text
    assert [goal.text() for goal in GOALS if f"| {goal.text()} | " not in text] == []
    sizes = [(tmp_path / name).stat().st_size for name in ("throughput.png", "scale.png")]
    assert all(10_000 < size < 150_000 for size in sizes)


def test_promotions_that_stop_are_a_problem() -> None:
    """A soak names the minutes in which one version alone answered."""
    swapped = Minute(answers=9, lost=0, wrong=0, p50=1, p99=2, memory=100, handles=50, versions=2)
    still = replace(swapped, versions=1)

    assert find_problems([still, swapped, swapped]) == []
    assert find_problems([swapped, still, still]) == [
        "the versions were not swapped in minute 2, 3"
    ]

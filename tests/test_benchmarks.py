"""The peers of the benchmarks start, and give the answers of scikit-learn."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from support.scrape import scrape

from benchmarks.ablation import GROUPS
from benchmarks.models import Model
from benchmarks.peers import BENTOML, FASTAPI, LIMIT, MLFLOW, PYFUNC, PYFUNC_ARRAY, SWITCHED, Peer
from benchmarks.servers import BenchmarkError, free_port, serving
from benchmarks.soak import Minute, find_problems

WITHOUT = [peer for group in GROUPS for peer in group.peers if peer.name.startswith("without")]

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def model(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Return a copy of the imported model: two BentoML servers need two homes."""
    copy = tmp_path_factory.mktemp("benchmarks") / "home"
    shutil.copytree(home / "models", copy / "models")
    return Model.read(copy)


@pytest.mark.parametrize(
    "peers",
    [[PYFUNC, PYFUNC_ARRAY], [MLFLOW], [FASTAPI], [LIMIT], [BENTOML], WITHOUT[:1]],
    ids=lambda peers: peers[0].name,
)
def test_peer(peers: list[Peer], model: Model, tmp_path: Path) -> None:
    """A peer gives the right label for every row; a wrong one would be noticed.

    The other peers of `make ablation` are started as this service without a part is. It checks
    each before it measures.
    """
    port = free_port()
    command = peers[0].command(port, model.entry)
    env = model.env(peers[0])
    others = replace(model, labels=model.labels[::-1])

    with serving(command, port, env=env, log=tmp_path / "server.log") as server:
        for peer in peers:
            server.wait(peer.path, peer.encode(model.repeated(1)[0]))
            model.check(peer, server, len(model.rows))
            with pytest.raises(BenchmarkError, match="not those of scikit-learn"):
                others.check(peer, server, len(model.rows))


def test_observing_in_turns(model: Model, tmp_path: Path) -> None:
    """The worker observes the calls of some turns, and not those of the others."""
    port = free_port()
    times = tmp_path / "times.json"
    env = model.env(SWITCHED) | {"BENCH_TIMES": str(times)}
    body = SWITCHED.encode(model.repeated(1)[0])
    url = f"http://127.0.0.1:{port}"
    command = SWITCHED.command(port, model.entry)
    with (
        serving(command, port, env=env, log=tmp_path / "server.log") as server,
        httpx.Client(headers={"Content-Type": "application/json"}) as client,
    ):
        server.wait(SWITCHED.path, body)
        deadline = time.monotonic() + 4
        sent = 0
        while time.monotonic() < deadline:
            sent += client.post(url + SWITCHED.path, content=body).is_success
        observed = scrape(url).value("iris_request_rows_count")

    assert 0.3 * sent < observed < 0.9 * sent
    found = json.loads(times.read_text("utf-8"))
    assert found.keys() == {"observed", "unobserved"}
    assert all(10 < each < 10_000 for each in found.values())


def test_promotions_that_stop_are_a_problem() -> None:
    """A soak names the minutes in which one version alone answered."""
    swapped = Minute(answers=9, lost=0, wrong=0, p50=1, p99=2, memory=100, handles=50, versions=2)
    still = replace(swapped, versions=1)

    assert find_problems([still, swapped, swapped]) == []
    assert find_problems([swapped, still, still]) == [
        "the versions were not swapped in minute 2, 3"
    ]

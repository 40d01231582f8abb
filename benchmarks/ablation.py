"""Measure this service without each of its parts, and plain BentoML, and write ABLATION.md.

All servers of a round run at once, and take turns of a second, so that whatever slows the machine
slows all of them. A ratio is the median over the turns, each against the whole service in the same
turn. The processor time of a request says most: other programs on the machine hardly change it.
"""

import argparse
import contextlib
import functools
import itertools
import os
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psutil

from benchmarks.load import Load, fire, require_wrk
from benchmarks.models import LOGISTIC, Model, prepare
from benchmarks.peers import ABLATED, BENTOML, Peer
from benchmarks.report import number, table
from benchmarks.servers import Server, exit_status

OUTPUT = Path(__file__).with_name("ABLATION.md")
SECONDS = 1
CALL = "arrays"


@dataclass(frozen=True)
class Group:
    """Servers that are compared with the first one of them.

    Attributes:
        title: The heading of their table.
        peers: The servers; a second one like the first shows how much the others may differ by
            chance.
        connections: Numbers of connections of the load.
        pinned: Whether the servers have one core and wrk the others.
        close: Whether each request has a connection of its own.
    """

    title: str
    peers: Sequence[Peer]
    connections: Sequence[int]
    pinned: bool = True
    close: bool = False


def _without(part: str, **env: str) -> Peer:
    return replace(ABLATED, name=f"without {part}", env=ABLATED.env | {"BENCH_WITHOUT": part} | env)


def _whole(name: str = "this service", **env: str) -> Peer:
    return replace(ABLATED, name=name, env=ABLATED.env | env)


TWO = {"IRIS_WORKERS": "2"}
FULL = {"IRIS_MAX_CONCURRENCY": "16"}
GROUPS = (
    Group(
        "One worker",
        [
            _whole(),
            _whole("this service, once more"),
            _without("the short request path"),
            _without("the connection class"),
            _without("the straight path"),
            _without("deferred counting"),
            _without("what is observed of the model"),
            BENTOML,
        ],
        (1, 16),
    ),
    Group(
        "Two workers, 16 clients that keep their connections",
        [_whole(**TWO), _without("balanced connections", **TWO)],
        (16,),
        pinned=False,
    ),
    Group(
        "Two workers, 16 clients that connect for each request",
        [_whole(**TWO), _without("the loop's own server", **TWO)],
        (16,),
        pinned=False,
        close=True,
    ),
    Group(
        "Overload: 256 clients that do not wait after a 429, where 16 requests may wait",
        [_whole(**FULL), _without("rejections in turn", **FULL), _without("load shedding", **FULL)],
        (256,),
    ),
)
MEASURES = {
    "rate": "requests/s",
    "accepted": "answered with 200, 1/s",
    "p50": "p50, ms",
    "p99": "p99, ms",
    "cpu": "processor time of a request, µs",
}

Values = dict[tuple[str, int], dict[str, list[float]]]
"""The values of each turn by measure, by server and number of connections."""


def main() -> int:
    """Measure all groups, and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="starts of all servers (default: 2)")
    parser.add_argument("--turns", type=int, default=3, help="of each server (default: 3)")
    arguments = parser.parse_args()
    wrk = require_wrk()
    with tempfile.TemporaryDirectory(prefix="iris-ablation-") as name:
        folder = Path(name)
        model = prepare({"logistic": LOGISTIC}, folder)["logistic"]
        parts = [_measure(group, model, folder, arguments) for group in GROUPS]
    head = f"""\
# Ablation

What each part that reaches into BentoML or uvicorn gains. Written by `make ablation`; not edited by
hand. {datetime.now(UTC):%Y-%m-%d}, {wrk}, {len(os.sched_getaffinity(0))} cores, bodies of one row,
{arguments.rounds} starts with {arguments.turns} turns of {SECONDS} s each. In parentheses: the
median ratio to the first row in the same turn. The row of this service once more shows what
chance does.
"""
    OUTPUT.write_text("\n".join([head, *parts]), encoding="utf-8")
    return 0


def _measure(group: Group, model: Model, folder: Path, arguments: argparse.Namespace) -> str:
    """Measure the servers of a group, and return their tables."""
    values: Values = defaultdict(lambda: defaultdict(list))
    cores = sorted(os.sched_getaffinity(0))
    here, there = (cores[:1], cores[1:]) if group.pinned and len(cores) > 1 else ([], [])
    message = model.message(ABLATED, CALL, 1)
    for start in range(arguments.rounds):
        with contextlib.ExitStack() as stack:
            servers = {
                peer.name: stack.enter_context(_serving(peer, model, folder, here, number))
                for number, peer in enumerate(group.peers)
            }
            for peer in group.peers:
                servers[peer.name].wait("/predict", message)
                model.check(peer, servers[peer.name], CALL, len(model.rows))
            names = list(servers)
            for turn in range(-1, arguments.turns):  # the first one warms up
                names = names[1:] + names[:1]
                for name, connections in itertools.product(names, group.connections):
                    fired = functools.partial(
                        fire,
                        message=message,
                        connections=connections,
                        seconds=SECONDS,
                        cores=there,
                        overload=connections > 16,
                        close=group.close,
                    )
                    found = _turn(servers[name], fired)
                    for measure, value in found.items() if turn >= 0 else ():
                        values[name, connections][measure].append(value)
        print(f"{group.title}: start {start + 1} of {arguments.rounds}", flush=True)
    return _tables(group, values)


@contextlib.contextmanager
def _serving(
    peer: Peer, model: Model, folder: Path, cores: Sequence[int], number: int
) -> Iterator[Server]:
    """Run a server with a home of its own: BentoML empties the metrics of others with the same."""
    home = folder / f"home{number}"
    if not home.exists():
        shutil.copytree(model.home / "models", home / "models")
    log = folder / f"{number}.log"
    with model.serve(peer, log, cores=cores, home=home) as server:
        yield server


def _turn(server: Server, fired: Callable[[str], Load]) -> dict[str, float]:
    before = _cpu_seconds(server)
    load = fired(f"http://127.0.0.1:{server.port}/predict")
    return {
        "rate": load.rate,
        "accepted": load.accepted,
        "p50": load.p50,
        "p99": load.p99,
        "cpu": (_cpu_seconds(server) - before) / (load.rate * SECONDS) * 1e6,
    }


def _cpu_seconds(server: Server) -> float:
    total = 0.0
    for process in server.tree():
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:2])
    return total


def _tables(group: Group, values: Values) -> str:
    parts = [f"## {group.title}\n"]
    for connections in group.connections:
        first = values[group.peers[0].name, connections]
        rows = []
        for peer in group.peers:
            found = values[peer.name, connections]
            cells = [peer.name]
            for measure in MEASURES:
                pairs = zip(found[measure], first[measure], strict=True)
                ratio = median(value / of for value, of in pairs)
                cells.append(f"{number(median(found[measure]))} ({ratio:.2f})")
            rows.append(cells)
        parts.append(table([f"{connections} connections", *MEASURES.values()], rows))
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(exit_status(main))

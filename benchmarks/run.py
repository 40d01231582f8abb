"""Measure this service and its peers in one run, and write RESULTS.md and its charts."""

import argparse
import math
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from benchmarks import mlserver, report
from benchmarks.load import fire, require_wrk
from benchmarks.measures import MEASURES, PARTS, RECIPES, Part, Results
from benchmarks.models import Model, prepare
from benchmarks.peers import Peer
from benchmarks.servers import exit_status


def main() -> int:
    """Measure, and write the report."""
    arguments = _parse()
    wrk = require_wrk()
    mlserver.install()
    machine = report.machine(wrk)
    with tempfile.TemporaryDirectory(prefix="iris-bench-") as name:
        folder = Path(name)
        print(f"training and importing {len(RECIPES)} models", flush=True)
        results = _rounds(prepare(RECIPES, folder), folder, arguments)
    report.write(arguments.output, results, machine, arguments.seconds)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument(
        "--rounds", type=_number, default=3, help="in each, every peer has its turn (default: 3)"
    )
    parser.add_argument(
        "--seconds", type=_number, default=2, help="of load for each measure (default: 2)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).parent,
        metavar="FOLDER",
        help="for RESULTS.md and the charts (default: benchmarks)",
    )
    return parser.parse_args()


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _rounds(models: dict[str, Model], folder: Path, arguments: argparse.Namespace) -> Results:
    """Measure every part, round by round.

    A peer is started for each of its turns and runs alone: idle servers would share pages with it,
    which reduces its memory, and have timers, which disturb its latency.
    """
    results: Results = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    turns = list(_turns(arguments.rounds))
    started = time.monotonic()
    for number, (part, peer) in enumerate(turns, start=1):
        log = folder / "server.log"
        values = _measure(part, peer, models[part.model], log, arguments.seconds)
        for measure, value in values.items():
            results[part.model][peer.name][measure].append(value)
        print(
            f"{number} of {len(turns)}, {time.monotonic() - started:.0f} s: {part.model}, "
            f"{peer.name}, {report.number(values[part.measures[0]])}",
            flush=True,
        )
    return results


def _turns(rounds: int) -> Iterator[tuple[Part, Peer]]:
    """Yield the peers of each part; their order changes, so that none always follows the same."""
    for number in range(rounds):
        for part in PARTS:
            first = number % len(part.peers)
            if not (part.is_scale and number):
                yield from ((part, peer) for peer in (*part.peers[first:], *part.peers[:first]))


def _measure(part: Part, peer: Peer, model: Model, log: Path, seconds: int) -> dict[str, float]:
    """Start a peer, compare its labels with those of scikit-learn, and return its values."""
    cores = sorted(os.sched_getaffinity(0))
    # Server and load do not share a core, nor move between cores, if there are cores enough.
    here, there = (
        (cores[: peer.cores], cores[peer.cores :]) if len(cores) > peer.cores else ([], [])
    )
    with model.serve(peer, log, cores=here) as server:
        start = server.wait(peer.calls["row"].path, model.message(peer, "row", 1))
        values = {} if part.is_scale else {"start": start}
        model.check(peer, server, "arrays", len(model.rows))
        for name in part.measures:
            measure = MEASURES[name]
            if measure.call not in peer.calls:
                continue
            started = time.monotonic()
            model.check(peer, server, measure.call, measure.rows)
            load = fire(
                f"http://127.0.0.1:{server.port}{peer.calls[measure.call].path}",
                model.message(peer, measure.call, measure.rows),
                connections=measure.connections,
                seconds=max(seconds, math.ceil(3 * (time.monotonic() - started))),
                cores=there,
            )
            values[name] = measure.value(load)
            if name == "rate":
                values |= {"p50": load.p50, "p99": load.p99, "memory": server.memory()}
    return values


if __name__ == "__main__":
    sys.exit(exit_status(main))

"""Measure this service and its peers in one run, and write RESULTS.md and throughput.png."""

import argparse
import contextlib
import json
import math
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import report
from benchmarks.load import Load, fire, require_wrk
from benchmarks.models import Model, prepare
from benchmarks.peers import OURS, PEERS, SWITCHED, Peer
from benchmarks.report import CONNECTIONS, OBSERVING_SECONDS, Results
from benchmarks.servers import Server, exit_status, free_port, serving


def main() -> int:
    """Measure, and write the report."""
    arguments = _parse()
    wrk = require_wrk()
    machine = report.machine(wrk)
    with tempfile.TemporaryDirectory(prefix="iris-bench-") as name:
        folder = Path(name)
        print("training and importing the models", flush=True)
        results = _rounds(prepare(folder), folder, arguments)
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
        help="for RESULTS.md and throughput.png (default: benchmarks)",
    )
    return parser.parse_args()


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _rounds(models: dict[str, Model], folder: Path, arguments: argparse.Namespace) -> Results:
    """Measure every peer with every model, round by round.

    A peer is started for each of its turns and runs alone: idle servers would share pages with it,
    which reduces its memory, and have timers, which disturb its latency. The order changes with
    each round, so that no peer always follows the same one.
    """
    results: Results = {name: {peer.name: defaultdict(list) for peer in PEERS} for name in models}
    for number in range(arguments.rounds):
        first = number % len(PEERS)
        for name, model in models.items():
            for peer in PEERS[first:] + PEERS[:first]:
                values = Turn(peer, model, folder, arguments.seconds).measure()
                for measure, value in values.items():
                    results[name][peer.name][measure].append(value)
                print(
                    f"round {number + 1} of {arguments.rounds}, {name}, {peer.name}: "
                    f"{values['start']:.1f} s to the first prediction, "
                    f"{values['rate']:,.0f} requests/s",
                    flush=True,
                )
    return results


@dataclass(frozen=True)
class Turn:
    """One peer with one model, from start to end."""

    peer: Peer
    model: Model
    folder: Path
    seconds: int

    def measure(self) -> dict[str, float]:
        """Return a value for each of the report's measures."""
        cores = sorted(os.sched_getaffinity(0))
        # Server and load do not share a core, nor move between cores.
        here, there = (cores[:1], cores[1:]) if len(cores) > 1 else ([], [])
        with self._serve(here) as (server, values):
            one = self._load(server, 1, there, connections=1)
            many = self._load(server, 1, there)
            values |= {"latency": one.p50, "rate": many.rate, "p50": many.p50, "p99": many.p99}
            values["memory"] = server.memory()
            values["rows_1"] = many.rate
            values["rows_100"] = 100 * self._load(server, 100, there).rate
            for count in (10_000, 100_000):
                # wrk does not count what is unanswered at the end, which matters if a body takes a
                # second. The latency of one connection is not affected.
                big = self._load(server, count, there, connections=1)
                values[f"rows_{count}"] = count / big.p50 * 1000
        if self.peer is OURS:
            values["rate_2"] = self._two_workers(cores)
            values |= self._observing(here, there)
        return values

    def _two_workers(self, cores: list[int]) -> float:
        # With less than three cores, all of them are for all.
        here, there = (cores[:2], cores[2:]) if len(cores) > 2 else ([], [])
        peer = replace(self.peer, env={"IRIS_WORKERS": "2"})
        with replace(self, peer=peer)._serve(here) as (server, _):  # noqa: SLF001 (itself)
            return self._load(server, 1, there).rate

    def _observing(self, here: list[int], there: list[int]) -> dict[str, float]:
        times = self.folder / "times.json"
        times.unlink(missing_ok=True)
        peer = replace(SWITCHED, env=SWITCHED.env | {"BENCH_TIMES": str(times)})
        turn = replace(self, peer=peer, seconds=OBSERVING_SECONDS)
        with turn._serve(here) as (server, _):  # noqa: SLF001 (itself)
            turn._load(server, 1, there)  # noqa: SLF001
        found: dict[str, float] = json.loads(times.read_text("utf-8"))
        return found

    @contextlib.contextmanager
    def _serve(self, cores: Collection[int]) -> Iterator[tuple[Server, dict[str, float]]]:
        """Start the peer, and compare its labels with those of scikit-learn."""
        port = free_port()
        command = self.peer.command(port, self.model.entry)
        env = self.model.env(self.peer)
        log = self.folder / "server.log"
        with serving(command, port, env=env, log=log, cores=cores) as server:
            start = server.wait(self.peer.path, self.peer.encode(self.model.repeated(1)[0]))
            self.model.check(self.peer, server, len(self.model.rows))
            yield server, {"start": start}

    def _load(
        self, server: Server, count: int, cores: Collection[int], connections: int = CONNECTIONS
    ) -> Load:
        started = time.monotonic()
        self.model.check(self.peer, server, count)
        once = time.monotonic() - started
        body = self.folder / "body.json"
        body.write_bytes(self.peer.encode(self.model.repeated(count)[0]))
        return fire(
            f"http://127.0.0.1:{server.port}{self.peer.path}",
            body,
            connections=connections,
            seconds=max(self.seconds, math.ceil(3 * once)),
            cores=cores,
        )


if __name__ == "__main__":
    sys.exit(exit_status(main))

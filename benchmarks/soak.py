"""Run the service under load, promotions and kills for a long time, and write SOAK.md.

Two registered versions that disagree on some rows are promoted in turn, every 20 s, and
`import_model.py --watch` follows. Every minute a worker is killed. Clients send requests at 80 % of
the capacity, and compare each answer with scikit-learn's own for the version that it names.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles

import mlflow
import numpy as np
import psutil

from benchmarks.models import FOREST, LOGISTIC, Model, make, registry
from benchmarks.servers import BenchmarkError, Server, exit_status, free_port, serving
from benchmarks.traffic import Ask, Traffic, asking
from iris_api.errors import one_line

OUTPUT = Path(__file__).with_name("SOAK.md")
WORKERS = 2
CLIENTS = 32
LOAD = 0.8
"""Share of the capacity, which the same clients measure first, without a pause."""

CAPACITY_SECONDS = 10
PROMOTION_SECONDS = 20
MINUTE = 60
GROWTH = 1.1
"""Ratio of the last minute to the second one from which on something grows."""


@dataclass(frozen=True)
class Minute:
    """The measures of one minute.

    Attributes:
        answers: Answers with status 200.
        lost: Requests without such an answer.
        wrong: Answers that are not those of the version that they name.
        p50: Median time from request to answer, in ms.
        p99: The time that one answer of a hundred exceeds, in ms.
        memory: PSS of the whole service, in MB.
        handles: Open files and connections of the whole service.
        versions: Number of versions that answered.
    """

    answers: int
    lost: int
    wrong: int
    p50: float
    p99: float
    memory: float
    handles: int
    versions: int


def main() -> int:
    """Run the soak, and write its report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=int, default=15, help="(default: 15)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="iris-soak-") as folder:
        capacity, minutes = _soak(Path(folder), max(arguments.minutes, 3))
    problems = find_problems(minutes)
    OUTPUT.write_text(_report(capacity, minutes, problems), "utf-8")
    print("\n".join(problems) or "nothing wrong, nothing growing")
    return 1 if problems else 0


def _soak(folder: Path, minutes: int) -> tuple[float, list[Minute]]:
    with contextlib.ExitStack() as running:
        env = running.enter_context(registry(folder))
        print("training and importing two versions", flush=True)
        models = [make(LOGISTIC, folder / "1", env)(), make(FOREST, folder / "2", env)()]
        client = mlflow.MlflowClient(env["MLFLOW_TRACKING_URI"])
        client.set_registered_model_alias("IrisModel", "champion", "2")
        env |= {
            "BENTOML_HOME": str(folder / "home"),
            "IRIS_MODEL_URI": "models:/IrisModel@champion",
            "IRIS_RELOAD_SECONDS": "1",
            "IRIS_WORKERS": str(WORKERS),
        }
        watch = [sys.executable, "import_model.py", "--watch", "1"]
        running.enter_context(serving(watch, 0, env=env, log=folder / "watch.log"))
        port = free_port()
        serve = [
            *(sys.executable, "-m", "bentoml", "serve", "service:IrisClassifier"),
            *("--host", "127.0.0.1", "--port", str(port)),
        ]
        server = running.enter_context(serving(serve, port, env=env, log=folder / "service.log"))
        server.wait("/health")
        return asyncio.run(_run(server, models, client, minutes))


def _ask(server: Server, models: Sequence[Model], interval: float) -> Ask:
    """Return a request with the rows on which the versions disagree."""
    labels = [np.array(model.labels) for model in models]
    differ = np.flatnonzero(labels[0] != labels[1])
    if not len(differ):
        raise BenchmarkError("the two versions agree on every row: their answers are the same")
    return Ask(
        f"http://127.0.0.1:{server.port}",
        [models[0].rows[place] for place in differ],
        {str(number): found[differ].tolist() for number, found in enumerate(labels, start=1)},
        interval=interval,
    )


async def _run(
    server: Server, models: Sequence[Model], client: mlflow.MlflowClient, minutes: int
) -> tuple[float, list[Minute]]:
    async with asking(_ask(server, models, 0), CLIENTS) as traffic:
        await asyncio.sleep(CAPACITY_SECONDS)
    capacity = traffic.statuses[200] / CAPACITY_SECONDS
    print(f"capacity: {capacity:.0f} requests/s; asking for {LOAD:.0%} of it", flush=True)
    found = []
    async with asking(_ask(server, models, CLIENTS / (capacity * LOAD)), CLIENTS) as traffic:
        promoting = asyncio.create_task(_promote(client))
        for number in range(1, minutes + 1):
            before, answers = _totals(traffic), traffic.answers.copy()
            traffic.seconds.clear()
            await asyncio.sleep(MINUTE / 2)
            _kill_a_worker(server)
            await asyncio.sleep(MINUTE / 2)
            found.append(_minute(server, traffic, before, answers))
            _hold_going(promoting)
            print(f"minute {number}: {found[-1]}", flush=True)
        promoting.cancel()
    return capacity, found


async def _promote(client: mlflow.MlflowClient) -> None:
    version = 1
    while True:
        await asyncio.to_thread(
            client.set_registered_model_alias, "IrisModel", "champion", str(version)
        )
        version = 3 - version
        await asyncio.sleep(PROMOTION_SECONDS)


def _hold_going(promoting: "asyncio.Task[None]") -> None:
    if promoting.done():
        error = promoting.exception()
        raise BenchmarkError(f"the promotions stopped: {one_line(error)}") from error


def _kill_a_worker(server: Server) -> None:
    """Kill the oldest worker, so that each has its turn."""
    workers = [child for child in server.process.children() if child.is_running()]
    with contextlib.suppress(psutil.NoSuchProcess):
        min(workers, key=psutil.Process.create_time).kill()


def _totals(traffic: Traffic) -> tuple[int, int, int]:
    good = traffic.statuses[200]
    bad = traffic.statuses.total() - good
    lost = len(traffic.unanswered) + traffic.closed + traffic.unconnected + bad
    return good, lost, len(traffic.wrong)


def _minute(
    server: Server,
    traffic: Traffic,
    before: tuple[int, int, int],
    answered: Counter[tuple[int, str]],
) -> Minute:
    """Return the measures of the minute that began with these totals and answers."""
    seconds = sorted(traffic.seconds)
    answers, lost, wrong = (now - then for now, then in zip(_totals(traffic), before, strict=True))
    return Minute(
        answers,
        lost,
        wrong,
        p50=median(seconds) * 1000,
        p99=quantiles(seconds, n=100)[98] * 1000,
        memory=server.memory(),
        handles=sum(process.num_fds() for process in server.tree()),
        versions=len({version for status, version in traffic.answers - answered if status == 200}),
    )


def find_problems(minutes: Sequence[Minute]) -> list[str]:
    """Return a line for each problem in the minutes of a soak, of which there are two or more."""
    second, last = minutes[1], minutes[-1]
    found = []
    if wrong := sum(minute.wrong for minute in minutes):
        found.append(f"{wrong} answers were not of the version that they named")
    if (lost := sum(minute.lost for minute in minutes)) > CLIENTS * len(minutes):
        found.append(f"{lost} requests were lost: more than the killed workers can have held")
    # The first one has the import of the second version in it, under load.
    later = enumerate(minutes[1:], start=2)
    if still := [str(number) for number, minute in later if minute.versions != 2]:
        found.append(f"the versions were not swapped in minute {', '.join(still)}")
    return found + [
        f"{name} grew from {getattr(second, name):.0f} to {getattr(last, name):.0f}"
        for name in ("memory", "handles")
        if getattr(last, name) > getattr(second, name) * GROWTH
    ]


def _report(capacity: float, minutes: Sequence[Minute], problems: Sequence[str]) -> str:
    rows = "\n".join(
        f"| {number} | {minute.answers:,} | {minute.lost} | {minute.wrong} | {minute.p50:.1f} "
        f"| {minute.p99:.1f} | {minute.memory:.0f} | {minute.handles} |".replace(",", "\u202f")
        for number, minute in enumerate(minutes, start=1)
    )
    return f"""\
# Soak

Written by `make soak`; not edited by hand. {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores
for the service, its clients, the registry and the watcher.

{WORKERS} workers answered {CLIENTS} clients at {LOAD:.0%} of their capacity, which was
{capacity:.0f} requests/s. Every {PROMOTION_SECONDS} s the other one of two versions was promoted in
MLflow and followed by `import_model.py --watch 1`; every minute a worker was killed with SIGKILL.
Each answer was compared with scikit-learn's own for the version in its `X-Model-Version`, on the
rows on which the two versions disagree.

Lost are the requests that a killed worker held, at most {CLIENTS} a minute. Memory is the PSS of
all processes of the service, handles are their open files and connections.

Result: {"; ".join(problems) or "no wrong answer, and nothing grows"}.

| minute | answers | lost | wrong | p50, ms | p99, ms | memory, MB | handles |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{rows}
"""


if __name__ == "__main__":
    sys.exit(exit_status(main))

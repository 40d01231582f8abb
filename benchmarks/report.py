"""The report of a run: tables, ratios with their goals, and a chart."""

import math
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from benchmarks.peers import FASTAPI, LIMIT, MLFLOW, OURS, PYFUNC, Peer

Values = dict[str, dict[str, list[float]]]
"""Values of all rounds, by peer and measure."""

Results = dict[str, Values]
"""Values by model."""

CONNECTIONS = 16
OBSERVING_SECONDS = 20

COLUMNS = {
    "start": "start to first prediction, s",
    "latency": "p50 at 1, ms",
    "rate": "requests/s at 16",
    "p50": "p50 at 16, ms",
    "p99": "p99 at 16, ms",
    "rows_100": "rows/s, bodies of 100",
    "rows_10000": "rows/s, bodies of 10 000",
    "rows_100000": "rows/s, bodies of 100 000",
    "memory": "memory, MB",
}
SIZES = {"rows_1": "1", "rows_100": "100", "rows_10000": "10 000", "rows_100000": "100 000"}

TIMES = {
    "observed": "processor time of a request",
    "unobserved": "without what is observed of its model",
}

PACKAGES = (
    *("bentoml", "mlflow", "fastapi", "starlette", "uvicorn", "uvloop", "httptools", "pydantic"),
    *("orjson", "onnxruntime", "scikit-learn", "numpy", "pandas"),
)


@dataclass(frozen=True)
class Goal:
    """A bound for the ratio of a value of this service to another value.

    Attributes:
        measure: The measure of this service.
        peer: The peer of the other value.
        logistic: The bound for this model.
        forest: The bound for this model.
        most: Whether the bound is a maximum and not a minimum.
        other: The measure of the other value, if it is not the same.
    """

    measure: str
    peer: Peer
    logistic: float
    forest: float
    most: bool = False
    other: str = ""

    def text(self) -> str:
        """Return a description of the ratio."""
        names = COLUMNS | TIMES
        other = names[self.other] if self.peer is OURS else self.peer.name
        return f"{names[self.measure]} : {other}"

    def ratio(self, peers: Values) -> float:
        """Return the median of the ratios of each round, which all slow together."""
        ours = peers[OURS.name][self.measure]
        other = peers[self.peer.name][self.other or self.measure]
        return median(a / b for a, b in zip(ours, other, strict=True))


GOALS = (
    Goal("rate", PYFUNC, 16, 45),
    Goal("rate", MLFLOW, 15, 45),
    Goal("rate", FASTAPI, 2.5, 20),
    Goal("rate", LIMIT, 0.35, 0.3),
    Goal("latency", FASTAPI, 0.6, 0.1, most=True),
    Goal("p99", OURS, 3, 3, most=True, other="p50"),
    Goal("rows_100", FASTAPI, 3, 10),
    Goal("rows_10000", PYFUNC, 2.5, 1.5),
    Goal("rows_10000", LIMIT, 0.8, 0.8),
    Goal("observed", OURS, 1.05, 1.05, most=True, other="unobserved"),
    Goal("start", PYFUNC, 0.5, 0.5, most=True),
    Goal("memory", PYFUNC, 0.5, 0.5, most=True),
)

METHOD = """\
- Each server has one worker. In every round each one is started again, runs alone, and must give
  scikit-learn's own label for every row before it is measured.
- {pinning}
- The load is wrk's, over 127.0.0.1, {seconds} s for each measure, with one connection (at 1) or
  {connections} (at 16). Bodies of 1 and 100 rows are counted at 16; larger ones come one after the
  other, and their median latency gives the rows/s.
- Memory is the proportional set size of all processes of the server, after the load at 16.
- The cost of observing is measured in one process, which observes its predictions in every other
  turn of 0.1 s, under the load at 16 for {observing} s; half a percent more or less is noise.
- Every number is the median of {rounds}; a ratio is the median of the ratios within a round.
"""


def machine(wrk: str) -> dict[str, str]:
    """Return facts about the machine before the run, without names or paths."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    kernel = platform.release().partition("-")[0]  # without the name of who built it
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Processor": f"{models[0] if models else platform.machine()}, "
        f"{len(os.sched_getaffinity(0))} cores, {memory / 1e9:.0f} GB",
        "Load average before": f"{os.getloadavg()[0]:.2f}",
        "System": f"{platform.system()} {kernel}, Python {platform.python_version()}",
        "Packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES) + f", {wrk}",
    }


def write(folder: Path, results: Results, facts: Mapping[str, str], seconds: int) -> None:
    """Write RESULTS.md and throughput.png into a folder.

    Args:
        folder: The folder, created if missing.
        results: The values of all rounds.
        facts: What `machine` returned before the run.
        seconds: The duration of the load for each measure.
    """
    rounds = len(next(iter(results.values()))[OURS.name]["rate"])
    pinning = (
        "The server has one core, wrk the others."
        if len(os.sched_getaffinity(0)) > 1 and shutil.which("taskset")
        else "Server and wrk share the cores."
    )
    method = METHOD.format(
        pinning=pinning,
        seconds=seconds,
        connections=CONNECTIONS,
        observing=OBSERVING_SECONDS,
        rounds=f"{rounds} rounds" if rounds > 1 else "one round",
    )
    command = f".venv/bin/python -m benchmarks.run --rounds {rounds} --seconds {seconds}"
    parts = [
        "# Benchmarks\n",
        "This service and its peers in one run. Written by `make bench`; not edited by hand.\n",
        *(f"- {name}: {value}" for name, value in facts.items()),
        "\n![Requests and rows per second of each peer](throughput.png)\n",
        "## Goals\n",
        "This service's value as a multiple of another one.\n",
        _goals(results),
        *(_model(name, peers) for name, peers in results.items()),
        "## How it is measured\n",
        method,
        "## Again\n",
        f"On a quiet machine with wrk (`apt-get install wrk`): `make bench`, or `{command}`.\n",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "RESULTS.md").write_text("\n".join(parts), encoding="utf-8")
    _chart(results).savefig(folder / "throughput.png", dpi=90)


def _goals(results: Results) -> str:
    rows = []
    for goal in GOALS:
        cells = [goal.text()]
        for name, peers in results.items():
            ratio, bound = goal.ratio(peers), getattr(goal, name)
            met = ratio <= bound if goal.most else ratio >= bound
            sign = "≤" if goal.most else "≥"
            cells += [number(ratio), f"{sign} {bound:g}", "yes" if met else "**no**"]
        rows.append(cells)
    heads = [cell for name in results for cell in (name, "goal", "met")]
    return table(["", *heads], rows)


def _model(name: str, peers: Values) -> str:
    middle = {
        peer: {measure: median(values) for measure, values in measures.items()}
        for peer, measures in peers.items()
    }
    values = [[peer, *(number(row[key]) for key in COLUMNS)] for peer, row in middle.items()]
    costs = [[peer, *(number(1e6 / row[key]) for key in SIZES)] for peer, row in middle.items()]
    ours = peers[OURS.name]
    scaling = median(b / a for a, b in zip(ours["rate"], ours["rate_2"], strict=True))
    two = f"{number(median(ours['rate_2']))} requests/s at 16, {scaling:.2f} times those of one"
    cores = len(os.sched_getaffinity(0))
    shared = "" if cores > 2 else f" ({cores} cores for them and wrk)"
    return "\n".join(
        [
            f"## {name.capitalize()}\n",
            table(["", *COLUMNS.values()], values),
            f"With two workers this service answers {two}{shared}.\n",
            "Cost of a row in µs, by the number of rows in the body:\n",
            table(["", *SIZES.values()], costs),
        ]
    )


def number(value: float) -> str:
    """Return a number with three significant digits, or all of those before the point."""
    if value >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}" if value >= 0.01 else f"{value:.1g}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown, with numbers in all columns but the first."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _chart(results: Results) -> Figure:
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = {"rate": "requests/s of one row, 16 at a time", "rows_10000": "rows/s, 10 000 a body"}
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, (measure, title) in zip((left, right), panels.items(), strict=True):
        height = 0.8 / len(results)
        for place, (name, peers) in enumerate(results.items()):
            middle = [median(measures[measure]) for measures in peers.values()]
            places = np.arange(len(middle)) + place * height
            bars = axes.barh(places, middle, height, label=name)
            axes.bar_label(bars, [number(value) for value in middle], padding=3, fontsize=8)
        least = min(
            median(measures[measure]) for row in results.values() for measures in row.values()
        )
        axes.set(title=title, xscale="log", xlim=(10 ** math.floor(math.log10(least)), None))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_yticks(np.arange(len(peers)) + height * (len(results) - 1) / 2, list(peers))
    left.invert_yaxis()
    figure.legend(
        *left.get_legend_handles_labels(), frameon=False, ncols=2, loc="outside lower left"
    )
    return figure

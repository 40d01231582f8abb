"""The report of a run: tables, and ratios with their goals."""

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks import charts, mlserver
from benchmarks.measures import (
    COLUMNS,
    CONNECTIONS,
    GOALS,
    HEADINGS,
    MAIN,
    OTHERS,
    SCALED,
    SIZES,
    TREES,
    Goal,
    Results,
    Values,
)
from benchmarks.peers import LIMIT, OURS, TWO

PACKAGES = (
    *("bentoml", "mlflow", "fastapi", "starlette", "uvicorn", "uvloop", "httptools", "pydantic"),
    *("msgspec", "orjson", "onnxruntime", "scikit-learn", "numpy", "pandas"),
)

METHOD = """\
- Each server has one worker; two workers share their two cores with wrk where there are no others.
  In every round each one is started again, runs alone, and must give scikit-learn's own label for
  every row before it is measured.
- {pinning}
- The limit is [bare_asgi.py](peers/bare_asgi.py): uvicorn with httptools and uvloop, typed msgspec
  and onnxruntime with the same compiled model; no validation, limits, metrics or error messages.
- The load is wrk's, over 127.0.0.1, {seconds} s for each measure, with one connection (at 1) or
  {connections} (at 16). A body is one row by the names of its columns where nothing else is said;
  MLServer and `mlflow models serve` are sent their own protocols, V2 and `dataframe_split`. Bodies
  of 10 000 rows come one after the other, and their median latency gives the rows/s.
- Memory is the proportional set size of all processes of the server, after the load at 16.
- Every number is the median of {rounds}; a ratio is the median of the ratios within a round. The
  cost of scale is measured once.
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
        "Packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        + f", mlserver {mlserver.VERSION}, {wrk}",
    }


def write(folder: Path, results: Results, facts: Mapping[str, str], seconds: int) -> None:
    """Write RESULTS.md and its charts into a folder.

    Args:
        folder: The folder, created if missing.
        results: The values of all rounds.
        facts: What `machine` returned before the run.
        seconds: The duration of the load for each measure.
    """
    rounds = len(results[MAIN[0]][OURS.name]["rate"])
    pinning = (
        "The server has one core, wrk the others."
        if _cores() > 1 and shutil.which("taskset")
        else "Server and wrk share the cores."
    )
    method = METHOD.format(
        pinning=pinning,
        seconds=seconds,
        connections=CONNECTIONS,
        rounds=f"{rounds} rounds" if rounds > 1 else "one round",
    )
    command = f".venv/bin/python -m benchmarks.run --rounds {rounds} --seconds {seconds}"
    goals = [
        _goals(results, MAIN),
        "One row by name, of 30 numbers and of a mixed table: texts, a boolean, missing values.\n",
        _goals(results, ["30 columns", "mixed"]),
    ]
    parts = [
        "# Benchmarks\n",
        "This service and its peers in one run. Written by `make bench`; not edited by hand.\n",
        *(f"- {name}: {value}" for name, value in facts.items()),
        "\n![Each peer's share of the limit](throughput.png)\n",
        "## Goals\n",
        "This service's value as a multiple of another one; memory alone is in MB.\n",
        *goals,
        *(_model(results, name) for name in MAIN),
        "## Mixed table\n",
        _peers(results["mixed"], {name: HEADINGS[name] for name in ("rate", "p50", "p99")}),
        _scale(results),
        "## How it is measured\n",
        method,
        "## Again\n",
        f"On a quiet machine with wrk (`apt-get install wrk`): `make bench`, or `{command}`.\n",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "RESULTS.md").write_text("\n".join(parts), encoding="utf-8")
    charts.throughput(results).savefig(folder / "throughput.png", dpi=charts.DPI)
    charts.scale(results).savefig(folder / "scale.png", dpi=charts.DPI)
    print("\n".join(goals))


def _goals(results: Results, models: Sequence[str]) -> str:
    """Return the goals that any of the models has."""
    rows = []
    for goal in GOALS:
        if goal.bounds.keys().isdisjoint(models):
            continue
        cells = [goal.text()]
        for model in models:
            cells += _goal(goal, results, model) if model in goal.bounds else [""] * 3
        rows.append(cells)
    heads = [cell for model in models for cell in (model, "goal", "met")]
    return table(["", *heads], rows)


def _goal(goal: Goal, results: Results, model: str) -> list[str]:
    value, bound = goal.value(results, model), goal.bounds[model]
    is_met = value <= bound if goal.most else value >= bound
    met = "yes" if is_met else "**no**"
    if goal.of is TWO and _cores() < 3:
        met = "no core is left for wrk"
    return [number(value), f"{'≤' if goal.most else '≥'} {bound:g}", met]


def _model(results: Results, model: str) -> str:
    peers = results[model]
    return "\n".join(
        [
            f"## {model.capitalize()}\n",
            _peers(peers, HEADINGS),
            "The other requests of this service:\n",
            _peers({OURS.name: peers[OURS.name]}, OTHERS),
        ]
    )


def _peers(peers: Mapping[str, Values], names: Mapping[str, str]) -> str:
    """Return the table of some peers; a cell is empty where a peer has no such request."""
    rows = [
        [peer, *(number(median(found[name])) if name in found else "" for name in names)]
        for peer, found in peers.items()
    ]
    return table(["", *names.values()], rows)


def _scale(results: Results) -> str:
    sizes = {f"arrays_{size}": f"{size:,}".replace(",", " ") for size in SIZES}
    parts = [
        "## Cost of scale\n",
        "![This service's share of the limit by rows, columns and trees](scale.png)\n",
        "Cost of a row in µs, by the rows in a body of arrays, on one connection (logistic):\n",
        _costs({text: (MAIN[0], name) for name, text in sizes.items()}, results),
        "Cost of a request in µs at 16, one row by name, by its columns (logistic):\n",
        _costs({str(n): (model, "rate") for n, model in COLUMNS.items()}, results),
        "Cost of a request in µs at 16, one row by name, by the trees of the forest:\n",
        _costs({str(n): (model, "rate") for n, model in TREES.items()}, results),
    ]
    return "\n".join(parts)


def _costs(series: Mapping[str, tuple[str, str]], results: Results) -> str:
    rows = []
    for peer in SCALED:
        values = [results[model][peer.name][measure] for model, measure in series.values()]
        rows.append([peer.name, *(number(1e6 / median(each)) for each in values)])
    shares = charts.shares(results, OURS, list(series.values()))
    rows.append([f"{LIMIT.name} / {OURS.name}", *(f"{share:.2f}" for share in shares)])
    return table(["", *series], rows)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def number(value: float) -> str:
    """Return a number with three significant digits, or all of those before the point."""
    if value >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}" if value >= 0.01 else f"{value:.1g}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown, with numbers in all columns but the first."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

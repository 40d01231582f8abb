"""Draw the Grafana dashboard from what a Prometheus knows, for those who have not seen it yet.

python -m prometheus.picture http://localhost:9090 prometheus/dashboard.png
"""

import argparse
import io
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import httpx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from iris_api.errors import one_line

DASHBOARD = Path(__file__).with_name("dashboard.json")
COLUMNS = 24
"""Of Grafana's grid; a row of it is 30 pixels high."""

COLORS = {"green": "#56a64b", "orange": "#e5892b", "red": "#d6323e", "blue": "#3f7fce"}
COLORS_OF_FILE = 32
STEPS = 200
"""Points of a line."""


class Series(NamedTuple):
    """A line of a panel: its name, Unix times in seconds, and the values, NaN where none is."""

    name: str
    times: NDArray[np.float64]
    values: NDArray[np.float64]


class Window(NamedTuple):
    """The time that is drawn, in Unix seconds, and what Grafana would make of `rate`."""

    start: float
    end: float
    rate_interval: str

    def fill(self, expression: str) -> str:
        """Put values in the place of the dashboard's variables."""
        return Template(expression).substitute(
            job="iris-api", version=".*", __rate_interval=self.rate_interval
        )


def load() -> dict[str, Any]:
    """Read the dashboard."""
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return dashboard


def panels() -> list[dict[str, Any]]:
    """Return the panels that show something, without the rows' titles."""
    return [panel for panel in load()["panels"] if panel["type"] != "row"]


def query(client: httpx.Client, expression: str, legend: str, window: Window) -> Iterator[Series]:
    """Ask Prometheus for the lines of one expression."""
    step = max((window.end - window.start) / STEPS, 1)
    answer = client.get(
        "/api/v1/query_range",
        params={
            "query": window.fill(expression),
            "start": window.start,
            "end": window.end,
            "step": step,
        },
    )
    answer.raise_for_status()
    times = np.arange(window.start, window.end + step / 2, step)
    for found in answer.json()["data"]["result"]:
        values = np.full(len(times), np.nan)
        for at, value in found["values"]:
            values[round((at - window.start) / step)] = float(value)
        name = legend
        for label, text in found["metric"].items():
            name = name.replace(f"{{{{{label}}}}}", text)
        yield Series(name, times, values)


def draw(client: httpx.Client, window: Window, target: Path) -> None:
    """Draw every panel at its place into a PNG file."""
    places = [panel["gridPos"] for panel in load()["panels"]]
    height = max(place["y"] + place["h"] for place in places)
    figure = Figure(figsize=(12, height * 0.3), dpi=80)
    for panel in load()["panels"]:
        place = panel["gridPos"]
        left, top = place["x"] / COLUMNS, 1 - place["y"] / height
        if panel["type"] == "row":
            figure.text(left + 0.005, top - 0.7 / height, panel["title"], size=11, weight="bold")
            continue
        room = 0.08 if panel["type"] == "state-timeline" else 0.045
        box = (
            left + room,
            top - (place["h"] - 0.9) / height,
            place["w"] / COLUMNS - room - 0.01,
            (place["h"] - 2.2) / height,
        )
        axes = figure.add_axes(box)
        axes.set_title(panel["title"], loc="left", size=9)
        lines = [
            series
            for target_ in panel["targets"]
            for series in query(client, target_["expr"], target_["legendFormat"], window)
        ]
        DRAWERS[panel["type"]](axes, panel, lines)
    drawn = io.BytesIO()
    figure.savefig(drawn)
    # Few colours make a small file.
    Image.open(drawn).convert("RGB").quantize(COLORS_OF_FILE).save(target, optimize=True)


def _text(value: float, unit: str) -> str:
    """Write a value as Grafana would, or shorter."""
    if unit.startswith("suffix:"):
        return f"{value:.3g}{unit.removeprefix('suffix:')}"
    match unit:
        case "percentunit":
            return f"{value * 100:.3g} %"
        case "s" if 0 < abs(value) < 1:
            return f"{value * 1000:.3g} ms" if abs(value) >= 1e-3 else f"{value * 1e6:.3g} µs"
        case "s":
            return f"{value:.0f} s"
        case "bytes":
            return f"{value / 2**20:.0f} MiB"
        case "reqps":
            return f"{value:.0f} req/s" if value >= 10 else f"{value:.2g} req/s"
        case _:
            return f"{value:.3g}"


def _color(panel: dict[str, Any], value: float) -> str:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached = [step for step in steps if step["value"] is None or value >= step["value"]]
    return COLORS[reached[-1]["color"]]


def _draw_stat(axes: Axes, panel: dict[str, Any], lines: list[Series]) -> None:
    axes.axis("off")
    unit = panel["fieldConfig"]["defaults"]["unit"]
    now = [(line.name, line.values[-1]) for line in lines if not np.isnan(line.values[-1])]
    by_name = panel["options"]["textMode"] == "name"
    text = ", ".join(name if by_name else _text(value, unit) for name, value in now)
    color = _color(panel, now[0][1]) if now else "grey"
    axes.text(0, 0.2, text or "no data", size=18, color=color, weight="bold")


def _draw_times(axes: Axes, panel: dict[str, Any], lines: list[Series]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    if len(lines) > 4:  # the legend has no room for lines that lie on the axis
        lines = [line for line in lines if np.nansum(np.abs(line.values))]
    if lines and "stacking" in custom:
        values = [np.nan_to_num(line.values) for line in lines]
        axes.stackplot(_minutes(lines[0]), values, labels=[line.name for line in lines], alpha=0.7)
    else:
        for line in lines:
            axes.plot(_minutes(line), line.values, linewidth=1.3, label=line.name)
    if custom["thresholdsStyle"]["mode"] != "off":
        for step in defaults["thresholds"]["steps"][1:]:
            axes.axhline(step["value"], color=COLORS[step["color"]], linestyle="--", linewidth=1)
    axes.margins(y=0.35)
    axes.set_ylim(bottom=defaults.get("min"), top=defaults.get("max"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _text(value, defaults["unit"])))
    _finish(axes)
    if len(lines) > 1 or "stacking" in custom:
        axes.legend(fontsize=6, loc="upper left", framealpha=0.6, ncols=2)


def _draw_states(axes: Axes, _panel: dict[str, Any], lines: list[Series]) -> None:
    for place, line in enumerate(lines):
        minutes = _minutes(line)
        there = ~np.isnan(line.values)
        axes.fill_between(minutes, place + 0.1, place + 0.9, where=there.tolist(), step="mid")
    axes.set_yticks([place + 0.5 for place in range(len(lines))], [line.name for line in lines])
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.tick_params(labelsize=6, length=2)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} min"))


def _minutes(line: Series) -> NDArray[np.float64]:
    minutes: NDArray[np.float64] = (line.times - line.times[-1]) / 60
    return minutes


DRAWERS = {"stat": _draw_stat, "timeseries": _draw_times, "state-timeline": _draw_states}


def main() -> int:
    """Draw the last minutes; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("url", help="of Prometheus")
    parser.add_argument("target", type=Path, help="the PNG file to write")
    parser.add_argument("--minutes", type=float, default=60, help="to show (default: 60)")
    parser.add_argument("--rate-interval", default="1m", help="four scrapes (default: 1m)")
    options = parser.parse_args()
    now = time.time()
    window = Window(now - options.minutes * 60, now, options.rate_interval)
    try:
        with httpx.Client(base_url=options.url, timeout=30) as client:
            draw(client, window, options.target)
    except (httpx.HTTPError, httpx.InvalidURL, LookupError, ValueError) as error:
        print(f"error: is {options.url} a Prometheus? {one_line(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

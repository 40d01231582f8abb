"""The charts of a run: shares of the limit, on axes that begin at zero."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from benchmarks.measures import COLUMNS, MAIN, SIZES, TREES, Results
from benchmarks.peers import FASTAPI, LIMIT, OURS, PEERS, Peer

DPI = 110
STRONG, GREY, INK = "#0b6e8a", "#b9bfc7", "#3a424c"

SHOWN = {
    "rate": "requests/s, one row, 16 at once",
    "objects_10000": "rows/s, 10 000 objects a body",
    "arrays_10000": "rows/s, 10 000 arrays a body",
}
SCALE = {
    "rows in a body (logistic)": {size: (MAIN[0], f"arrays_{size}") for size in SIZES},
    "columns (logistic)": {size: (model, "rate") for size, model in COLUMNS.items()},
    "trees (forest)": {size: (model, "rate") for size, model in TREES.items()},
}


def _figure(height: float) -> Figure:
    figure = Figure(figsize=(11, height), layout=ConstrainedLayoutEngine(h_pad=0.12))
    text = "Share of the limit, a bare ASGI program with msgspec and onnxruntime"
    figure.suptitle(text, x=0.008, ha="left", fontsize=12, fontweight="bold", color=INK)
    return figure


def throughput(results: Results) -> Figure:
    """Draw the requests/s and rows/s of each peer as shares of the limit."""
    figure = _figure(5.6)
    panels = figure.subplots(len(MAIN), len(SHOWN), sharey=True)
    peers = [peer for peer in PEERS if peer is not LIMIT]
    for row, model in zip(panels, MAIN, strict=True):
        for axes, (measure, title) in zip(row, SHOWN.items(), strict=True):
            _bars(axes, peers, {name: of.get(measure) for name, of in results[model].items()})
            axes.set_title(f"{model}: {title}", loc="left", fontsize=9.5, color=INK, pad=18)
        row[0].set_yticks(range(len(peers)), [peer.name for peer in peers], color=INK)
        ours = row[0].yaxis.get_ticklabels()[peers.index(OURS)]
        ours.set(color=STRONG, fontweight="bold")
    return figure


def _bars(axes: Any, peers: Sequence[Peer], values: Mapping[str, list[float] | None]) -> None:
    limit = median(values[LIMIT.name] or ())
    longest = 1.0
    for place, peer in enumerate(peers):
        if found := values[peer.name]:
            share = median(found) / limit
            longest = max(longest, share)
            axes.barh(place, share, 0.62, color=STRONG if peer is OURS else GREY)
            _label(axes, (share, place), f"{_percent(share)}  ({_short(median(found))})", peer)
        else:
            axes.text(0.03, place, "not measured", va="center", fontsize=8, color=GREY)
    axes.axvline(1, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.text(1, -0.75, f"limit, {_short(limit)}", ha="center", fontsize=8, color=INK)
    axes.set(xlim=(0, longest + 0.6), ylim=(len(peers) - 0.5, -0.6), xticks=[])
    axes.tick_params(length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _label(axes: Any, place: tuple[float, float], text: str, peer: Peer) -> None:
    """Write beside the end of a bar, above the line of the limit."""
    style: dict[str, Any] = {"color": STRONG, "fontweight": "bold"} if peer is OURS else {}
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    style = {"color": INK, "va": "center", "fontsize": 8, "bbox": box} | style
    axes.annotate(text, place, (5, 0), textcoords="offset points", **style)


def shares(results: Results, peer: Peer, series: Sequence[tuple[str, str]]) -> list[float]:
    """Return a peer's share of the limit for each model and measure."""
    return [
        median(results[model][peer.name][measure]) / median(results[model][LIMIT.name][measure])
        for model, measure in series
    ]


def scale(results: Results) -> Figure:
    """Draw the share of the limit by the rows in a body, the columns and the trees."""
    figure = _figure(3.6)
    panels = figure.subplots(1, len(SCALE), sharey=True)
    for axes, (title, series) in zip(panels, SCALE.items(), strict=True):
        for peer, color, width in ((FASTAPI, GREY, 1.5), (OURS, STRONG, 2.5)):
            values = shares(results, peer, list(series.values()))
            axes.plot(range(len(values)), values, "o-", color=color, linewidth=width, markersize=5)
            for place in enumerate(values):
                _above(axes, place, _percent(place[1]), peer)
            if axes is panels[-1]:
                _name(axes, (len(values) - 1, values[-1]), peer)
        axes.axhline(1, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        axes.set_xticks(range(len(series)), [_short(size) for size in series])
        axes.set_title(f"by {title}", loc="left", fontsize=10, color=INK)
        axes.tick_params(length=0, labelcolor=INK)
        axes.set_yticks([])
        axes.margins(x=0.12)
        axes.spines[["top", "right", "left"]].set_visible(False)
    top = max(line.get_ydata().max() for axes in panels for line in axes.lines[:2])
    panels[0].set_ylim(0, max(1.0, top) * 1.15)
    panels[0].text(0, 1.03, "limit", ha="center", fontsize=8, color=INK)
    return figure


def _above(axes: Any, place: tuple[float, float], text: str, peer: Peer) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    style = {"color": STRONG if peer is OURS else INK, "fontsize": 8, "bbox": box}
    axes.annotate(text, place, (0, 7), textcoords="offset points", ha="center", **style)


def _name(axes: Any, place: tuple[float, float], peer: Peer) -> None:
    style: dict[str, Any] = {"color": INK, "va": "bottom"}  # above the axis
    if peer is OURS:
        style = {"color": STRONG, "va": "center", "fontweight": "bold"}
    text = peer.name.replace(" + ", " +\n")
    axes.annotate(text, place, (14, 0), textcoords="offset points", fontsize=9, **style)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else f"{share:.1%}"


def _short(value: float) -> str:
    """Return a number as axes and labels have it: 950, 16.1 k, 2.27 M."""
    for size, unit in ((1e6, " M"), (1e4, " k")):
        if value >= size:
            return f"{value / (1e6 if unit == ' M' else 1e3):.3g}{unit}"
    return f"{value:,.0f}".replace(",", " ")

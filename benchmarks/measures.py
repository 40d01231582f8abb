"""The measures of each peer and model, and the goals for their ratios."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from benchmarks.load import Load
from benchmarks.models import FOREST, LOGISTIC, Recipe, forest, mixed, mixed_pipeline, wide
from benchmarks.peers import FASTAPI, LIMIT, MLFLOW, MLSERVER, OURS, PEERS, PYFUNC, TWO, Peer

Values = dict[str, list[float]]
"""The values of each round, by measure."""

Results = dict[str, dict[str, Values]]
"""The values of each peer, by model and peer."""

CONNECTIONS = 16


@dataclass(frozen=True)
class Measure:
    """A load of equal requests.

    Attributes:
        call: The kind of the requests.
        rows: The number of rows in each.
        connections: The number of connections.
    """

    call: str
    rows: int = 1
    connections: int = CONNECTIONS

    def value(self, load: Load) -> float:
        """Return the rows/s, or the latency in ms of a single row on a single connection."""
        if self.connections > 1:
            return load.rate * self.rows
        # wrk does not count what is unanswered at the end, and of long bodies there are few.
        return load.p50 if self.call == "row" else self.rows / load.p50 * 1000


SIZES = (1, 10, 100, 1_000, 10_000, 100_000)
"""Rows in a body, as arrays, for the cost of a row."""

MEASURES = {
    "rate": Measure("row"),
    "latency": Measure("row", connections=1),
    "rate_array": Measure("arrays"),
    "objects_100": Measure("objects", 100),
    "objects_10000": Measure("objects", 10_000, connections=1),
    "invocations": Measure("invocations"),
    "v1": Measure("v1"),
    "v2": Measure("v2"),
    "binary_10000": Measure("binary", 10_000, connections=1),
    **{f"arrays_{size}": Measure("arrays", size, connections=1) for size in SIZES},
}
HEADINGS = {
    "rate": "requests/s at 16",
    "latency": "p50 at 1, ms",
    "p50": "p50 at 16, ms",
    "p99": "p99 at 16, ms",
    "objects_100": "rows/s, bodies of 100 objects",
    "objects_10000": "rows/s, bodies of 10 000 objects",
    "arrays_10000": "rows/s, bodies of 10 000 arrays",
    "memory": "memory, MB",
    "start": "start to first prediction, s",
}
OTHERS = {
    "rate_array": "requests/s at 16, `instances`",
    "invocations": "requests/s at 16, `/invocations`",
    "v1": "requests/s at 16, V1",
    "v2": "requests/s at 16, V2 in JSON",
    "binary_10000": "rows/s, bodies of 10 000 in V2 binary",
}

MAIN = ("logistic", "forest")
COLUMNS = {4: "logistic", 30: "30 columns", 128: "128 columns", 512: "512 columns"}
TREES = {1: "1 tree", 10: "10 trees", 100: "forest", 1_000: "1000 trees"}

RECIPES = {
    "logistic": LOGISTIC,
    "forest": FOREST,
    "mixed": Recipe(mixed_pipeline, mixed),
    **{COLUMNS[n]: Recipe(LOGISTIC.estimator, partial(wide, n)) for n in COLUMNS if n > 4},
    **{TREES[n]: Recipe(partial(forest, n)) for n in TREES if n != 100},
}


@dataclass(frozen=True)
class Part:
    """Measures of some peers with one model; each of them is started for it.

    Attributes:
        model: The name of the model.
        peers: The peers.
        measures: The names of the measures; a peer has those that it takes the requests of.
        is_scale: Whether it only belongs to the cost of scale: it has its turn in the first round.
    """

    model: str
    peers: Sequence[Peer]
    measures: Sequence[str]
    is_scale: bool = False


SCALED = (OURS, LIMIT, FASTAPI)
_MAIN = [name for name in MEASURES if not name.startswith("arrays_") or name == "arrays_10000"]
_EACH_ROUND = {*MAIN, "30 columns"}
_ONCE = [name for name in (*COLUMNS.values(), *TREES.values()) if name not in _EACH_ROUND]
PARTS = (
    *(Part(model, PEERS, _MAIN) for model in MAIN),
    *(Part(model, [TWO], ["rate"]) for model in MAIN),
    Part("30 columns", SCALED, ["rate"]),
    Part("mixed", (OURS, FASTAPI), ["rate"]),
    *(Part(model, SCALED, ["rate"], is_scale=True) for model in _ONCE),
    Part("logistic", SCALED, [f"arrays_{n}" for n in SIZES if n != 10_000], is_scale=True),
)


@dataclass(frozen=True)
class Goal:
    """A bound for a value of this service, or for its ratio to another value.

    Attributes:
        measure: The measure of this service.
        peer: The peer of the other value; None bounds the value itself.
        bounds: The bounds by model.
        most: Whether the bounds are maximums and not minimums.
        other: The measure of the other value, if it is not the same.
        model: The model of the other value, if it is not the same.
        of: This service.
    """

    measure: str
    peer: Peer | None
    bounds: Mapping[str, float]
    most: bool = False
    other: str = ""
    model: str = ""
    of: Peer = OURS

    def text(self) -> str:
        """Return a description of the ratio."""
        names = HEADINGS | OTHERS
        text = names[self.measure] + ("" if self.of is OURS else f", {self.of.name}")
        if self.peer is None:
            return text
        of = names[self.other] if self.other and self.peer is OURS else self.peer.name
        return f"{text} : {of}" + (f", {self.model}" if self.model else "")

    def value(self, results: Results, model: str) -> float:
        """Return the median of the values of each round, or of their ratios."""
        ours = results[model][self.of.name][self.measure]
        if self.peer is None:
            return median(ours)
        other = results[self.model or model][self.peer.name][self.other or self.measure]
        return median(a / b for a, b in zip(ours, other, strict=True))


def _each(logistic: float, forest: float | None = None) -> dict[str, float]:
    return {"logistic": logistic, "forest": logistic if forest is None else forest}


GOALS = (
    Goal("rate", LIMIT, _each(0.75)),
    Goal("rate_array", LIMIT, _each(0.75)),
    Goal("latency", LIMIT, _each(1.25), most=True),
    Goal("p99", OURS, _each(2.5), most=True, other="p50"),
    Goal("objects_100", LIMIT, _each(0.8)),
    Goal("objects_10000", LIMIT, _each(0.9)),
    Goal("arrays_10000", LIMIT, _each(1)),
    Goal("memory", None, _each(170), most=True),
    Goal("start", FASTAPI, _each(1.1), most=True),
    Goal("rate", OURS, _each(1.9), of=TWO),
    Goal("rate", FASTAPI, _each(2.5, 20)),
    Goal("rate", MLFLOW, _each(15, 45)),
    Goal("rate", PYFUNC, _each(16, 45)),
    Goal("v2", MLSERVER, _each(8, 50), other="rate"),
    Goal("invocations", OURS, _each(0.9), other="rate_array"),
    Goal("v1", OURS, _each(0.9), other="rate_array"),
    Goal("v2", OURS, _each(0.9), other="rate_array"),
    Goal("binary_10000", OURS, {"logistic": 2}, other="arrays_10000"),
    Goal("rate", LIMIT, {"30 columns": 0.5}),
    Goal("rate", OURS, {"mixed": 0.5}, model="logistic"),
    Goal("rate", FASTAPI, {"mixed": 50}),
)

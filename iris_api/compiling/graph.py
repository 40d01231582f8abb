"""The ONNX graph that the converters build, and what they build it with."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from iris_api.compiling.reasons import no_converter
from iris_api.compiling.trees import Tree, tree_ensemble

TREES = "ai.onnx.ml"
OPSETS = {"": 21, TREES: 5}
"""Fixed, so that a new onnx does not write what an older onnxruntime cannot read. 5 is the first
version of ai.onnx.ml with `TreeEnsemble`."""
IR_VERSION = 10
"""The version of ONNX's file format that has these opsets."""

Operand = str | float | NDArray[Any]
"""A result's name, or the values of a constant."""

Values = NDArray[np.float64]

_Converter = TypeVar("_Converter", bound=Callable[..., Any])


@dataclass(frozen=True)
class Answer:
    """The names of what a classifier computes. Those that are not used are left out.

    Attributes:
        index: int64 (n,), the places of the labels in `classes_`.
        probabilities: float64 (n, k), or None without `predict_proba`.
        scores: float64, what `decision_function` returns, (n, 1) for two classes; or None.
    """

    index: str
    probabilities: str | None = None
    scores: str | None = None


@dataclass(frozen=True)
class Converters:
    """The converter of each type.

    Attributes:
        classifiers: For classifiers.
        teams: For several classifiers of one kind and of the same parameters at once.
        regressors: For regressors; the results are columns, (n, 1).
        transformers: For transformers.
    """

    classifiers: dict[type, Callable[["Graph", Any, str], Answer]]
    teams: dict[type, Callable[["Graph", list[Any], str], Answer]]
    regressors: dict[type, Callable[["Graph", Any, str], str]]
    transformers: dict[type, Callable[["Graph", Any, str], str]]


class Graph:
    """A growing graph. Results are known by their names; `rows` is the name of the input.

    One node costs 0.3 to 1 µs a call, whatever it computes for one row.
    """

    rows = "rows"

    def __init__(self, converters: Converters) -> None:
        self.converters = converters
        self._nodes: list[NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], TensorProto] = {}

    def answer(self, classifier: Any, rows: str) -> Answer:
        """Convert a classifier that is given rows, float64 (n, features)."""
        return _converter(self.converters.classifiers, classifier)(self, classifier, rows)

    def predict(self, regressor: Any, rows: str) -> str:
        """Convert a regressor of rows, and return the name of the predictions, (n, 1)."""
        return _converter(self.converters.regressors, regressor)(self, regressor, rows)

    def transform(self, transformer: Any, rows: str) -> str:
        """Convert a transformer of rows, and return the name of the new rows."""
        return _converter(self.converters.transformers, transformer)(self, transformer, rows)

    def op(self, kind: str, *inputs: Operand, domain: str = "", **attributes: Any) -> str:
        """Add a node of one output and return the name of its result."""
        names = [each if isinstance(each, str) else self._constant(each) for each in inputs]
        result = f"{kind.lower()}/{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, names, [result], domain=domain, **attributes))
        return result

    def split(self, values: str, parts: int) -> list[str]:
        """Split columns into equal parts."""
        results = [f"part{part}/{len(self._nodes)}" for part in range(parts)]
        self._nodes.append(helper.make_node("Split", [values], results, axis=1, num_outputs=parts))
        return results

    def sort(self, values: str, count: int) -> tuple[str, str]:
        """Return the values of each row in ascending order, (n, count), and their places."""
        results = [f"{part}/{len(self._nodes)}" for part in ("ordered", "places")]
        node = helper.make_node("TopK", [values, self._constant(np.array([count]))], results)
        node.attribute.extend([helper.make_attribute("largest", 0)])
        self._nodes.append(node)
        return results[0], results[1]

    def _constant(self, values: float | NDArray[Any]) -> str:
        array = np.asarray(values)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant/{len(self._constants)}"
            self._constants[key] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return self._constants[key].name

    def cast(self, values: str, kind: int = TensorProto.DOUBLE) -> str:
        """Cast, to float64 by default."""
        return self.op("Cast", values, to=kind)

    def trees(
        self, rows: str, trees: Iterable[Tree], targets: int, *, mean_of: int | None = None
    ) -> str:
        """Add up trees in their order, and return the sums, (n, targets), or their mean."""
        listed = list(trees)
        mean = mean_of == len(listed)
        attributes = tree_ensemble(listed, targets, mean=mean)
        sums = self.op("TreeEnsemble", rows, domain=TREES, **attributes)
        return sums if mean or mean_of is None else self.op("Div", sums, float(mean_of))

    def look_up(self, rows: str, tables: Iterable[tuple[int, Values, Values]]) -> str:
        """Look up a value for each table, and return them side by side, (n, tables).

        A tree finds the piece in a time that grows with the logarithm of their number.

        Args:
            rows: float64 (n, columns).
            tables: The column of the rows; its edges, (m,), strictly increasing; and the values of
                the pieces, (m + 1,). A number on an edge belongs to the piece above it.
        """
        trees = [Tree.of_steps(place, *table) for place, table in enumerate(tables)]
        return self.trees(rows, trees, len(trees))

    def columns(
        self, rows: str, places: Sequence[int] | NDArray[Any], of: int | None = None
    ) -> str:
        """Return some columns, in the order given; the rows themselves if that is all `of`."""
        chosen = np.asarray(places, dtype=np.int64)
        if of is not None and np.array_equal(chosen, np.arange(of)):
            return rows
        return self.op("Gather", rows, chosen, axis=-1)

    def beside(self, *parts: str) -> str:
        """Return columns side by side."""
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=-1)

    def total(self, *parts: str) -> str:
        """Add up, one after the other."""
        return parts[0] if len(parts) == 1 else self.op("Sum", *parts)

    def sigmoid(self, values: str, *, negated: bool = False) -> str:
        """Return 1 / (1 + exp(-values)), as scikit-learn does; `negated`, of -values.

        The operator `Sigmoid` loses all digits of small probabilities, which count where they are
        divided by their sum.
        """
        power = self.op("Exp", values if negated else self.op("Neg", values))
        return self.op("Reciprocal", self.op("Add", power, 1.0))

    def affine(self, rows: str, matrix: NDArray[Any], offset: NDArray[Any] | float) -> str:
        """Return rows @ matrix + offset, (n, columns of the matrix)."""
        matrix = np.asarray(matrix, dtype=np.float64)
        offset = np.broadcast_to(np.asarray(offset, dtype=np.float64), matrix.shape[1:])
        return self.op("Gemm", rows, matrix, offset)

    def sum_columns(self, values: str, axis: int = -1, *, keep: bool = True) -> str:
        """Return the sums along an axis."""
        return self.op("ReduceSum", values, np.array([axis]), keepdims=int(keep))

    def repeat(self, values: NDArray[Any], rows: str) -> str:
        """Return the same values, (k,), for each row, (n, k)."""
        count = self.op("Shape", rows, end=1)
        return self.op(
            "Expand", values[np.newaxis], self.op("Concat", count, np.array([1]), axis=0)
        )

    def highest(self, scores: str, *, last: bool = False) -> str:
        """Return the place of the highest score, the first one of equals as in numpy, or the last.

        One node, where the comparison of a single score with a limit takes three.
        """
        return self.op("ArgMax", scores, axis=-1, keepdims=0, select_last_index=int(last))

    def above(self, score: str, limit: float = 0.0, comparison: str = "Greater") -> str:
        """Return 1 for scores above a limit, else 0, as int64 without the last axis of one."""
        above = self.op("Squeeze", self.op(comparison, score, limit), np.array([-1]))
        return self.cast(above, TensorProto.INT64)

    def against_zero(self, score: str) -> str:
        """Return the scores of two classes, (n, 2), from the second one's, (n, 1)."""
        return self.op("Mul", score, np.array([0.0, 1.0]))

    def most_likely(
        self, scores: str, decision: str | None = None, *, last: bool = False
    ) -> Answer:
        """Answer with the highest score, and with the softmax of the scores, (n, k)."""
        index = self.highest(scores, last=last)
        return Answer(index, self.op("Softmax", scores, axis=-1), decision or scores)

    def two(self, second: str) -> str:
        """Return the probabilities of two classes, (n, 2), from the second one's, (n, 1)."""
        return self.beside(self.op("Sub", 1.0, second), second)

    def shares(self, values: str, otherwise: float | str) -> str:
        """Divide by the sum of the row; where that is 0, return something else."""
        total = self.sum_columns(values)
        empty = self.op("Equal", total, 0.0)
        return self.op("Where", empty, otherwise, self.op("Div", values, total))

    def model(self, results: dict[str, str | None], *, columns: int, classes: int) -> ModelProto:
        """Return the model with one output for each result that there is.

        Args:
            results: Names of results by names of outputs: "label", int64 (n,); "probabilities",
                float64 (n, classes); "prediction", float64 (n,).
            columns: Number of columns of the rows.
            classes: Number of classes.
        """
        kinds: dict[str, tuple[int, list[str | int]]] = {
            "label": (TensorProto.INT64, ["n"]),
            "probabilities": (TensorProto.DOUBLE, ["n", classes]),
            "prediction": (TensorProto.DOUBLE, ["n"]),
        }
        known = {output: result for output, result in results.items() if result is not None}
        names = {result: output for output, result in known.items()}
        nodes = _needed(self._nodes, set(known.values()))
        for node in nodes:
            # The outputs are renamed results: an Identity in front of each would cost a node.
            node.input[:] = [names.get(each, each) for each in node.input]
            node.output[:] = [names.get(each, each) for each in node.output]
        used = {name for node in nodes for name in node.input}
        rows = helper.make_tensor_value_info(self.rows, TensorProto.DOUBLE, ["n", columns])
        outputs = [helper.make_tensor_value_info(each, *kinds[each]) for each in known]
        constants = [each for each in self._constants.values() if each.name in used]
        opsets = [helper.make_opsetid(*opset) for opset in OPSETS.items()]
        graph = helper.make_graph(nodes, "estimator", [rows], outputs, constants)
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def _converter(known: dict[type, _Converter], part: Any) -> _Converter:
    if type(part) not in known:
        raise no_converter(part)
    return known[type(part)]


def _needed(nodes: list[NodeProto], results: set[str]) -> list[NodeProto]:
    """Return the nodes that results depend on, in their order."""
    needed = set(results)
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]

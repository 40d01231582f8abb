"""The ONNX graph that the converters build, and what they build it with."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from iris_api.compiling.converters.trees import Tree, ensemble
from iris_api.errors import IrisError

TREES = "ai.onnx.ml"
OPSETS = {"": 21, TREES: 5}
"""Fixed, so that a new onnx does not write what an older onnxruntime cannot read. 5 is the first
version of ai.onnx.ml with `TreeEnsemble`."""
IR_VERSION = 10
"""The version of ONNX's file format that has these opsets."""

Operand = str | float | NDArray[Any]
"""A result's name, or the values of a constant."""


class NoConverterError(IrisError):
    """The reason why an estimator has no exact compiled form."""


@dataclass(frozen=True)
class Answer:
    """The names of what a classifier computes.

    Attributes:
        index: int64 (n,), the places of the labels in `classes_`.
        probabilities: float64 (n, k), or None without `predict_proba`.
        scores: float64, what `decision_function` returns, (n, 1) for two classes; or None.
    """

    index: str
    probabilities: str | None = None
    scores: str | None = None


ClassifierConverter = Callable[["Graph", Any, str], Answer]
TeamConverter = Callable[["Graph", list[Any], str], Answer]
TransformerConverter = Callable[["Graph", Any, str], str]


@dataclass(frozen=True)
class Converters:
    """The converter of each type.

    Attributes:
        classifiers: For classifiers.
        teams: For several classifiers of one kind and of the same parameters at once.
        transformers: For transformers.
    """

    classifiers: Mapping[type, ClassifierConverter]
    teams: Mapping[type, TeamConverter]
    transformers: Mapping[type, TransformerConverter]


class Graph:
    """A growing graph. Results are known by their names; `rows` is the name of the input."""

    rows = "rows"

    def __init__(self, converters: Converters) -> None:
        self.converters = converters
        self._nodes: list[NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], TensorProto] = {}
        self._rounded: dict[str, str] = {}

    def answer(self, classifier: Any, rows: str) -> Answer:
        """Convert a classifier that is given rows, float64 (n, features)."""
        return self.converters.classifiers[type(classifier)](self, classifier, rows)

    def transform(self, transformer: Any, rows: str) -> str:
        """Convert a transformer of rows, and return the name of the new rows."""
        return self.converters.transformers[type(transformer)](self, transformer, rows)

    def op(self, kind: str, *inputs: Operand, domain: str = "", **attributes: Any) -> str:
        """Add a node of one output and return the name of its result."""
        names = [each if isinstance(each, str) else self._constant(each) for each in inputs]
        result = self.new_name(kind.lower())
        self._nodes.append(helper.make_node(kind, names, [result], domain=domain, **attributes))
        return result

    def split(self, values: str, parts: int) -> list[str]:
        """Split columns into equal parts."""
        results = [self.new_name(f"part{part}") for part in range(parts)]
        self._nodes.append(helper.make_node("Split", [values], results, axis=1, num_outputs=parts))
        return results

    def new_name(self, kind: str) -> str:
        """Return a name for a result that no other has."""
        return f"{kind}/{len(self._nodes)}"

    def _constant(self, values: float | NDArray[Any]) -> str:
        array = np.asarray(values)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant/{len(self._constants)}"
            self._constants[key] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return self._constants[key].name

    def cast(self, values: str, kind: int = TensorProto.DOUBLE) -> str:
        """Cast, to float64 unless told otherwise."""
        return self.op("Cast", values, to=kind)

    def rounded(self, rows: str) -> str:
        """Return rows rounded to float32 and back, as scikit-learn's trees do."""
        if rows not in self._rounded:
            self._rounded[rows] = self.cast(self.cast(rows, TensorProto.FLOAT))
        return self._rounded[rows]

    def trees(self, rows: str, trees: Iterable[Tree], targets: int) -> str:
        """Add up trees in their order, and return the sums, (n, targets)."""
        return self.op("TreeEnsemble", rows, domain=TREES, **ensemble(trees, targets))

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

    def sigmoid(self, values: str) -> str:
        """Return 1 / (1 + exp(-values)), as scikit-learn does.

        The operator `Sigmoid` loses all digits of small probabilities, which count where they are
        divided by their sum.
        """
        return self.op("Reciprocal", self.op("Add", self.op("Exp", self.op("Neg", values)), 1.0))

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

    def highest(self, scores: str) -> str:
        """Return the place of the highest score, the first one of equals, as numpy does."""
        return self.op("ArgMax", scores, axis=-1, keepdims=0)

    def above(self, score: str, limit: float = 0.0, comparison: str = "Greater") -> str:
        """Return 1 for scores above a limit, else 0, as int64 without the last axis of one."""
        above = self.op("Squeeze", self.op(comparison, score, limit), np.array([-1]))
        return self.cast(above, TensorProto.INT64)

    def two(self, second: str) -> str:
        """Return the probabilities of two classes, (n, 2), from the second one's, (n, 1)."""
        return self.beside(self.op("Sub", 1.0, second), second)

    def shares(self, values: str, otherwise: float | str) -> str:
        """Divide by the sum of the row; where that is 0, return something else."""
        total = self.sum_columns(values)
        empty = self.op("Equal", total, 0.0)
        return self.op("Where", empty, otherwise, self.op("Div", values, total))

    def model(self, answer: Answer, *, columns: int, classes: int) -> ModelProto:
        """Return the model whose outputs are an answer's label and, if any, probabilities."""
        results = {"label": answer.index}
        outputs = [helper.make_tensor_value_info("label", TensorProto.INT64, ["n"])]
        if answer.probabilities is not None:
            results["probabilities"] = answer.probabilities
            kind = helper.make_tensor_value_info
            outputs.append(kind("probabilities", TensorProto.DOUBLE, ["n", classes]))
        for name, result in results.items():
            self._nodes.append(helper.make_node("Identity", [result], [name]))
        nodes = _needed(self._nodes, set(results))
        used = {name for node in nodes for name in _read_by(node)}
        rows = helper.make_tensor_value_info(self.rows, TensorProto.DOUBLE, ["n", columns])
        constants = [each for each in self._constants.values() if each.name in used]
        opsets = [helper.make_opsetid(*opset) for opset in OPSETS.items()]
        graph = helper.make_graph(nodes, "classifier", [rows], outputs, constants)
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def _needed(nodes: list[NodeProto], results: set[str]) -> list[NodeProto]:
    """Return the nodes that results depend on, in their order."""
    needed = set(results)
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(_read_by(node))
            kept.append(node)
    return kept[::-1]


def _read_by(node: NodeProto) -> set[str]:
    """Return the names that a node reads, its inner graphs included."""
    inner = (each.g for each in node.attribute if each.type == AttributeProto.GRAPH)
    return set(node.input).union(*(_read_by(each) for graph in inner for each in graph.node))

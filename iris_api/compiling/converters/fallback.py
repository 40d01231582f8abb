"""Estimators without a converter of this project: skl2onnx converts them, in float64."""

import copy
from typing import Any

import numpy as np
import onnx
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType

from iris_api.compiling.converters.graph import OPSETS, Answer, Graph
from iris_api.compiling.sampling import parts_of

TREES_VERSION = 3
"""The last version of ai.onnx.ml that skl2onnx writes trees for."""


def convert_other_classifier(graph: Graph, classifier: Any, rows: str) -> Answer:
    """Convert a classifier by skl2onnx."""
    label, second = _include(graph, _numbered(classifier), rows)
    index = graph.op("Reshape", label, np.array([-1]))
    return Answer(index, second if hasattr(classifier, "predict_proba") else None)


def convert_other_transformer(graph: Graph, transformer: Any, rows: str) -> str:
    """Convert a transformer by skl2onnx."""
    return _include(graph, transformer, rows)[0]


def _numbered(classifier: Any) -> Any:
    """Copy a classifier, with its classes replaced by their places in every part."""
    classes = classifier.classes_
    numbered = copy.deepcopy(classifier)
    for part in parts_of(numbered):
        for name in ("classes_", "classes", "y_"):
            held = vars(part).get(name)
            if isinstance(held, np.ndarray) and np.isin(held, classes).all():
                vars(part)[name] = np.searchsorted(classes, held).astype(np.int64)
    return numbered


def _include(graph: Graph, estimator: Any, rows: str) -> list[str]:
    """Add the graph that skl2onnx makes of an estimator, and return its outputs."""
    prefix = graph.new_name("sklearn") + "/"
    columns = DoubleTensorType([None, estimator.n_features_in_])
    versions = {**OPSETS, "ai.onnx.ml": TREES_VERSION}
    model = to_onnx(estimator, initial_types=[("rows", columns)], target_opset=versions)
    inner = onnx.compose.add_prefix(model, prefix).graph
    outputs = [output.name for output in inner.output]
    nodes = []
    for node in inner.node:
        outdated = node.op_type.startswith("TreeEnsemble")
        if outdated or node.domain not in ("", "ai.onnx", "ai.onnx.ml"):
            raise ValueError(f"{node.op_type} is not exact, or not known to every ONNX Runtime")
        if node.op_type == "ZipMap":  # a list of dictionaries instead of a tensor
            outputs[outputs.index(node.output[0])] = node.input[0]
            continue
        node.input[:] = [rows if name == f"{prefix}rows" else name for name in node.input]
        nodes.append(node)
    graph.include(nodes, inner.initializer)
    return outputs

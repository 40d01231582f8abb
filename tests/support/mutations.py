"""Compiled graphs with one mistake each, as a wrong converter or a wrong runtime would make it."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from iris_api.compiling.proof import CompileError, Reference, prove
from iris_api.model.engines import open_session

Mutation = Callable[[ModelProto, np.random.Generator], Iterator[ModelProto]]

MISSING = "missing values go the other way"
BRANCH_LT = 1
BY_DEFINITION = {"Clip": "Identity", "Softmax": "Identity", "Relu": "Identity", "Tanh": "Erf"}
OTHER_COMPARISON = {"Greater": "GreaterOrEqual", "Less": "LessOrEqual"}


def mutants(model: ModelProto, each: int, *, missing: bool) -> Iterator[tuple[str, ModelProto]]:
    """Yield the name of a mistake and the graph that has it, up to `each` graphs of a mistake."""
    for name, mutate in MUTATIONS.items():
        if name == MISSING and not missing:
            continue
        rng = np.random.default_rng(0)
        for _, mutant in zip(range(each), mutate(model, rng), strict=False):
            yield name, mutant


def survivors(
    model: ModelProto, reference: Reference, each: int, kinds: int, *, missing: bool = False
) -> list[str]:
    """Return the mistakes that a proof does not find, among at least so many kinds of them."""
    tried, found = set(), []
    for mistake, mutant in mutants(model, each, missing=missing):
        tried.add(mistake)
        try:
            prove(open_session(mutant.SerializeToString()), reference)
        except CompileError:
            continue
        found.append(mistake)
    assert len(tried) >= kinds, tried
    return found


def _copy(model: ModelProto) -> ModelProto:
    copied = ModelProto()
    copied.CopyFrom(model)
    return copied


def _nodes(model: ModelProto, *kinds: str) -> list[int]:
    return [place for place, node in enumerate(model.graph.node) if node.op_type in kinds]


def _attribute(node: NodeProto, name: str) -> NDArray[Any]:
    found = next(each for each in node.attribute if each.name == name)
    return np.array(
        numpy_helper.to_array(found.t) if found.type == AttributeProto.TENSOR else found.ints
    )


def _set(node: NodeProto, name: str, values: Any) -> None:
    found = next((each for each in node.attribute if each.name == name), None)
    if found is None:
        node.attribute.append(helper.make_attribute(name, values))
    elif found.type == AttributeProto.TENSOR:
        found.t.CopyFrom(numpy_helper.from_array(values, found.t.name))
    else:
        found.CopyFrom(helper.make_attribute(name, values))


def _constants(model: ModelProto, least: int = 1) -> list[int]:
    return [
        place
        for place, tensor in enumerate(model.graph.initializer)
        if tensor.data_type == TensorProto.DOUBLE and int(np.prod(tensor.dims)) >= least
    ]


def _with_constant(
    model: ModelProto, place: int, change: Callable[[NDArray[Any]], NDArray[Any]]
) -> ModelProto:
    mutant = _copy(model)
    tensor = mutant.graph.initializer[place]
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    return mutant


def _of_trees(
    change: Callable[[NodeProto, np.random.Generator], Iterator[tuple[str, Any]]],
) -> Mutation:
    """Make a mutation that changes attributes of a node of trees."""

    def mutate(model: ModelProto, rng: np.random.Generator) -> Iterator[ModelProto]:
        for place in _nodes(model, "TreeEnsemble"):
            for name, values in change(model.graph.node[place], rng):
                mutant = _copy(model)
                _set(mutant.graph.node[place], name, values)
                yield mutant

    return mutate


def _real_splits(node: NodeProto) -> NDArray[np.intp]:
    """Return the nodes of trees whose branches are not the same leaf."""
    names = ("nodes_trueleafs", "nodes_falseleafs", "nodes_truenodeids", "nodes_falsenodeids")
    left_leaf, right_leaf, left, right = (_attribute(node, name) for name in names)
    return np.flatnonzero((left_leaf != right_leaf) | (left != right))


def _move_split(node: NodeProto, rng: np.random.Generator) -> Iterator[tuple[str, Any]]:
    """Move a split by one bit; behind other steps, by what they can make of two neighbours."""
    splits = _attribute(node, "nodes_splits")
    for place in rng.permutation(_real_splits(node)):
        for side in (-np.inf, np.inf):
            moved = splits.copy()
            for _ in range(1 if node.input[0] == "rows" else 64):
                moved[place] = np.nextafter(moved[place], side)
            yield "nodes_splits", moved


def _turn_tie(node: NodeProto, rng: np.random.Generator) -> Iterator[tuple[str, Any]]:
    modes = _attribute(node, "nodes_modes")
    if node.input[0] == "rows":  # other steps may make no number that is on the split
        for place in rng.permutation(_real_splits(node)):
            turned = modes.copy()
            turned[place] = BRANCH_LT
            yield "nodes_modes", turned


def _turn_missing(node: NodeProto, rng: np.random.Generator) -> Iterator[tuple[str, Any]]:
    """Turn the roots of trees: below them, no row without the number may come to a split."""
    missing = _attribute(node, "nodes_missing_value_tracks_true")
    roots = np.intersect1d(_attribute(node, "tree_roots"), _real_splits(node))
    for place in rng.permutation(roots):
        turned = missing.copy()
        turned[place] = 1 - turned[place]
        yield "nodes_missing_value_tracks_true", turned.tolist()


def _change_leaf(node: NodeProto, rng: np.random.Generator) -> Iterator[tuple[str, Any]]:
    weights = _attribute(node, "leaf_weights")
    for place in rng.permutation(len(weights)):
        changed = weights.copy()
        changed[place] += 1e-6
        yield "leaf_weights", changed


def _move_leaf(node: NodeProto, rng: np.random.Generator) -> Iterator[tuple[str, Any]]:
    targets, weights = _attribute(node, "leaf_targetids"), _attribute(node, "leaf_weights")
    if targets.max() > 0:
        for place in rng.permutation(np.flatnonzero(weights)):
            moved = targets.copy()
            moved[place] = (moved[place] + 1) % (targets.max() + 1)
            yield "leaf_targetids", moved.tolist()


def _swap_classes(model: ModelProto, _: np.random.Generator) -> Iterator[ModelProto]:
    if model.graph.output[0].name != "label":  # a regressor
        return
    mutant = _copy(model)
    for node in mutant.graph.node:
        node.output[:] = ["right" if name == "label" else name for name in node.output]
        node.input[:] = ["right" if name == "label" else name for name in node.input]
    swapped: Any = {"keys_int64s": [0, 1, 2], "values_int64s": [1, 0, 2]}
    mutant.graph.node.append(
        helper.make_node("LabelEncoder", ["right"], ["label"], domain="ai.onnx.ml", **swapped)
    )
    yield mutant


def _swap_columns(model: ModelProto, _: np.random.Generator) -> Iterator[ModelProto]:
    mutant = _copy(model)
    for node in mutant.graph.node:
        node.input[:] = ["swapped" if name == "rows" else name for name in node.input]
    mutant.graph.initializer.append(numpy_helper.from_array(np.array([0, 1, 3, 2]), "order"))
    mutant.graph.node.insert(0, helper.make_node("Gather", ["rows", "order"], ["swapped"], axis=1))
    yield mutant


def _round_weights(model: ModelProto, _: np.random.Generator) -> Iterator[ModelProto]:
    for place in _constants(model, least=2):
        values = numpy_helper.to_array(model.graph.initializer[place])
        if not np.array_equal(values, values.astype(np.float32)):
            yield _with_constant(model, place, lambda all_: all_.astype(np.float32).astype(float))


def _alter_constant(model: ModelProto, rng: np.random.Generator) -> Iterator[ModelProto]:
    for place in rng.permutation(_constants(model)):
        if numpy_helper.to_array(model.graph.initializer[place]).any():
            yield _with_constant(model, int(place), lambda all_: all_ * (1 + 1e-6))


def _drop_intercept(model: ModelProto, _: np.random.Generator) -> Iterator[ModelProto]:
    for place in _nodes(model, "Gemm"):
        names = [tensor.name for tensor in model.graph.initializer]
        constant = names.index(model.graph.node[place].input[2])
        if numpy_helper.to_array(model.graph.initializer[constant]).any():
            yield _with_constant(model, constant, np.zeros_like)


def _round_rows(model: ModelProto, _: np.random.Generator) -> Iterator[ModelProto]:
    """Round rows to float32, save for trees, most of which do that themselves."""
    mutant = _copy(model)
    readers = [node for node in mutant.graph.node if "rows" in node.input]
    for node in readers:
        node.input[:] = ["rounded" if name == "rows" else name for name in node.input]
    for source, result, kind in (("float", "rounded", 11), ("rows", "float", 1)):
        mutant.graph.node.insert(0, helper.make_node("Cast", [source], [result], to=kind))
    if all(node.op_type != "TreeEnsemble" for node in readers):
        yield mutant


def _replace_operator(model: ModelProto, _: np.random.Generator) -> Iterator[ModelProto]:
    """Leave out a clip, a normalisation or an activation."""
    for place in _nodes(model, *BY_DEFINITION):
        mutant = _copy(model)
        node = mutant.graph.node[place]
        node.op_type = BY_DEFINITION[node.op_type]
        del node.input[1:], node.attribute[:]
        yield mutant


def _leave_out_division(model: ModelProto, _: np.random.Generator) -> Iterator[ModelProto]:
    for place in _nodes(model, "Div"):
        mutant = _copy(model)
        node = mutant.graph.node[place]
        node.op_type = "Identity"
        del node.input[1:]
        yield mutant


def _turn_comparison(model: ModelProto, _: np.random.Generator) -> Iterator[ModelProto]:
    for place in _nodes(model, *OTHER_COMPARISON):
        if model.graph.node[place].input[0] == "rows":  # scores on a limit are ties
            mutant = _copy(model)
            node = mutant.graph.node[place]
            node.op_type = OTHER_COMPARISON[node.op_type]
            yield mutant


def choose_last(model: ModelProto) -> ModelProto:
    """Choose the last of equal classes instead of the first, as it would differ in votes alone."""
    mutant = _copy(model)
    for place in _nodes(model, "ArgMax"):
        _set(mutant.graph.node[place], "select_last_index", 1)
    return mutant


MUTATIONS: dict[str, Mutation] = {
    "a split is moved": _of_trees(_move_split),
    "a tie of a split is turned": _of_trees(_turn_tie),
    MISSING: _of_trees(_turn_missing),
    "a leaf is off by 1e-6": _of_trees(_change_leaf),
    "a leaf is of another class": _of_trees(_move_leaf),
    "classes are swapped": _swap_classes,
    "columns are swapped": _swap_columns,
    "weights are rounded to float32": _round_weights,
    "a constant is off by 1e-6": _alter_constant,
    "an intercept is dropped": _drop_intercept,
    "rows are rounded": _round_rows,
    "an operator is left out": _replace_operator,
    "a normalisation is left out": _leave_out_division,
    "a comparison is turned": _turn_comparison,
}

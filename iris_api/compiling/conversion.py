"""From a scikit-learn classifier to an ONNX graph that is proven to answer the same."""

import contextlib
import copy
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.base import ClassifierMixin
from sklearn.ensemble import VotingClassifier

from iris_api.compiling.proof import (
    CompileError,
    Precision,
    Reference,
    UnansweredError,
    consult,
    prove,
)
from iris_api.compiling.sampling import has_trees, parts_of, probe_rows, ranges_of
from iris_api.errors import one_line
from iris_api.model.engines import open_session
from iris_api.store.metadata import Proof
from iris_api.vetting.estimator import Vetted

# Fixed, so that a new skl2onnx does not write what an older onnxruntime cannot read. 3 is the last
# version of ai.onnx.ml with the tree operators that skl2onnx's converters write.
OPSETS = {"": 21, "ai.onnx.ml": 3}

# Characters of another library's message, which may go on for pages: the first sentence or two.
MESSAGE_LENGTH = 160

# Of the random rows, so that the same model has the same proof.
SEED = 0

_TENSORS = {"float64": DoubleTensorType, "float32": FloatTensorType}
_TYPES = {"float64": TensorProto.DOUBLE, "float32": TensorProto.FLOAT}


@dataclass(frozen=True)
class Compiled:
    """A classifier as ONNX, and why it may be trusted.

    Attributes:
        model: Serialized ONNX without external data. Input "rows": (n, 4) of ``proof.precision``,
            in cm, in the estimator's own order of features. Output "label": int64 (n,), indices
            into ``classes_``; and, if the estimator has ``predict_proba``, "probabilities": (n, k)
            of ``proof.precision``, in the order of ``classes_``.
        proof: What was compared with scikit-learn.
    """

    model: bytes
    proof: Proof


def compile_model(vetted: Vetted) -> Compiled:
    """Convert a classifier to ONNX, and prove that both answer the same.

    Returns:
        The same bytes for the same estimator and package versions. The estimator is left as it is.

    Raises:
        CompileError: it does not convert, does not run, or does not agree with scikit-learn.
        UnansweredError: as in `ask_scikit_learn`.
    """
    estimator = vetted.estimator
    classes = getattr(estimator, "classes_", None)
    if not isinstance(classes, np.ndarray) or classes.ndim != 1:
        raise CompileError("it has no single list of classes: not a fitted classifier of one label")
    reference = ask_scikit_learn(vetted)
    # scikit-learn's trees round the rows to float32 themselves, and so does the caller's cast. A
    # step before the trees works in float64, though; then only float64 rows can agree.
    order: tuple[Precision, ...] = ("float64", "float32")
    reasons: dict[str, str] = {}
    for precision in reversed(order) if has_trees(estimator) else order:
        try:
            return convert_and_prove(estimator, reference, precision)
        except CompileError as error:
            reasons.setdefault(str(error), precision)
    raise CompileError("; ".join(f"{reason} ({where})" for reason, where in reasons.items()))


def ask_scikit_learn(vetted: Vetted) -> Reference:
    """Return what scikit-learn itself answers to each row of the proof.

    Raises:
        UnansweredError: it fails for a row, or has no finite probabilities for it. Then there is
            nothing that could serve, compiled or not.
    """
    try:
        with _silence():
            return consult(
                vetted.estimator,
                probe_rows(
                    vetted.estimator,
                    ranges=ranges_of(vetted.profile, vetted.features),
                    examples=vetted.examples,
                    seed=SEED,
                ),
            )
    except UnansweredError:
        raise
    except Exception as error:
        # An estimator that was made for data frames, or for rows near its own, fails like any code.
        raise UnansweredError(_told(error)) from error


def convert_and_prove(
    estimator: ClassifierMixin, reference: Reference, precision: Precision
) -> Compiled:
    """Convert, load and prove in one precision."""
    with _reported("it does not convert"):
        model = _convert(estimator, precision)
    with _reported("it does not run"):
        return Compiled(model, prove(open_session(model), reference, precision))


@contextlib.contextmanager
def _reported(failure: str) -> Iterator[None]:
    """Turn whatever goes wrong into a reason, and keep what is printed and warned to itself."""
    try:
        with _silence():
            yield
    except CompileError:
        raise
    except Exception as error:
        # skl2onnx, onnx and onnxruntime share no base of errors; and a converter that does not fit
        # the estimator fails like any code: AttributeError, IndexError, and so on. Whatever it is,
        # the estimator itself is still there to serve.
        raise CompileError(f"{failure}: {_told(error)}") from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # Overflows far from the training data, feature names that an array does not have, and what
        # skl2onnx has to say about versions.
        warnings.simplefilter("ignore")
        yield


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error, MESSAGE_LENGTH)}"


def _convert(estimator: ClassifierMixin, precision: str) -> bytes:
    """Convert to a graph with our own names, types and shapes of input and outputs."""
    numbered = _prepare(estimator)
    model = to_onnx(
        numbered,
        initial_types=[("rows", _TENSORS[precision]([None, 4]))],
        target_opset=OPSETS,
    )
    # skl2onnx leaves out or lowers what its own nodes do not need.
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*opset) for opset in OPSETS.items())
    # Frees the names "label" and "probabilities".
    model = onnx.compose.add_prefix(model, "sklearn/", rename_inputs=False)
    if precision == "float64":
        _round_before_trees(model.graph)
    _set_outputs(
        model.graph,
        labels=numbered.classes_,
        classes=len(estimator.classes_) if hasattr(estimator, "predict_proba") else None,
        type_=_TYPES[precision],
    )
    return bytes(model.SerializeToString(deterministic=True))


def _prepare(estimator: ClassifierMixin) -> ClassifierMixin:
    """Copy an estimator, with the names of classes replaced by their indices in every part.

    Names would go through ONNX's strings, which are slow and which several converters get wrong.
    """
    classes = estimator.classes_
    numbered = copy.deepcopy(estimator)
    for part in parts_of(numbered):
        if isinstance(part, VotingClassifier):
            part.flatten_transform = False  # only transform() reads it, but the converter refuses
        for name in ("classes_", "classes", "y_"):
            held = vars(part).get(name)
            if _are_names(held) and _are_names(classes) and np.isin(held, classes).all():
                vars(part)[name] = np.searchsorted(classes, held).astype(np.int64)
    return numbered


def _are_names(classes: object) -> bool:
    """Tell whether these are labels other than numbers."""
    return isinstance(classes, np.ndarray) and classes.dtype.kind in "OSTU"


def _round_before_trees(graph: Any) -> None:
    """Round float64 to float32 in front of each tree, as scikit-learn does, and back behind it."""
    nodes = []
    for node in graph.node:
        if not node.op_type.startswith("TreeEnsemble"):
            nodes.append(node)
            continue
        rows, result = node.input[0], node.output[-1]
        node.input[0], node.output[-1] = f"{result}/rows", f"{result}/float32"
        nodes += [
            helper.make_node("Cast", [rows], [node.input[0]], to=TensorProto.FLOAT),
            node,
            helper.make_node("Cast", [node.output[-1]], [result], to=TensorProto.DOUBLE),
        ]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)


def _set_outputs(graph: Any, *, labels: NDArray[Any], classes: int | None, type_: int) -> None:
    """Make the outputs "label" and, for a number of classes, "probabilities".

    Converters have their own ideas of a label's shape, (1, n) or (n, 1), and type. ONNX Runtime
    drops the steps that change nothing.
    """
    label, probabilities = (output.name for output in graph.output)
    # A list of dictionaries instead of a tensor; the option against it is not for every estimator.
    for node in [node for node in graph.node if node.op_type == "ZipMap"]:
        probabilities = node.input[0]
        graph.node.remove(node)
    graph.initializer.append(helper.make_tensor("label/shape", TensorProto.INT64, [1], [-1]))
    graph.node.extend(
        [
            helper.make_node("Reshape", [label, "label/shape"], ["label/flat"]),
            helper.make_node("Cast", ["label/flat"], ["label/number"], to=TensorProto.INT64),
            helper.make_node(
                "LabelEncoder",
                ["label/number"],
                ["label"],
                domain="ai.onnx.ml",
                keys_int64s=labels.astype(np.int64),
                values_int64s=np.arange(len(labels)),
            ),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]))
    if classes is not None:
        graph.node.append(helper.make_node("Cast", [probabilities], ["probabilities"], to=type_))
        graph.output.append(helper.make_tensor_value_info("probabilities", type_, ["n", classes]))

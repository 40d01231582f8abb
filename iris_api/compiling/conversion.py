"""The conversion of a scikit-learn classifier to ONNX, with a proof that both answer the same."""

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

from iris_api.compiling import sampling
from iris_api.compiling.converters.graph import NoConverterError
from iris_api.compiling.converters.registry import convert, why_not
from iris_api.compiling.proof import CompileError, Precision, Reference, UnansweredError, ask, prove
from iris_api.errors import IrisError, one_line
from iris_api.model.engines import open_session
from iris_api.store.metadata import Proof
from iris_api.vetting.estimator import Vetted

OPSETS = {"": 21, "ai.onnx.ml": 3}
"""Versions of ONNX's operators, fixed so that each supported onnxruntime can read them.

3 is the last version of ai.onnx.ml with the tree operators that skl2onnx's converters write.
"""

MESSAGE_LENGTH = 160
"""Characters of another library's message, which can be pages: the first sentence or two."""

SEED = 0
"""Seed of the random rows, fixed so that the same model has the same proof."""

_TYPES = {
    "float64": (DoubleTensorType, TensorProto.DOUBLE),
    "float32": (FloatTensorType, TensorProto.FLOAT),
}


@dataclass(frozen=True)
class Compiled:
    """A classifier as ONNX, with the proof that it answers as scikit-learn does.

    Attributes:
        model: serialized ONNX without external data. Input "rows": (n, 4) of `proof.precision`, in
            cm, in the estimator's order of features. Output "label": int64 (n,), indices into
            `classes_`. Output "probabilities", if the estimator has `predict_proba`: (n, k) of
            `proof.precision`, in the order of `classes_`.
        proof: what was compared with scikit-learn.
    """

    model: bytes
    proof: Proof


def compile_model(vetted: Vetted) -> Compiled:
    """Convert a classifier to ONNX, and prove that both answer the same.

    The same estimator and package versions give the same bytes. The estimator is not changed.

    Raises:
        CompileError: it does not convert, does not run, or does not agree with scikit-learn.
        UnansweredError: as `ask_scikit_learn` does.
    """
    estimator, reference = vetted.estimator, ask_scikit_learn(vetted)
    # Trees in float32 are another model, and skl2onnx's operators for them are deprecated.
    trees = sampling.has_trees(estimator)
    order: tuple[Precision, ...] = ("float64",) if trees else ("float64", "float32")
    reasons = []
    for precision in order:
        try:
            return convert_and_prove(estimator, reference, precision)
        except NoConverterError as error:
            reasons.append(str(error))
        except CompileError as error:
            reasons.append(f"{why_not(estimator)}: {error}")
    raise CompileError(reasons[0])


def ask_scikit_learn(vetted: Vetted) -> Reference:
    """Return what scikit-learn answers to each row of the proof.

    Raises:
        UnansweredError: it fails for a row, or returns no finite probabilities for it. Such a model
            cannot be served, compiled or not.
    """
    estimator = vetted.estimator
    ranges = sampling.ranges_of(vetted.profile, vetted.features)
    # An estimator for data frames, or for rows near its own, can raise anything.
    with _errors_as(UnansweredError):
        return ask(estimator, sampling.sample_rows(estimator, ranges, vetted.examples, SEED))


def convert_and_prove(
    estimator: ClassifierMixin, reference: Reference, precision: Precision
) -> Compiled:
    """Convert, load and prove in one precision, or raise a CompileError or NoConverterError."""
    # skl2onnx, onnx and onnxruntime share no base class of errors, and a converter that does not
    # fit the estimator can raise anything. The estimator itself can still be served.
    with _errors_as(CompileError, "it does not convert: "):
        model = _convert(estimator, precision)
    with _errors_as(CompileError, "it does not run: "):
        return Compiled(model, prove(open_session(model), reference, precision))


@contextlib.contextmanager
def _errors_as(kind: type[IrisError], prefix: str = "") -> Iterator[None]:
    """Raise other errors as one of ours, and suppress warnings and standard output."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            # Overflows far from the training data, missing feature names, versions of skl2onnx.
            warnings.simplefilter("ignore")
            yield
    except IrisError:
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {one_line(error, MESSAGE_LENGTH)}"
        raise kind(prefix + message) from error


def _convert(estimator: ClassifierMixin, precision: Precision) -> bytes:
    """Convert to a graph with our names, types and shapes of input and outputs."""
    if precision == "float64":
        return bytes(convert(estimator).SerializeToString(deterministic=True))
    tensor, type_ = _TYPES[precision]
    numbered = _number_classes(estimator)
    model = to_onnx(numbered, initial_types=[("rows", tensor([None, 4]))], target_opset=OPSETS)
    # skl2onnx omits or lowers the versions that its own nodes do not need.
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*opset) for opset in OPSETS.items())
    # The prefix makes the names "label" and "probabilities" available.
    model = onnx.compose.add_prefix(model, "sklearn/", rename_inputs=False)
    _set_outputs(
        model.graph, numbered.classes_, type_, probabilities=hasattr(estimator, "predict_proba")
    )
    return bytes(model.SerializeToString(deterministic=True))


def _number_classes(estimator: ClassifierMixin) -> ClassifierMixin:
    """Copy an estimator, with the names of classes replaced by their indices in every part.

    ONNX's strings are slow, and several converters get them wrong.
    """
    classes = estimator.classes_
    numbered = copy.deepcopy(estimator)
    for part in sampling.parts_of(numbered):
        if isinstance(part, VotingClassifier):
            part.flatten_transform = False  # transform() alone reads it; the converter rejects True
        for name in ("classes_", "classes", "y_"):
            found = vars(part).get(name)
            if _are_names(found) and _are_names(classes) and np.isin(found, classes).all():
                vars(part)[name] = np.searchsorted(classes, found).astype(np.int64)
    return numbered


def _are_names(classes: object) -> bool:
    return isinstance(classes, np.ndarray) and classes.dtype.kind in "OSTU"


def _set_outputs(graph: Any, labels: NDArray[Any], type_: int, *, probabilities: bool) -> None:
    """Replace the outputs by "label" and, for an estimator that has them, "probabilities".

    Converters differ in the shape of a label, (1, n) or (n, 1), and in its type. ONNX Runtime
    removes the steps that change nothing.
    """
    label, scores = (output.name for output in graph.output)
    # ZipMap makes a list of dictionaries; not every converter has the option to leave it out.
    for zipmap in [node for node in graph.node if node.op_type == "ZipMap"]:
        scores = zipmap.input[0]
        graph.node.remove(zipmap)
    node = helper.make_node
    pairs: Any = {"keys_int64s": labels.astype(np.int64), "values_int64s": np.arange(len(labels))}
    graph.initializer.append(helper.make_tensor("label/shape", TensorProto.INT64, [1], [-1]))
    graph.node.append(node("Reshape", [label, "label/shape"], ["label/flat"]))
    graph.node.append(node("Cast", ["label/flat"], ["label/number"], to=TensorProto.INT64))
    graph.node.append(
        node("LabelEncoder", ["label/number"], ["label"], domain="ai.onnx.ml", **pairs)
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]))
    if probabilities:
        shape: list[str | int | None] = ["n", len(labels)]
        graph.node.append(node("Cast", [scores], ["probabilities"], to=type_))
        graph.output.append(helper.make_tensor_value_info("probabilities", type_, shape))

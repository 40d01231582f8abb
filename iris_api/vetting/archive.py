"""The skops archive: what it may contain, checked before anything in it is constructed."""

import io
import json
import stat
import zipfile
from typing import Any

import skops.io

from iris_api.errors import one_line
from iris_api.vetting.mlmodel import MAXIMUM_BYTES, VettingError, shorten

MAXIMUM_SCHEMA_BYTES = 64 * 1024 * 1024
"""Largest `schema.json`, in bytes; parsed, it takes about ten times as much memory."""

MAXIMUM_MEMBERS = 100_000
"""Most members of an archive; each tree of a forest has about four."""

TRUSTED_TYPES = frozenset(
    {
        # Compiled types, whose __setstate__ fills them from typed arrays and numbers and calls no
        # Python code. `integrity.check` checks the indices in those arrays before any prediction.
        "sklearn.tree._tree.Tree",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        # Compiled as well: a number, a vector and a matrix. PyFuncDistance64 is left out, because
        # it stores a function and calls it.
        "sklearn.metrics._dist_metrics.ChebyshevDistance64",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._dist_metrics.ManhattanDistance64",
        "sklearn.metrics._dist_metrics.MinkowskiDistance64",
        # __setstate__ fills __dict__ and casts `nodes` to the record type; indices as above.
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        # A dict whose __setstate__ does nothing and whose __setattr__ sets an item. Deprecated keys
        # only print the warnings that the file itself contains.
        "sklearn.utils._bunch.Bunch",
        # Plain objects without __setstate__ or __setattr__, so that opening them fills __dict__.
        # Their methods compute with numpy, and call fitted estimators of the same archive, which
        # are checked against the same list.
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.multiclass._ConstantPredictor",
        # Kernels: plain objects, arithmetic on arrays. PairwiseKernel is left out, because its
        # metric may be a function.
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.DotProduct",
        "sklearn.gaussian_process.kernels.Exponentiation",
        "sklearn.gaussian_process.kernels.Matern",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.gaussian_process.kernels.RationalQuadratic",
        "sklearn.gaussian_process.kernels.Sum",
        "sklearn.gaussian_process.kernels.WhiteKernel",
        # Plain objects left over from training; no prediction calls them.
        "sklearn.metrics._scorer._PassthroughScorer",
        "sklearn.metrics._scorer._Scorer",
        "sklearn.model_selection._split.KFold",
        "sklearn.model_selection._split.StratifiedKFold",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        # Functions, which skops looks up and does not call. Each is arithmetic on arrays, wherever
        # it may be called, such as in a FunctionTransformer.
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.metrics._classification.accuracy_score",
    }
)
"""Exact names of the types that may be opened beyond those that skops trusts by itself.

skops trusts the public estimators of scikit-learn, whose own __setstate__ only checks a version,
numpy's arrays (read without pickle), scalars and ufuncs, and containers.
"""

NODE_TYPES: dict[str, frozenset[str] | None] = {
    # skops calls the type of a container with arguments from the file, and accepts each trusted
    # type there. So containers must be of their own types.
    "DictNode": frozenset(
        {"builtins.dict", "collections.OrderedDict", "sklearn.utils._bunch.Bunch"}
    ),
    "ListNode": frozenset({"builtins.list"}),
    "TupleNode": frozenset({"builtins.tuple"}),
    "SetNode": frozenset({"builtins.set"}),
    "SliceNode": frozenset({"builtins.slice"}),
    "RandomStateNode": frozenset({"numpy.random.mtrand.RandomState"}),
    "RandomGeneratorNode": frozenset({"numpy.random._generator.Generator"}),
    "TreeNode": frozenset({"sklearn.tree._tree.Tree"}),
    # skops itself checks the types of these nodes, and does not call what they name.
    **dict.fromkeys(("FunctionNode", "JsonNode", "LossNode", "MaskedArrayNode"), None),
    **dict.fromkeys(("NdArrayNode", "ObjectNode", "TypeNode"), None),
}
"""The kinds of skops nodes that a classifier needs, and the types that each may construct.

Left out: OperatorFuncNode, PartialNode, MethodNode and ConstructorFromReduceNode, which call or
bind what the file names; SparseMatrixNode, an archive inside the archive, beyond the limits of
size; CachedNode, which skops does not write.
"""


def open_archive(data: bytes) -> Any:
    """Construct the object in a skops archive, once its members and its types are checked."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_members(archive.infolist())
            schema = json.loads(archive.read("schema.json"))
        untrusted: set[str] = set()
        _check_nodes(schema, {}, untrusted)
        _check_types(untrusted)
        _check_types(set(skops.io.get_untrusted_types(data=data)) - TRUSTED_TYPES)
        return skops.io.loads(data, trusted=sorted(TRUSTED_TYPES))
    except VettingError:
        raise
    except Exception as error:
        # A crafted file goes through zipfile, zlib, json, skops and the __setstate__ of dozens of
        # classes, compiled ones too. Whatever they raise means that it is not a model.
        raise VettingError(
            f"the model file is not a sound skops archive ({type(error).__name__}: "
            f"{one_line(error)}); log and register the model again"
        ) from error


def _check_types(untrusted: set[str]) -> None:
    if untrusted:
        raise VettingError(
            f"the model asks for types that are not trusted: {shorten(sorted(untrusted), 200)}; "
            "train it with scikit-learn's own classifiers and transformers, without own functions"
        )


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    """Reject an archive that unpacks to too much, or that two readers could read differently."""
    if len(members) > MAXIMUM_MEMBERS or sum(m.file_size for m in members) > MAXIMUM_BYTES:
        raise VettingError(
            f"the model file unpacks to more than {MAXIMUM_BYTES >> 20} MiB or "
            f"{MAXIMUM_MEMBERS} members; register a smaller model"
        )
    if len({m.filename for m in members}) != len(members):
        raise VettingError("the model file has a member twice; log and register the model again")
    for member in members:
        if member.filename == "schema.json" and member.file_size > MAXIMUM_SCHEMA_BYTES:
            raise VettingError(
                f"the model's schema is larger than {MAXIMUM_SCHEMA_BYTES >> 20} MiB; "
                "register a smaller model"
            )
        mode = stat.S_IFMT(member.external_attr >> 16)
        # Other compression methods unpack more bytes than the directory of the archive says.
        plain = member.compress_type in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
        if mode not in {0, stat.S_IFREG} or not plain or member.flag_bits & 1:
            raise VettingError(
                f"the model file has a member that is not a plain file: "
                f"{one_line(member.filename)}; log and register the model again"
            )


def _check_nodes(part: Any, known: dict[Any, tuple[int, Any]], untrusted: set[str]) -> int:
    """Count the nodes below a part of the schema, and collect those of other kinds or types.

    skops replaces a node by the first one of the same id, and audits it again in each place. A few
    short references could so stand for 2^40 nodes, or for another value than the one that is
    checked here. Archives that skops wrote repeat each node in full, so repeated ids must agree.
    """
    if isinstance(part, list):
        return sum(_check_nodes(item, known, untrusted) for item in part)
    if not isinstance(part, dict):
        return 0
    size = 1 + sum(_check_nodes(item, known, untrusted) for item in part.values())
    loader, identity = part.get("__loader__"), part.get("__id__")
    if isinstance(loader, str):
        name = f"{part['__module__']}.{part['__class__']}"
        allowed = NODE_TYPES.get(loader, frozenset())
        if allowed is not None and name not in allowed:
            untrusted.add(f"{name} as {loader}")
    if isinstance(identity, int):
        content = size, {key: value for key, value in part.items() if isinstance(value, str)}
        if not isinstance(loader, str) or known.setdefault(identity, content) != content:
            raise ValueError("two different objects have the same id")
    return size

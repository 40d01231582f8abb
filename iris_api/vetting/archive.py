"""The skops archive: what it may contain, decided before anything in it is constructed."""

import io
import json
import stat
import zipfile
from typing import Any

import skops.io

from iris_api.errors import one_line
from iris_api.vetting.mlmodel import MAXIMUM_BYTES, VettingError

MAXIMUM_SCHEMA_BYTES = 64 * 1024 * 1024
"""Largest `schema.json`, in bytes: parsed, it takes about ten times as much memory."""

MAXIMUM_MEMBERS = 100_000
"""Most members of an archive; a tree of a forest brings about four."""

TRUSTED_TYPES = frozenset(
    {
        # Compiled, filled by __setstate__ from typed arrays and numbers, no Python callback. They
        # do not check the indices in those arrays; `structure.check` does, before any prediction.
        "sklearn.tree._tree.Tree",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        # The same for distances: a number, a vector and a matrix. PyFuncDistance64 is left out,
        # because it holds a function and calls it.
        "sklearn.metrics._dist_metrics.ChebyshevDistance64",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._dist_metrics.ManhattanDistance64",
        "sklearn.metrics._dist_metrics.MinkowskiDistance64",
        # __setstate__ fills __dict__ and casts `nodes` to the record type; indices as above.
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        # A dict whose __setstate__ does nothing and whose __setattr__ sets an item; it looks up
        # no deprecated key unless the file brings a dict with warnings in it, which it only prints.
        "sklearn.utils._bunch.Bunch",
        # Plain objects: no __setstate__ or __setattr__ of their own, so opening fills __dict__.
        # Their methods compute with numpy on what is there, and call fitted estimators of the
        # same file, which have passed the same list.
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.multiclass._ConstantPredictor",
        # Kernels, as plain: arithmetic on arrays. PairwiseKernel is left out, because its metric
        # may be a function.
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.DotProduct",
        "sklearn.gaussian_process.kernels.Exponentiation",
        "sklearn.gaussian_process.kernels.Matern",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.gaussian_process.kernels.RationalQuadratic",
        "sklearn.gaussian_process.kernels.Sum",
        "sklearn.gaussian_process.kernels.WhiteKernel",
        # Left over from training, as plain; no prediction calls them.
        "sklearn.metrics._scorer._PassthroughScorer",
        "sklearn.metrics._scorer._Scorer",
        "sklearn.model_selection._split.KFold",
        "sklearn.model_selection._split.StratifiedKFold",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        # Functions, referred to and not called: skops looks the name up. Each is pure arithmetic
        # on arrays if something does call it, say as the function of a FunctionTransformer.
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.metrics._classification.accuracy_score",
    }
)
"""What may be opened beyond what skops trusts by itself; exact names only.

skops trusts the public estimators of scikit-learn, whose only own __setstate__ checks a version,
numpy's arrays (read without pickle), scalars and ufuncs, and containers.
"""

LOADERS: dict[str, frozenset[str] | None] = {
    # skops calls the constructor of a container's type with arguments of the file's choice, and a
    # name on the list above is trusted in every place; so containers are held to their own types.
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
    # Held to a type by skops, or to the names it trusts; none of them calls what it names.
    "FunctionNode": None,
    "JsonNode": None,
    "LossNode": None,
    "MaskedArrayNode": None,
    "NdArrayNode": None,
    "ObjectNode": None,
    "TypeNode": None,
}
"""The kinds of skops node that a classifier needs, and the types that they may be of.

Not here: OperatorFuncNode, PartialNode, MethodNode and ConstructorFromReduceNode, which call or
bind what the file names; SparseMatrixNode, an archive in the archive that would escape the limit
of size; CachedNode, which skops does not write.
"""


def open_archive(data: bytes) -> Any:
    """Construct the object in a skops archive.

    Args:
        data: The file, read once: what is checked is what is opened.

    Raises:
        VettingError: it is not a skops archive, it is too large, or it asks for something that is
            not trusted; nothing in it has been constructed.
    """
    try:
        _check_members(data)
        _check_nodes(data)
        if foreign := set(skops.io.get_untrusted_types(data=data)) - TRUSTED_TYPES:
            _refuse_types(sorted(foreign))
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


def _refuse_types(names: list[str]) -> None:
    shown = ", ".join(one_line(name) for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    raise VettingError(
        f"the model asks for types that are not trusted: {shown}{more}; "
        "train it with scikit-learn's own classifiers and transformers, without own functions"
    )


def _check_members(data: bytes) -> None:
    """Refuse an archive that unpacks to too much, or that two readers could read differently."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
    if len(members) > MAXIMUM_MEMBERS or sum(m.file_size for m in members) > MAXIMUM_BYTES:
        raise VettingError(
            f"the model file unpacks to more than {MAXIMUM_BYTES >> 20} MiB or "
            f"{MAXIMUM_MEMBERS} members; register a smaller model"
        )
    if len({m.filename for m in members}) != len(members):
        raise VettingError("the model file has a member twice; log and register the model again")
    for member in members:
        mode = stat.S_IFMT(member.external_attr >> 16)
        # Other compressions unpack without heeding the size that the directory promises.
        plain = member.compress_type in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
        if mode not in {0, stat.S_IFREG} or not plain or member.flag_bits & 1:
            raise VettingError(
                f"the model file has a member that is no plain file: "
                f"{one_line(member.filename)}; log and register the model again"
            )


def _check_nodes(data: bytes) -> None:
    """Refuse nodes that skops would audit too kindly or for too long."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if archive.getinfo("schema.json").file_size > MAXIMUM_SCHEMA_BYTES:
            raise VettingError(
                f"the model's schema is larger than {MAXIMUM_SCHEMA_BYTES >> 20} MiB; "
                "register a smaller model"
            )
        schema = json.loads(archive.read("schema.json"))
    foreign: set[str] = set()
    _measure(schema, {}, foreign)
    if foreign:
        _refuse_types(sorted(foreign))


def _measure(part: Any, known: dict[Any, tuple[int, Any]], foreign: set[str]) -> int:
    """Count the nodes below a part of the schema, and collect the ones that are not allowed.

    skops takes a node whose id it has seen for the first one of that id, and audits it again in
    each place. A few short references could so stand for 2^40 nodes, or for another value than
    the one that is checked here. Archives that skops wrote repeat the node in full, so repeated
    ids have to agree.
    """
    if isinstance(part, list):
        return sum(_measure(item, known, foreign) for item in part)
    if not isinstance(part, dict):
        return 0
    size = 1 + sum(_measure(item, known, foreign) for item in part.values())
    is_node = isinstance(part.get("__loader__"), str)
    identity = part.get("__id__")
    if is_node:
        loader, name = part["__loader__"], f"{part['__module__']}.{part['__class__']}"
        allowed = LOADERS.get(loader, frozenset())
        if allowed is not None and name not in allowed:
            foreign.add(f"{name} as {loader}")
    if isinstance(identity, int):
        scalars = {key: value for key, value in part.items() if isinstance(value, str)}
        if not is_node or known.setdefault(identity, (size, scalars)) != (size, scalars):
            raise ValueError("two different objects have the same id")
    return size

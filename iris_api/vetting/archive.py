"""The skops archive: what it may contain, checked before anything in it is constructed."""

import io
import json
import stat
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import skops.io
from skops.io._sklearn import ALLOWED_LOSSES

from iris_api.errors import one_line
from iris_api.vetting.mlmodel import MAXIMUM_BYTES, VettingError, shorten

MAXIMUM_SCHEMA_BYTES = 64 * 1024 * 1024
"""Largest `schema.json`, in bytes: that of a forest of 4400 trees."""

MAXIMUM_VALUES = 2_000_000
"""Most values in `schema.json`; each takes up to 150 bytes once it is parsed."""

MAXIMUM_MEMBERS = 100_000
"""Most members of an archive; each tree of a forest has about five."""

DIRECTORY_ENTRY = b"PK\x01\x02"
"""The beginning of each entry in the directory of an archive."""

_REVIEWED = {
    # Compiled types, whose __setstate__ fills them from typed arrays and numbers and calls no
    # Python code. `integrity.check` checks the indices in those arrays before any prediction.
    "sklearn.tree._tree": "Tree",
    "sklearn.neighbors._ball_tree": "BallTree",
    "sklearn.neighbors._kd_tree": "KDTree",
    # Compiled as well: a number, a vector and a matrix. PyFuncDistance64 is left out, because it
    # stores a function and calls it.
    "sklearn.metrics._dist_metrics": "ChebyshevDistance64 EuclideanDistance64 ManhattanDistance64 "
    "MinkowskiDistance64",
    # __setstate__ fills __dict__ and casts `nodes` to the record type; indices as above.
    "sklearn.ensemble._hist_gradient_boosting.predictor": "TreePredictor",
    # A plain object with knots and coefficients for compiled code, which `integrity.check` checks.
    "scipy.interpolate._bsplines": "BSpline",
    # A dict whose __setstate__ does nothing and whose __setattr__ sets an item. Deprecated keys
    # only print the warnings that the file itself contains.
    "sklearn.utils._bunch": "Bunch",
    # A function with arguments, which histogram boosting of categories has; `integrity.check`
    # accepts no other than that.
    "functools": "partial",
    # Plain objects without __setstate__ or __setattr__, so that opening them fills __dict__. Their
    # methods compute with numpy, and call fitted estimators of the same archive, which are checked
    # against the same list.
    "sklearn._loss.loss": "HalfTweedieLoss HalfTweedieLossIdentity",
    "sklearn.calibration": "_CalibratedClassifier _SigmoidCalibration _TemperatureScaling",
    "sklearn.gaussian_process._gpc": "_BinaryGaussianProcessClassifierLaplace",
    "sklearn.impute._iterative": "IterativeImputer _ImputerTriplet",
    "sklearn.model_selection._search_successive_halving": "HalvingGridSearchCV "
    "HalvingRandomSearchCV",
    "sklearn.multiclass": "_ConstantPredictor",
    # Kernels: plain objects, arithmetic on arrays. PairwiseKernel is left out, because its metric
    # may be a function.
    "sklearn.gaussian_process.kernels": "ConstantKernel DotProduct ExpSineSquared Exponentiation "
    "Matern Product RBF RationalQuadratic Sum WhiteKernel",
    # Plain objects left over from training. No prediction calls them, save that a tuned threshold
    # asks a `_CurveScorer` which label counts. The distributions of a random search are left out:
    # scipy executes text from their state.
    "sklearn.callback._progressbar": "ProgressBar",
    "sklearn.compose._column_transformer": "make_column_selector",
    "sklearn.metrics._scorer": "_CurveScorer _PassthroughScorer _Scorer",
    "sklearn.model_selection._split": "GroupKFold GroupShuffleSplit KFold LeaveOneGroupOut "
    "LeaveOneOut LeavePGroupsOut LeavePOut PredefinedSplit RepeatedKFold RepeatedStratifiedKFold "
    "ShuffleSplit StratifiedGroupKFold StratifiedKFold StratifiedShuffleSplit TimeSeriesSplit",
    "sklearn.neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
    "sklearn.utils._metadata_requests": "MetadataRequest MethodMetadataRequest",
    # The type of an array, which skops reads from an empty array in numpy's own format. Without
    # arguments, as skops makes other objects, there is none; nor is there any number of the type
    # `number`. `make_column_selector` names `number` and `object`.
    "builtins": "object",
    "numpy": "dtype number",
    # Functions, which skops looks up and does not call. Each is arithmetic on arrays, wherever it
    # may be called, such as in a FunctionTransformer, and writes into no array of the model.
    "scipy._lib.array_api_compat.numpy._aliases": "asarray",
    "sklearn.utils.validation": "check_array",
    "sklearn.feature_selection._mutual_info": "mutual_info_classif mutual_info_regression",
    "sklearn.feature_selection._univariate_selection": "chi2 f_classif f_regression r_regression",
    "sklearn.metrics._classification": "accuracy_score balanced_accuracy_score brier_score_loss "
    "cohen_kappa_score d2_brier_score d2_log_loss_score f1_score fbeta_score jaccard_score "
    "log_loss matthews_corrcoef precision_score recall_score",
    "sklearn.metrics._ranking": "average_precision_score roc_auc_score top_k_accuracy_score",
    "sklearn.metrics._regression": "d2_absolute_error_score explained_variance_score max_error "
    "mean_absolute_error mean_absolute_percentage_error mean_gamma_deviance mean_pinball_loss "
    "mean_poisson_deviance mean_squared_error mean_squared_log_error median_absolute_error "
    "r2_score root_mean_squared_error root_mean_squared_log_error",
}

TRUSTED_TYPES = frozenset(
    f"{module}.{name}" for module, names in _REVIEWED.items() for name in names.split()
)
"""Exact names of the types that may be opened beyond those that skops trusts by itself.

skops trusts the public estimators of scikit-learn, whose own __setstate__ only checks a version,
numpy's arrays (read without pickle), scalars and ufuncs, and containers.
"""

TOO_MUCH = (
    f"the model file unpacks to more than {MAXIMUM_BYTES >> 20} MiB or {MAXIMUM_MEMBERS} members; "
    "register a smaller model"
)

NODE_TYPES: dict[str, frozenset[str] | None] = {
    # skops calls the type of a container, an array or a loss with arguments from the file, and
    # accepts each trusted type there. So they must be of their own types.
    "DictNode": frozenset(
        {"builtins.dict", "collections.OrderedDict", "sklearn.utils._bunch.Bunch"}
    ),
    "ListNode": frozenset({"builtins.list"}),
    "DTypeNode": frozenset({"numpy.dtype"}),
    "PartialNode": frozenset({"functools.partial"}),
    "TupleNode": frozenset({"builtins.tuple", "sklearn.impute._iterative._ImputerTriplet"}),
    "SetNode": frozenset({"builtins.set"}),
    "SliceNode": frozenset({"builtins.slice"}),
    "RandomStateNode": frozenset({"numpy.random.mtrand.RandomState"}),
    "RandomGeneratorNode": frozenset({"numpy.random._generator.Generator"}),
    "TreeNode": frozenset({"sklearn.tree._tree.Tree"}),
    # numpy's scalars as well; but a void of an integer is memory of that size.
    "NdArrayNode": frozenset(
        {"numpy.ndarray", *(f"numpy.{each.__name__}" for each in np.sctypeDict.values())}
        - {"numpy.void"}
    ),
    "LossNode": frozenset(f"{each.__module__}.{each.__name__}" for each in ALLOWED_LOSSES),
    # skops itself checks the types of these nodes, and does not call what they name.
    **dict.fromkeys(("FunctionNode", "JsonNode", "MaskedArrayNode", "ObjectNode"), None),
    "TypeNode": None,
}
"""The kinds of skops nodes that an estimator needs, and the types that each may construct.

Left out: OperatorFuncNode, MethodNode and ConstructorFromReduceNode, which call or bind what the
file names; SparseMatrixNode, an archive inside the archive, beyond the limits of
size; CachedNode, which skops does not write.
"""


def open_archive(data: bytes) -> Any:
    """Construct the object in a skops archive, once its members and its types are checked."""
    try:
        _check_schema(data)
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


def _check_schema(data: bytes) -> None:
    """Reject an archive that asks for too much or for other kinds of nodes, before skops reads it.

    Nothing is kept in memory, because skops reads all of it again.
    """
    if data.count(DIRECTORY_ENTRY) > MAXIMUM_MEMBERS:
        raise VettingError(TOO_MUCH)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sizes = _check_members(archive.infolist())
        schema = archive.read("schema.json")
    if sum(map(schema.count, b"[{,")) > MAXIMUM_VALUES:
        raise VettingError(
            f"the model's schema has more than {MAXIMUM_VALUES} values; register a smaller model"
        )
    nodes = _Nodes(sizes)
    nodes.check(json.loads(schema))
    if nodes.bytes_read > MAXIMUM_BYTES:
        raise VettingError(TOO_MUCH)
    _check_types(nodes.untrusted)


def _check_types(untrusted: set[str]) -> None:
    if untrusted:
        raise VettingError(
            f"the model asks for types that are not trusted: {shorten(sorted(untrusted), 200)}; "
            "train it with scikit-learn's own estimators, without own functions, unusual metrics "
            "or sparse matrices, and log only what predicts: of a search its "
            "best_estimator_, without callbacks"
        )


def _check_members(members: list[zipfile.ZipInfo]) -> dict[str, int]:
    """Return the size of each member, in bytes.

    An archive is rejected that unpacks to too much, or that two readers could read differently.
    """
    sizes = {member.filename: member.file_size for member in members}
    if sum(member.file_size for member in members) > MAXIMUM_BYTES:
        raise VettingError(TOO_MUCH)
    if len(sizes) != len(members):
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
    return sizes


class _Nodes:
    """The nodes of a schema, checked before skops makes objects of them.

    skops replaces a node by the first one of the same id, and audits it again in each place. A few
    short references could so stand for 2^40 nodes, or for another value than the one that is
    checked here. Archives that skops wrote repeat each node in full, so repeated ids must agree.

    Attributes:
        untrusted: Kinds and types of nodes that are not on the list.
        bytes_read: What skops reads for all nodes together, in bytes: several may name a member.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._known: dict[Any, tuple[int, dict[str, str]]] = {}
        self.untrusted: set[str] = set()
        self.bytes_read = 0

    def check(self, part: Any) -> int:
        """Count the nodes below a part of the schema, and check each."""
        if isinstance(part, list):
            return sum(map(self.check, part))
        if not isinstance(part, dict):
            return 0
        size = 1 + sum(map(self.check, part.values()))
        loader, identity, file = (part.get(key) for key in ("__loader__", "__id__", "file"))
        if isinstance(loader, str):
            name = f"{part['__module__']}.{part['__class__']}"
            allowed = NODE_TYPES.get(loader, frozenset())
            if allowed is not None and name not in allowed:
                self.untrusted.add(f"{name} as {loader}")
        # skops reads the member of a node without an id each time.
        if isinstance(file, str) and not (identity and identity in self._known):
            self.bytes_read += self._sizes.get(file, 0)
        if identity is not None:  # of any type: 1, 1.0 and true are the same
            content = size, {key: value for key, value in part.items() if isinstance(value, str)}
            if not isinstance(loader, str) or self._known.setdefault(identity, content) != content:
                raise ValueError("two different objects have the same id")
        return size

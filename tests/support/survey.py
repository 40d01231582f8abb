"""The table of scikit-learn's estimators in docs/estimators.md: how each of them is served.

Run it as `PYTHONPATH=tests python -m support.survey [KIND ...]` to write the tables again.
"""

import inspect
import sys
import tempfile
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from sklearn import (
    impute,
    linear_model,
    naive_bayes,
    neighbors,
    preprocessing,
    semi_supervised,
)
from sklearn.base import ClassifierMixin, OutlierMixin, RegressorMixin
from sklearn.datasets import load_diabetes, load_iris
from sklearn.experimental import enable_halving_search_cv, enable_iterative_imputer  # noqa: F401
from sklearn.pipeline import make_pipeline
from sklearn.utils import all_estimators

from iris_api.compiling.conversion import compile_model
from iris_api.compiling.proof import CompileError
from iris_api.errors import IrisError
from iris_api.vetting.estimator import vet
from iris_api.vetting.training_profile import FILE_NAME, TrainingProfile
from support.saved_models import Copy, copier, save
from support.servers import ROOT

PAGE = ROOT / "docs" / "estimators.md"

KINDS = ("classifier", "regressor", "transformer")

HEAD = "| estimator | served by | |\n|---|---|---|\n"

MEANINGS = {True: "compiled model", False: "scikit-learn", None: "no"}

IRISES = load_iris()
DIABETES = load_diabetes()
TWO = np.where(IRISES.target == 1, "versicolor", "other")
RANGES = {"classifier": (0.0, 8.0), "regressor": (-1.0, 1.0), "transformer": (0.0, 8.0)}
"""Ranges of the columns of the irises, in cm, and of the diabetes table, which is standardized."""


def _line(kind: str = "classifier") -> Any:
    return (
        linear_model.Ridge()
        if kind == "regressor"
        else linear_model.LogisticRegression(max_iter=300)
    )


GIVEN: dict[str, tuple[Any, str]] = {
    "RadiusNeighborsClassifier": (
        neighbors.RadiusNeighborsClassifier(outlier_label="most_frequent"),
        "with `outlier_label`; a row without neighbours has no answer otherwise",
    ),
    "RadiusNeighborsRegressor": (
        neighbors.RadiusNeighborsRegressor(radius=10.0),
        "with a `radius` beyond the ranges; a row without neighbours has no answer otherwise",
    ),
    "LabelPropagation": (
        semi_supervised.LabelPropagation(kernel="knn"),
        '`kernel="knn"`; rows far from all others have no answer otherwise',
    ),
    "LabelSpreading": (
        semi_supervised.LabelSpreading(kernel="knn"),
        '`kernel="knn"`; rows far from all others have no answer otherwise',
    ),
    "CategoricalNB": (
        naive_bayes.CategoricalNB(min_categories=9),
        "with `min_categories`, and a range of the columns, which whole numbers from 0 are in",
    ),
    "SelfTrainingClassifier": (semi_supervised.SelfTrainingClassifier(_line()), ""),
    "OneHotEncoder": (
        preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False),
        'with `handle_unknown="ignore"` and `sparse_output=False`',
    ),
    "OrdinalEncoder": (
        preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        "with an `unknown_value`",
    ),
    "MissingIndicator": (impute.MissingIndicator(features="all"), 'with `features="all"`'),
    "IterativeImputer": (impute.IterativeImputer(max_iter=2), ""),
}
"""Parameters of estimators that cannot be fitted, or cannot answer all rows, without them."""

LEFT_OUT = {
    "for several outputs": "ClassifierChain MultiOutputClassifier MultiOutputRegressor "
    "MultiTaskElasticNet MultiTaskElasticNetCV MultiTaskLasso MultiTaskLassoCV RegressorChain",
    "for texts, images or dictionaries": "DictVectorizer FeatureHasher HashingVectorizer "
    "PatchExtractor",
    "for labels": "LabelBinarizer LabelEncoder MultiLabelBinarizer",
    "for thousands of columns": "GaussianRandomProjection SparseRandomProjection",
    "skops cannot save it": "Birch",
    "for a matrix of kernels": "KernelCenterer",
    "for targets of several columns": "CCA PLSCanonical PLSSVD",
    "for a single column": "IsotonicRegression",
}
"""Estimators that are for other data than a table of numbers with one label a row."""


REJECTED = (
    ("the model asks for types", "it keeps objects of types that are not reviewed"),
    ("the model does not answer a row", "scikit-learn fails for a single row"),
    ("scikit-learn itself does not answer", "scikit-learn fails for some rows"),
)
"""The meaning for an estimator of each beginning of an import's messages."""


@dataclass(frozen=True)
class Served:
    """How an estimator is served; `compiled` is None for one that is not imported."""

    name: str
    compiled: bool | None
    reason: str

    def __str__(self) -> str:
        return f"| `{self.name}` | {MEANINGS[self.compiled]} | {self.reason} |"


def names(kind: str) -> list[str]:
    """Return the names of the estimators of a kind: "classifier", "regressor" or "transformer"."""
    others = (ClassifierMixin, RegressorMixin, OutlierMixin)
    return [
        name
        for name, each in all_estimators(kind)
        # What transforms as well, such as a vote, is in the table of what it predicts.
        if kind != "transformer" or (hasattr(each, "transform") and not issubclass(each, others))
    ]


def look_up(kind: str, name: str, copied: Copy) -> Served:
    """Save an estimator as MLflow does, and vet and compile it as an import does."""
    for reason, those in LEFT_OUT.items():
        if name in those.split():
            return Served(name, None, reason)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecated ones
        estimator, note = GIVEN.get(name) or (_make(dict(all_estimators())[name], kind), "")
    whole = make_pipeline(estimator, _line()) if kind == "transformer" else estimator
    try:
        vetted = vet(_log(whole, kind, name, copied), trust_pickle=False)
        compile_model(vetted)
    except CompileError as error:
        return Served(name, False, str(error))
    except IrisError as error:
        told = str(error)
        return Served(
            name, None, next(says for begins, says in REJECTED if told.startswith(begins))
        )
    return Served(name, True, note)


def _log(estimator: Any, kind: str, name: str, copied: Copy) -> Path:
    """Return a folder of a fitted estimator and its training profile."""
    table = DIABETES if kind == "regressor" else IRISES
    labels = TWO if "Threshold" in name else table.target
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the training
        data = skops.io.dumps(estimator.fit(table.data, labels))
    folder = copied(model=data, edit=lambda document: document.pop("signature"), to=name)
    columns = {f"x{place}": values for place, values in enumerate(table.data.T)}
    predicted = np.ravel(estimator.predict(table.data)) if kind == "regressor" else None
    ranges = dict.fromkeys(columns, RANGES[kind])
    profile = TrainingProfile.of(columns, labels.tolist(), ranges, predicted)
    (folder / "extra_files").mkdir()
    (folder / "extra_files" / FILE_NAME).write_text(profile.model_dump_json())
    return folder


def _make(class_: Any, kind: str) -> Any:
    """Return an estimator with the parameters that it needs."""
    parameters = inspect.signature(class_).parameters
    needed = {name for name, each in parameters.items() if each.default is each.empty}
    given = {
        "estimator": _line(kind),
        "estimators": [("one", _line(kind)), ("other", _line(kind))],
        "transformer_list": [("scaler", preprocessing.StandardScaler())],
        "transformers": [("scaler", preprocessing.StandardScaler(), [0, 1])],
        "dictionary": np.eye(4),
    }
    found = {name: given[name] for name in needed & given.keys()}
    return class_(**found | ({"random_state": 0} if "random_state" in parameters else {}))


def rows(kind: str, copied: Copy) -> Iterable[Served]:
    """Look up each estimator of a kind."""
    return (look_up(kind, name, copied) for name in names(kind))


def write(kinds: Iterable[str]) -> None:
    """Write the tables of some kinds again."""
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        for kind in kinds:
            start, end = f"<!-- {kind}s -->\n", f"<!-- end of {kind}s -->"
            lines = []
            for row in rows(kind, copier(Path(folder), Path(folder))):
                print(row, flush=True)
                lines.append(f"{row}\n")
            text = PAGE.read_text("utf-8")
            before, after = text.partition(start)[0], text.partition(end)[2]
            PAGE.write_text("".join([before, start, "\n", HEAD, *lines, "\n", end, after]), "utf-8")


if __name__ == "__main__":
    write(sys.argv[1:] or KINDS)

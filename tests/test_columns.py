"""The columns of a model: from its signature, or from what its estimator was fitted on."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from support.saved_models import SPECIES, Copy, Edit, X, logistic, opened, problem, y

from iris_api.schema import FEATURES, Schema
from iris_api.vetting.estimator import vet
from iris_api.vetting.mlmodel import SIGN_AGAIN
from iris_api.vetting.training_profile import TrainingProfile

AGAIN = f"; {SIGN_AGAIN}"
SERVED = "numbers, integers, booleans and texts are served: fit the model on such columns"
NO_TABLE = f"the signature has several tensors, or one that is no table of rows and columns{AGAIN}"
WINE = ["alcohol", "malic acid (g/l)", "od280/od315"]


def _inputs(*columns: dict[str, Any]) -> Edit:
    return lambda document: document["signature"].update(inputs=json.dumps(columns))


def _columns(*names: str, **more: Any) -> Edit:
    return _inputs(*({"name": name, "type": "double"} | more for name in names))


def _tensor(dtype: str = "float64", *shape: int) -> dict[str, Any]:
    spec = {"dtype": dtype, "shape": list(shape or (-1, 4))}
    return {"type": "tensor", "tensor-spec": spec}


def _schema(copied: Copy, edit: Edit, estimator: Any) -> Schema:
    directory = copied(edit=edit, model=skops.io.dumps(estimator))
    return vet(directory, trust_pickle=False).schema


def test_columns_of_a_signature(copied: Copy) -> None:
    """Columns have the signature's names, types and order."""
    edit = _inputs(
        {"name": WINE[0], "type": "double"},
        {"name": WINE[1], "type": "long", "required": False},
        {"name": WINE[2], "type": "boolean"},
    )
    columns = _schema(copied, edit, GaussianNB().fit(X[:, :3], y)).columns

    assert [column.name for column in columns] == WINE
    assert [column.plain_name for column in columns] == ["alcohol", "malic_acid", "od280_od315"]
    assert [column.type for column in columns] == ["number", "integer", "boolean"]
    assert [column.required for column in columns] == [True, False, True]
    assert [column.unit for column in columns] == [None, "g/l", None]


@pytest.mark.parametrize("edit", [_inputs(_tensor()), lambda d: d.update(signature=None)])
def test_columns_of_an_estimator(copied: Copy, edit: Edit) -> None:
    """A tensor has no names: those that the estimator was fitted on are used, or numbers."""
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    named = _schema(copied, edit, GaussianNB().fit(frame, y))

    assert named.names == ["a", "b", "c", "d"]


def test_columns_of_an_array(copied: Copy) -> None:
    """Without any names, columns are numbered."""
    schema = _schema(copied, _inputs(_tensor("float32", -1, -1)), GaussianNB().fit(X, y))

    assert schema.names == ["x0", "x1", "x2", "x3"]
    assert {column.type for column in schema.columns} == {"number"}
    assert schema.labels == [0, 1, 2]


def test_irises_in_another_order(copied: Copy) -> None:
    """Requests of IrisModel have the same order, whatever the order of its signature."""
    directory = copied(edit=_columns(*FEATURES[::-1]))
    vetted = vet(directory, trust_pickle=False)

    assert vetted.schema.names == list(FEATURES)
    assert vetted.features == FEATURES[::-1]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            lambda d: d["signature"].update(inputs="{"),
            f"the signature's inputs are not a list of columns{AGAIN}",
        ),
        (
            _inputs({"type": "double"}),
            f"a column of the signature has no name{AGAIN}",
        ),
        (
            _columns(*FEATURES[:3]),
            f"the model was fitted on 4 columns and its signature has 3{AGAIN}",
        ),
        (
            _columns(*FEATURES, type="datetime"),
            f"the column sepal_length has the type datetime; {SERVED}",
        ),
        (
            _columns(*FEATURES, type={"type": "array"}),
            f"the column sepal_length has the type collection; {SERVED}",
        ),
        (
            _inputs(_tensor("float64", -1, 2, 2)),
            NO_TABLE,
        ),
        (
            _inputs(_tensor(), _tensor()),
            NO_TABLE,
        ),
        (
            _inputs(_tensor("str")),
            "the signature has a tensor of str; fit the model on numbers",
        ),
        (_columns("a", "b", "a", "c"), "2 columns have the name a; rename them"),
    ],
)
def test_signature_is_rejected(copied: Copy, edit: Edit, expected: str) -> None:
    """Columns that cannot be served are rejected in words."""
    assert problem(copied(edit=edit)) == expected


@pytest.mark.parametrize("count", ["4", None, [4], 4.0])
@pytest.mark.parametrize("edit", [None, _inputs(_tensor())])
def test_number_of_columns(copied: Copy, edit: Edit | None, count: Any) -> None:
    """A crafted number of columns is rejected, and ends no import in another way."""
    estimator = logistic()
    estimator.n_features_in_ = count

    found = problem(copied(edit=edit, model=skops.io.dumps(estimator)))
    assert found == "the estimator does not have its number of columns; fit it first"


def test_other_profile(copied: Copy) -> None:
    """A training profile of other columns is not used."""
    profile = TrainingProfile.of({"a": X[:, 0], "b": X[:, 1]}, y.tolist())
    directory = copied()
    (directory / "extra_files").mkdir()
    (directory / "extra_files/training_profile.json").write_text(profile.model_dump_json())

    assert problem(directory) == (
        "training_profile.json describes other columns than the model has (missing: "
        f"{', '.join(FEATURES)}; foreign: a, b); log the model again with a right one, or without"
    )


def test_ranges_of_a_profile(copied: Copy) -> None:
    """A training profile can say which numbers are accepted."""
    rows = dict(zip(WINE, X[:, :3].T, strict=True))
    plain = dict(zip(["alcohol", "malic_acid", "od280_od315"], rows.values(), strict=True))
    profile = TrainingProfile.of(plain, y.tolist(), dict.fromkeys(plain, (0, 50)))
    frame = pd.DataFrame(rows)
    directory = copied(edit=_columns(*WINE), model=skops.io.dumps(GaussianNB().fit(frame, y)))
    (directory / "extra_files").mkdir()
    (directory / "extra_files/training_profile.json").write_text(profile.model_dump_json())

    columns = vet(directory, trust_pickle=False).schema.columns
    assert {column.domain for column in columns} == {(0, 50)}


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(max_iter=300),
        make_pipeline(StandardScaler(), SVC()),
        GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 1e-8]}, cv=2),
    ],
    ids=["alone", "pipeline", "search"],
)
def test_order_of_the_columns(copied: Copy, estimator: Any) -> None:
    """An estimator that was fitted on columns in another order than its signature is rejected."""
    frame = pd.DataFrame(X, columns=list(FEATURES))
    same = copied(model=skops.io.dumps(estimator.fit(frame, SPECIES)), to="same")
    another = estimator.fit(frame.iloc[:, ::-1], SPECIES)

    assert opened(same).classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert problem(copied(model=skops.io.dumps(another))) == (
        "the estimator was fitted on the columns petal_width, petal_length, sepal_width, "
        f"sepal_length, in another order than its signature{AGAIN}"
    )


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (["a", "b", "c\n", "d"], "a, b, c, d"),
        ([1, None, [2], FEATURES[0]], "?, ?, ?, sepal_length"),
        ([*FEATURES, "e"], ", ".join([*FEATURES, "e"])),
    ],
    ids=["others", "no names", "five"],
)
def test_other_columns_than_the_signature(copied: Copy, columns: Any, shown: str) -> None:
    """A signature of other columns than those that the estimator was fitted on is rejected."""
    estimator = logistic()
    estimator.feature_names_in_ = np.array(columns, dtype=object)

    assert problem(copied(model=skops.io.dumps(estimator))) == (
        f"the estimator was fitted on the columns {shown}, which are not those of its signature"
        f"{AGAIN}"
    )

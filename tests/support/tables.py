"""Schemas of the tests: the irises, and a table of numbers, texts and booleans."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from iris_api.schema import FEATURES, Schema, make_columns

IRISES = Schema(
    columns=make_columns([(name, "number", True) for name in FEATURES]), task="classifier"
)

_AGE, _JOB, _CITY, _OWNER, _INCOME = make_columns(
    [
        ("age (years)", "integer", True),
        ("job", "string", True),
        ("city: born", "string", False),
        ("owner", "boolean", True),
        ("income", "number", False),
    ]
)
MIXED = Schema(
    columns=[
        _AGE.model_copy(update={"minimum": 0}),
        _JOB.model_copy(update={"categories": ["clerk", "nurse"]}),
        _CITY.model_copy(update={"categories": ["Rome", "a:b"], "unknown_categories": True}),
        _OWNER,
        _INCOME,
    ],
    task="classifier",
)


def loans(rows: int = 400) -> tuple[pd.DataFrame, NDArray[Any]]:
    """Return a table of loans: two texts, a boolean, an integer, two numbers; and the outcomes.

    A fifth of the incomes and a tenth of the cities are missing.
    """
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "purpose": rng.choice(
                ["car", "house", "study", "travel"], rows, p=[0.5, 0.3, 0.15, 0.05]
            ),
            "home city": rng.choice(["Bern", "Rome", "Oslo"], rows),
            "owner": rng.random(rows) < 0.4,
            "children": rng.integers(0, 5, rows),
            "income (EUR)": rng.lognormal(8, 0.5, rows).round(2),
            "debt": rng.normal(1000, 300, rows).round(1),
        }
    )
    risk = (
        table["debt"] / 300
        - table["income (EUR)"] / 2000
        + table["purpose"].map({"car": 0.0, "house": -1.0, "study": 1.0, "travel": 2.0})
        + 0.5 * table["children"]
        - table["owner"]
    )
    outcome = np.where(risk + rng.normal(0, 0.5, rows) > risk.median(), "late", "paid")
    table.loc[rng.random(rows) < 0.2, "income (EUR)"] = np.nan
    table.loc[rng.random(rows) < 0.1, "home city"] = np.nan
    return table, outcome


def mixed(classifier: Any, **encoder: Any) -> Any:
    """Return a pipeline over the columns of the table of loans, by their names."""
    texts = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="unknown"),
        OneHotEncoder(**{"handle_unknown": "ignore", "sparse_output": False} | encoder),
    )
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    columns = ColumnTransformer(
        [
            ("texts", texts, ["home city"]),
            ("purpose", OneHotEncoder(drop="first"), ["purpose"]),
            ("numbers", numbers, ["income (EUR)", "debt", "children"]),
        ],
        remainder="passthrough",
    )
    return make_pipeline(columns, classifier)

"""Mixed tables: texts, booleans, whole numbers and missing values, by the names of columns."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)
from support.saved_models import Copy, problem
from support.tables import loans, mixed

from iris_api.compiling.conversion import compile_model
from iris_api.compiling.converters.lookup import convert
from iris_api.model.engines import OnnxEngine, SklearnEngine
from iris_api.schema import Column
from iris_api.vetting.estimator import Vetted, vet
from iris_api.vetting.mlmodel import SIGN_AGAIN

thorough = pytest.mark.thorough

ROWS, OUTCOMES = loans()
TEXTS = ["purpose", "home city"]
NUMBERS = ["children", "income (EUR)", "debt"]
TYPES = dict(zip(ROWS, ["string", "string", "boolean", "long", "double", "double"], strict=True))
OPTIONAL = {"home city", "income (EUR)"}


def _logistic() -> LogisticRegression:
    return LogisticRegression(max_iter=2000)


def _imputed(step: Any = "passthrough") -> Any:
    return make_pipeline(SimpleImputer(), step)


def _columns(*texts: Any, numbers: Any = None) -> ColumnTransformer:
    """Return steps for the texts, one for each column or one for both, and one for the numbers."""
    both = [["purpose", "home city"]] if len(texts) == 1 else [["purpose"], ["home city"]]
    steps = [*zip(texts, both, strict=True), (numbers or _imputed(StandardScaler()), NUMBERS)]
    return make_column_transformer(*steps, remainder="passthrough")


def _by_pandas() -> Any:
    first = _columns(OneHotEncoder(sparse_output=False, handle_unknown="ignore"))
    second = make_column_transformer(
        (MinMaxScaler(), ["pipeline__debt", "pipeline__children"]), remainder="passthrough"
    )
    return make_pipeline(first, second, _logistic()).set_output(transform="pandas")


ENCODERS = {
    "one-hot": OneHotEncoder(handle_unknown="ignore"),
    "one-hot of known ones": OneHotEncoder(),
    "dropping the first": OneHotEncoder(drop="first", handle_unknown="ignore"),
    "dropping one of two": OneHotEncoder(drop="if_binary"),
    "rare ones": OneHotEncoder(min_frequency=50, handle_unknown="infrequent_if_exist"),
    "most frequent ones": OneHotEncoder(max_categories=3, handle_unknown="infrequent_if_exist"),
    "ordinal": OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-2, encoded_missing_value=-1
    ),
    "ordinal of known ones": OrdinalEncoder(encoded_missing_value=9),
    "ordinal in an order": OrdinalEncoder(
        categories=[["travel", "study", "house", "car"], ["Rome", "Oslo", "Bern", np.nan]],
        encoded_missing_value=7,
    ),
    "rare ordinal": OrdinalEncoder(
        min_frequency=50,
        handle_unknown="use_encoded_value",
        unknown_value=-1,
        encoded_missing_value=-2,
    ),
    "target": TargetEncoder(random_state=0),
    "most frequent text": make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    ),
    "constant text and indicator": make_pipeline(
        SimpleImputer(strategy="constant", fill_value="none"), OneHotEncoder(drop="first")
    ),
}
"""Steps for both columns of texts."""

PIPELINES: dict[str, Any] = {
    **{
        f"{name} > logistic": make_pipeline(_columns(encoder), _logistic())
        for name, encoder in ENCODERS.items()
    },
    "two encoders": make_pipeline(
        _columns(OneHotEncoder(), OrdinalEncoder(encoded_missing_value=-1)), _logistic()
    ),
    "mean and indicators": make_pipeline(
        _columns(
            OneHotEncoder(),
            numbers=make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()),
        ),
        RandomForestClassifier(10, random_state=0),
    ),
    "places": make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), [0, 1]),
            (_imputed(), slice(3, 6)),
            remainder="drop",
        ),
        _logistic(),
    ),
    "slices of names": make_pipeline(
        make_column_transformer(
            (OneHotEncoder(), slice("purpose", "owner")), (_imputed(), slice("children", "debt"))
        ),
        _logistic(),
    ),
    "dropped texts": make_pipeline(
        make_column_transformer((_imputed(StandardScaler()), NUMBERS)), _logistic()
    ),
    "one-hot numbers": make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["children", "owner", "purpose"])
        ),
        _logistic(),
    ),
    "weights": make_pipeline(
        ColumnTransformer(
            [
                ("texts", OneHotEncoder(), ["purpose", "home city"]),
                ("numbers", _imputed(), NUMBERS),
            ],
            transformer_weights={"texts": 2.0, "numbers": 0.001},
        ),
        _logistic(),
    ),
    "selectors": make_pipeline(
        make_column_transformer(
            (_imputed(StandardScaler()), make_column_selector(dtype_include=np.number)),
            (OneHotEncoder(), make_column_selector("purpose|city")),
        ),
        _logistic(),
    ),
    "pandas": _by_pandas(),
    "boosting": make_pipeline(
        _columns(OrdinalEncoder(encoded_missing_value=-1), numbers="passthrough"),
        HistGradientBoostingClassifier(max_iter=10),
    ),
    "boosting of places": make_pipeline(
        _columns(OrdinalEncoder(encoded_missing_value=np.nan), numbers="passthrough"),
        HistGradientBoostingClassifier(categorical_features=[0, 1, 5], max_iter=10),
    ),
    "boosting of types": HistGradientBoostingClassifier(max_iter=10),
    "boosting of names": HistGradientBoostingClassifier(
        categorical_features=["children", "owner", "purpose", "home city"], max_iter=10
    ),
    "selection": make_pipeline(_columns(OneHotEncoder()), SelectKBest(k=4), _logistic()),
    "union": make_pipeline(
        make_union(
            make_column_transformer((OneHotEncoder(), ["purpose"])),
            make_column_transformer((_imputed(StandardScaler()), NUMBERS)),
        ),
        _logistic(),
    ),
    "search": GridSearchCV(mixed(_logistic()), {"logisticregression__C": [0.1, 1]}, cv=2),
    "calibrated": CalibratedClassifierCV(mixed(_logistic()), cv=2),
    "voting": VotingClassifier(
        [("a", mixed(_logistic())), ("b", mixed(_logistic()))], voting="soft"
    ),
    "stacking": StackingClassifier([("a", mixed(_logistic())), ("b", mixed(_logistic()))], cv=2),
}


def _input(name: str) -> dict[str, Any]:
    return {"name": name, "type": TYPES[name], "required": name not in OPTIONAL}


def _save(copied: Copy, estimator: Any, **types: str) -> Path:
    inputs = [_input(name) | ({"type": types[name]} if name in types else {}) for name in ROWS]
    signature = json.dumps(inputs)
    model = skops.io.dumps(estimator)
    return copied(edit=lambda d: d["signature"].update(inputs=signature), model=model)


def _vet(copied: Copy, estimator: Any) -> Vetted:
    return vet(_save(copied, estimator), trust_pickle=False)


def _draw(columns: list[Column], count: int = 300) -> NDArray[np.float64]:
    """Return random rows, with unknown texts and missing cells where they are accepted."""
    rng = np.random.default_rng(1)
    rows = np.empty((count, len(columns)))
    for cells, column in zip(rows.T, columns, strict=True):
        low, high = np.clip(column.domain, -10.0, 10_000.0)
        drawn = rng.uniform(low - 0.5, high + 0.5, count)
        cells[:] = drawn if column.type == "number" else np.rint(drawn).clip(low, high)
        if not column.required:
            cells[rng.random(count) < 0.2] = np.nan
    return rows


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
def test_the_same_answers(copied: Copy, pipeline: Any) -> None:
    """A compiled pipeline, and scikit-learn given rows of numbers, answer as with data frames."""
    by_type = isinstance(pipeline, HistGradientBoostingClassifier)
    pipeline.fit(ROWS.astype(dict.fromkeys(TEXTS, "category")) if by_type else ROWS, OUTCOMES)
    vetted = _vet(copied, pipeline)
    columns = vetted.schema.columns
    rows = _draw(columns)
    frame = _frame(rows, columns)
    expected = pipeline.predict_proba(frame)

    by_frames = SklearnEngine(vetted.predictor).answer(rows, probabilities=True)
    compiled = OnnxEngine(convert(vetted.numeric).SerializeToString())
    labels, probabilities = compiled.answer(rows, probabilities=True)

    assert by_frames.probabilities is not None
    assert probabilities is not None
    assert np.array_equal(by_frames.probabilities, expected)
    assert np.allclose(vetted.numeric.predict_proba(rows), expected, rtol=0, atol=1e-12)
    assert np.allclose(probabilities, expected, rtol=0, atol=1e-12)
    assert (pipeline.classes_[labels] == pipeline.predict(frame)).all()


def _frame(rows: NDArray[np.float64], columns: list[Column]) -> pd.DataFrame:
    """Return rows as a client's data frame."""
    frame = pd.DataFrame(rows, columns=[column.name for column in columns])
    for column in columns:
        cells = frame[column.name]
        if column.type == "string":
            texts = dict(enumerate(column.categories or [])) | {-1: "another"}
            frame[column.name] = cells.map(texts)
        elif column.type != "number":
            frame[column.name] = cells.astype(bool if column.type == "boolean" else int)
    return frame


@pytest.mark.parametrize(
    "classifier",
    [
        _logistic(),
        pytest.param(RandomForestClassifier(10, random_state=0), marks=thorough),
        pytest.param(HistGradientBoostingClassifier(max_iter=10), marks=thorough),
    ],
    ids=["logistic", "forest", "boosting"],
)
def test_proof(copied: Copy, classifier: Any) -> None:
    """The proof has texts that are unknown, missing cells, and whole numbers of integer columns."""
    vetted = _vet(copied, mixed(classifier).fit(ROWS, OUTCOMES))

    proof = compile_model(vetted).proof

    assert proof.largest_difference < 1e-12
    assert proof.domain[:3] == [[0, 3], [-1, 3], [0, 1]]
    assert proof.steps > 100


def test_columns(copied: Copy) -> None:
    """Encoders decide which texts are accepted, and the signature which cells may be missing."""
    columns = _vet(copied, mixed(_logistic()).fit(ROWS, OUTCOMES)).schema.columns

    purpose, city = columns[:2]
    assert purpose.categories == ["car", "house", "study", "travel"]
    assert city.categories == ["Bern", "Oslo", "Rome", "unknown"]
    assert [column.unknown_categories for column in (purpose, city)] == [False, True]
    assert [column.required for column in columns] == [True, False, True, True, False, True]


def test_missing_text_that_no_part_accepts(copied: Copy) -> None:
    """A signature cannot make a column optional whose encoder rejects missing texts."""
    known = ROWS.dropna()
    pipeline = make_pipeline(_columns(OneHotEncoder()), _logistic()).fit(
        known, OUTCOMES[known.index]
    )

    assert _vet(copied, pipeline).schema.columns[1].required


def test_none_as_a_category(copied: Copy) -> None:
    """A missing text is None for an encoder that was fitted on None."""
    rows = ROWS.astype({"home city": object})
    rows.loc[rows["home city"].isna(), "home city"] = None
    pipeline = make_pipeline(_columns(OneHotEncoder()), _logistic()).fit(rows, OUTCOMES)
    assert pipeline[0].transformers_[0][1].categories_[1][-1] is None
    vetted = _vet(copied, pipeline)
    missing = np.array([[0, np.nan, 1, 2, 3000, 1000.0]])

    found = vetted.predictor.predict_proba(missing)

    one = (
        rows[rows["home city"].isna()]
        .iloc[:1]
        .assign(
            **{
                "purpose": "car",
                "owner": True,
                "children": 2,
                "income (EUR)": 3000.0,
                "debt": 1000.0,
            }
        )
    )
    assert np.array_equal(found, pipeline.predict_proba(one))
    assert np.allclose(vetted.numeric.predict_proba(missing), found, rtol=0, atol=1e-12)


def _encoded(step: Any, chosen: Any = ("purpose",)) -> Any:
    columns = make_column_transformer(
        (step, chosen if isinstance(chosen, str) else list(chosen)), (_imputed(), NUMBERS)
    )
    return make_pipeline(columns, _logistic()).fit(ROWS, OUTCOMES)


def _spoiled(name: str, categories: list[Any]) -> Any:
    pipeline = _encoded(OneHotEncoder())
    setattr(pipeline[0].transformers_[0][1], name, [np.array(categories, dtype=object)])
    return pipeline


ENCODE = (
    "which needs numbers here; encode them with OneHotEncoder or OrdinalEncoder in a "
    "ColumnTransformer"
)
NO_ROWS = "takes texts, images or dictionaries, and rows are served"
OTHER_VALUES = "and its OneHotEncoder knows other values"
INCONSISTENT = "has indices or shapes that do not fit each other; train and register it again"
UNPRINTABLE = "which is not a text of up to 100 printable characters; rename it"


@pytest.mark.parametrize(
    ("pipeline", "types", "expected"),
    [
        (
            _encoded(CountVectorizer(), "purpose"),
            {},
            f"CountVectorizer {NO_ROWS}; train and register it again",
        ),
        (
            _encoded(MissingIndicator(features="all")),
            {},
            f"the texts of the column purpose reach MissingIndicator, {ENCODE}",
        ),
        (
            _encoded(OneHotEncoder()),
            {"purpose": "double"},
            f"a OneHotEncoder knows texts where the signature has numbers; {SIGN_AGAIN}",
        ),
        (
            _encoded(OneHotEncoder(), ["children"]),
            {"children": "string"},
            f"the column children is a text in the signature, {OTHER_VALUES}; {SIGN_AGAIN}",
        ),
        (
            _spoiled("categories_", [f"c{number}" for number in range(1001)]),
            {},
            f"OneHotEncoder {INCONSISTENT}",
        ),
        (
            _spoiled("categories_", ["car", "house", "study", "tra\nvel"]),
            {},
            f"the column purpose has the category 'tra vel', {UNPRINTABLE}",
        ),
    ],
    ids=[
        "vectorizer",
        "no encoder",
        "numbers in the signature",
        "texts in the signature",
        "length",
        "characters",
    ],
)
def test_rejected(copied: Copy, pipeline: Any, types: dict[str, str], expected: str) -> None:
    """Pipelines that cannot be served are rejected in words."""
    assert problem(_save(copied, pipeline, **types)) == expected

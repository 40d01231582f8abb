"""Schemas of the tests: the irises, and a table of numbers, texts and booleans."""

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

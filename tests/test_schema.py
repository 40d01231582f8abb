"""A model's contract: names of columns, and what a promotion may change."""

import pytest

from iris_api.schema import FEATURES, Column, ColumnType, Schema, SchemaError, changes, make_columns


def _columns(*names: str, type_: ColumnType = "number") -> list[Column]:
    return make_columns([(name, type_, True) for name in names])


def _schema(*columns: Column, labels: tuple[str, ...] = ("no", "yes")) -> Schema:
    return Schema(columns=list(columns), task="classifier", labels=list(labels))


@pytest.mark.parametrize(
    ("name", "plain", "unit"),
    [
        ("sepal length (cm)", "sepal_length", "cm"),
        ("alcohol", "alcohol", None),
        ("od280/od315_of_diluted_wines", "od280_od315_of_diluted_wines", None),
        ("Größe (m)", "Größe", "m"),
        ("x.1", "x_1", None),
        ("(cm)", "_cm_", None),
        ("f(x) (a) (b)", "f_x___a_", "b"),
    ],
)
def test_plain_names(name: str, plain: str, unit: str | None) -> None:
    """A plain name has no unit, and nothing but letters, digits and _."""
    (column,) = _columns(name)

    assert (column.name, column.plain_name, column.unit) == (name, plain, unit)


@pytest.mark.parametrize(
    "names", [("a b", "a_b", "c"), ("a (cm)", "a (m)", "c"), ("a", "a (m)", "c")]
)
def test_plain_names_of_two_columns(names: tuple[str, ...]) -> None:
    """Columns that would share a plain name keep their own."""
    assert [column.plain_name for column in _columns(*names)] == list(names)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ((), "the model has no columns"),
        (("a", "b", "a"), "2 columns have the name a; rename them"),
        (("a\nb",), "the column 'a b' has no name of 1 to 100 printable characters; rename it"),
        ((" ",), "the column '' has no name of 1 to 100 printable characters; rename it"),
        (
            ("x" * 101,),
            f"the column '{'x' * 40}' has no name of 1 to 100 printable characters; rename it",
        ),
        (("instances",), "a column has the name instances, a key of requests; rename it"),
        (tuple(map(str, range(2001))), "the model has 2001 columns, and 2000 are possible"),
    ],
)
def test_names_that_cannot_be_used(names: tuple[str, ...], problem: str) -> None:
    """Names come from a registry that others write to."""
    with pytest.raises(SchemaError) as caught:
        _columns(*names)

    assert str(caught.value) == problem


def test_irises() -> None:
    """The columns of IrisModel are in the order of its requests, and have a range."""
    found = _columns("petal width (cm)", "sepal_length", "petal length (cm)", "sepal width (cm)")

    assert [column.plain_name for column in found] == list(FEATURES)
    assert found[0].name == "sepal_length"
    assert {(column.unit, *column.domain) for column in found} == {("cm", 0.0, 100.0)}


A, B = _columns("a", "b")
C = A.model_copy(update={"name": "c", "plain_name": "c"})


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (_schema(A, B), []),
        (_schema(A, B.model_copy(update={"name": "b (cm)", "unit": "cm"})), []),
        (_schema(A, B, C.model_copy(update={"required": False})), []),
        (_schema(A), ["the column b is gone"]),
        (_schema(A, B, C), ["the column c is new and required"]),
        (_schema(B, A), ["its columns are in another order"]),
        (
            _schema(A, *_columns("b", type_="integer")),
            ["the column b was a number and is an integer"],
        ),
        (
            _schema(C.model_copy(update={"required": False}), A, B),
            ["its columns are in another order"],
        ),
        (_schema(A, B, labels=("no", "so")), ["the label yes is gone", "the label so is new"]),
        (_schema(A, B, labels=("yes", "no")), ["its labels are in another order"]),
        (
            Schema(columns=[A, B], task="regressor"),
            ["the model was a classifier and is a regressor"],
        ),
    ],
)
def test_changes(new: Schema, expected: list[str]) -> None:
    """Each change for clients is said in words."""
    assert changes(_schema(A, B), new) == expected


def test_units_and_types_of_labels() -> None:
    """A column in another unit, and a label of another type, are changes."""
    one, other = (_schema(*_columns(f"a ({unit})")) for unit in ("cm", "mm"))
    booleans = Schema(columns=[A], task="classifier", labels=[False, True])
    integers = Schema(columns=[A], task="classifier", labels=[0, 1])

    assert changes(one, other) == ["the column a was in cm and is in mm"]
    assert changes(booleans, integers) == ["its labels were booleans and are integers"]


def test_irises_in_another_unit() -> None:
    """Only centimetres have the range of IrisModel."""
    found = _columns(*(f"{name.replace('_', ' ')} (mm)" for name in FEATURES))

    assert {(column.unit, column.maximum) for column in found} == {("mm", None)}


def test_optional_columns() -> None:
    """A column that may be missing must not become required."""
    before = _schema(A, B.model_copy(update={"required": False}))

    assert changes(before, _schema(A, B)) == ["the column b has become required"]
    assert changes(_schema(A, B), before) == []

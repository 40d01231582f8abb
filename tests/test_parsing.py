"""The decoder and the reader of rows return the same rows, and the reader says what is wrong."""

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.tables import IRISES, MIXED

from iris_api.protocols.native import NativeProtocol
from iris_api.protocols.problems import InvalidRequestError
from iris_api.schema import FEATURES, Schema, make_columns

PLAIN = NativeProtocol(IRISES, max_rows=100)
TABLE = NativeProtocol(MIXED, max_rows=100)

NUMBERS = st.one_of(
    st.floats(0, 100, allow_nan=False),
    st.integers(0, 100),
    st.sampled_from(["0", "-0", "1e1", "1E+1", "5e-324", "99.99999999999999999", "100.0"]),
)
ODD_NUMBERS = st.sampled_from(
    ["-1", "100.1", "1e400", "01", "1.", ".5", "+1", "true", "null", '"1"', "[1]", "{}", "NaN", ""]
)
ROWS = st.lists(st.lists(NUMBERS, min_size=4, max_size=4), min_size=1, max_size=30)
WILD_NUMBERS = st.floats(-200, 200) | st.sampled_from(["1e999", "-1e-9", "100.0000001", "1" * 400])
ODD_ROWS = st.lists(
    st.lists(NUMBERS | ODD_NUMBERS | WILD_NUMBERS, min_size=3, max_size=5), min_size=1, max_size=30
)
CELLS = (
    st.sampled_from([None, True, False, 0, 5, 5.0, 5.1, -1, 2**53 - 1, 2**53, 2**53 + 1, 1e300])
    | st.sampled_from(["clerk", "nurse", "Rome", "a:b", "10:30", "", "instances", "ü"])
    | st.just([1])
)
KEYS = ("age_years", "age (years)", "age", "job", "city__born", "city: born", "owner", "income")
TABLE_ROWS = st.lists(
    st.dictionaries(st.sampled_from(KEYS), CELLS) | st.lists(CELLS, min_size=4, max_size=6),
    max_size=3,
)
GOOD = {"age": 5, "job": "clerk", "city__born": "10:30", "owner": True, "income": None}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from([*FEATURES, "instances"]) | st.text(), inner)
    ),
    max_leaves=20,
)


def _body(rows: list[list[Any]], space: str = "") -> bytes:
    text = f",{space}".join(
        f"[{space}" + ",".join(str(cell) for cell in row) + f"{space}]" for row in rows
    )
    return f'{{{space}"instances":{space}[{text}]{space}}}'.encode()


def _outcome(parse: Any, body: bytes) -> Any:
    try:
        return str(parse(body).tolist())  # as text, NaN is itself
    except InvalidRequestError as error:
        return str(error), error.detail


def _check(protocol: NativeProtocol, body: bytes) -> Any:
    """Parse a body, and check that the decoder did not take what the reader rejects."""
    found = _outcome(protocol.parse_rows, body)
    assert found == _outcome(protocol._read, body)  # noqa: SLF001
    return found


@given(rows=ROWS, space=st.sampled_from(["", " ", "\n\t", "\r\n "]))
@settings(deadline=None)
def test_valid_rows(rows: list[list[Any]], space: str) -> None:
    """Valid rows are the same numbers to the last bit, with any white space."""
    body = _body(rows, space)
    expected = [[float(cell) for cell in row] for row in json.loads(body)["instances"]]

    assert _check(PLAIN, body) == str(expected)


@given(rows=ODD_ROWS)
@example(rows=[[1, 2, 3, 4]] * 20 + [[1, 2, 3], [1, 2, 3, 4, 5]])
@example(rows=[[1, 2, 3, 4]] * 20 + [["[1", "2]", 3, 4]])
@settings(deadline=None)
def test_invalid_rows(rows: list[list[Any]]) -> None:
    """Invalid rows have the same error on both ways."""
    _check(PLAIN, _body(rows))


@given(rows=TABLE_ROWS)
@example(rows=[GOOD, {"age (years)": 5, "job": "nurse", "city: born": None, "owner": False}])
@example(rows=[GOOD | {"age (years)": 5}])
@settings(deadline=None)
def test_rows_of_a_table(rows: list[Any]) -> None:
    """Texts, booleans, integers and missing values are the same on both ways."""
    _check(TABLE, json.dumps({"instances": rows}).encode())
    for row in rows:
        _check(TABLE, json.dumps(row, ensure_ascii=False).encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"e-instances":[[1,2,3,4]]}',
        b'{"\\u0069nstances":[[1,2,3,4]]}',
        b'{"instances":[[1,2,3,4]]} 1',
        b'{"instances":[[1,2,3,4',
        b"\x00" * 300,
        b"[" * 400,
        b'{"instances":' + b"[" * 100,
    ],
)
def test_bodies_that_look_alike(body: bytes) -> None:
    """A body that only resembles a list of rows is left to the reader."""
    _check(PLAIN, body)


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        {"instances": [GOOD] * 3},
        {"instances": [list(GOOD.values())]},
        {"instances": [list(GOOD.values()), GOOD]},
        {"age (years)": 5, "job": "nurse", "city: born": "a:b", "owner": False, "income": 1.5},
    ],
)
def test_common_bodies_are_decoded(content: Any) -> None:
    """The decoder takes what is right and common."""
    body = json.dumps(content).encode()

    found = TABLE.decoder.decode(body)
    assert found is not None
    assert np.array_equal(found, TABLE._read(body), equal_nan=True)  # noqa: SLF001


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"age": 5.1}, "age: must be a whole number"),
        ({"age": 2**53}, "age: must be a number of 0 to 9007199254740991 years"),
        ({"age": -1}, "age: must be a number of 0 to 9007199254740991 years"),
        ({"age": True}, "age: must be a whole number"),
        ({"age": None}, "age: must be a whole number"),
        ({"job": "pilot"}, "job: must be one of 'clerk', 'nurse'"),
        ({"job": 5}, "job: must be a text"),
        ({"owner": 1}, "owner: must be true or false"),
        ({"income": "5"}, "income: must be a number"),
        ({"age (years)": 5}, "age: is given twice"),
    ],
)
def test_problems_of_a_table(change: dict[str, Any], problem: str) -> None:
    """Each wrong cell is explained in words."""
    found = _check(TABLE, json.dumps(GOOD | change).encode())

    assert found[0] == problem


def test_array_without_its_last_cells() -> None:
    """Optional columns may be missing at the end of an array."""
    assert _check(TABLE, b'{"instances":[[5,"nurse",null,true]]}') == "[[5.0, 1.0, nan, 1.0, nan]]"
    assert _check(TABLE, b'{"instances":[[5,"nurse"]]}')[0] == "instances[0].owner: is missing"


@pytest.mark.parametrize("name", ['height "tall"', "a\\b", "a:b"])
def test_names_with_marks(name: str) -> None:
    """A column may have a name that msgspec or JSON treats in its own way."""
    columns = make_columns([(name, "number", True), (f"{name} ", "number", True)])
    protocol = NativeProtocol(Schema(columns=columns, task="classifier"), max_rows=2)
    row = {column.name: place for place, column in enumerate(columns)}

    assert _check(protocol, json.dumps(row).encode()) == "[[0.0, 1.0]]"


def test_rows_without_cells() -> None:
    """Empty rows are counted before any of them becomes an object, however wide a row may be."""
    columns = make_columns([(f"x{place}", "number", True) for place in range(500)])
    protocol = NativeProtocol(Schema(columns=columns, task="classifier"), max_rows=100)

    with pytest.raises(InvalidRequestError, match="many more values than 100 rows") as caught:
        protocol.parse_rows(b'{"instances":[' + b",".join([b"[]"] * 1000) + b"]}")
    assert caught.value.status == 413


@pytest.mark.parametrize("more", [{}, {"instances": []}, {"instances": [[5, 3, 1, 0]]}])
def test_many_names(more: dict[str, Any]) -> None:
    """Far more names than there are columns are counted, and none of them is explained."""
    names = dict.fromkeys(map(str, range(265 - len(more))), 0)

    with pytest.raises(InvalidRequestError, match="has 265 names, at most 264 are allowed"):
        PLAIN.parse_rows(json.dumps(names | more).encode())


def test_missing_cells() -> None:
    """Cells that take no bytes are limited by their number, and take no time of other requests."""
    columns = make_columns([(f"x{place}", "number", False) for place in range(2000)])
    protocol = NativeProtocol(Schema(columns=columns, task="classifier"), max_rows=100_000)
    body = b'{"instances":[' + b",".join([b"[]"] * 2001) + b"]}"

    with pytest.raises(InvalidRequestError, match="has 2001 rows, at most 2000 are") as caught:
        protocol.parse_rows(body)
    assert caught.value.status == 413
    assert not protocol.is_quick(body)
    assert protocol.is_quick(b'{"x1":5}')
    assert PLAIN.is_quick(body)
    assert NativeProtocol(IRISES, max_rows=100_000).max_rows == 100_000


def test_cells_of_a_table() -> None:
    """A text is its place among the categories, and a missing value is NaN."""
    found = TABLE.parse_rows(json.dumps(GOOD | {"city__born": "a:b"}).encode())
    other = TABLE.parse_rows(b'{"age":5,"job":"nurse","owner":false}')

    assert np.array_equal(found, [[5, 0, 1, 1, np.nan]], equal_nan=True)
    assert np.array_equal(other, [[5, 1, np.nan, 0, np.nan]], equal_nan=True)
    assert TABLE.parse_rows(json.dumps(GOOD).encode())[0, 2] == -1  # of a text that is not known


@given(content=JSON)
@example(content={"a\nb": 1})
@example(content={"\x1b[31m": 1})
@example(content={"\u2028": 1})
@example(content={"x" * 1000: 1})
@settings(deadline=None)
def test_any_json(content: Any) -> None:
    """Any JSON is parsed, or rejected with an error of one line, whatever a key contains."""
    found = _check(PLAIN, json.dumps(content).encode())

    if isinstance(found, tuple):
        message, detail = found
        assert re.fullmatch(r"[^\n\x1b\u2028]{1,200}", message)
        assert all(len(str(place)) <= 64 for problem in detail for place in problem.loc)

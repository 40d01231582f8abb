"""The fast and the strict path of the parser return the same rows, or the same error."""

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from iris_api import schema
from iris_api.protocols import native
from iris_api.protocols.problems import InvalidRequestError

NUMBERS = st.one_of(
    st.floats(0, 100, allow_nan=False),
    st.integers(0, 100),
    st.sampled_from(["0", "-0", "1e1", "1E+1", "5e-324", "99.99999999999999999", "100.0"]),
)
ODD_NUMBERS = st.sampled_from(
    ["-1", "100.1", "1e400", "01", "1.", ".5", "+1", "true", "null", '"1"', "[1]", "{}", "NaN", ""]
)
ROWS = st.lists(st.lists(NUMBERS, min_size=4, max_size=4), min_size=1, max_size=30)
ODD_ROWS = st.lists(
    st.lists(NUMBERS | ODD_NUMBERS, min_size=3, max_size=5), min_size=20, max_size=30
)
WILD_NUMBERS = st.floats(-200, 200) | st.sampled_from(["1e999", "-1e-9", "100.0000001", "1" * 400])
WILD_ROWS = st.lists(
    st.lists(NUMBERS | WILD_NUMBERS, min_size=4, max_size=4), min_size=20, max_size=30
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from([*schema.FEATURES, "instances"]) | st.text(), inner)
    ),
    max_leaves=20,
)


def _body(rows: list[list[Any]], space: str = "") -> bytes:
    text = f",{space}".join(
        f"[{space}" + ",".join(str(cell) for cell in row) + f"{space}]" for row in rows
    )
    return f'{{{space}"instances":{space}[{text}]{space}}}'.encode()


def _parse(body: bytes) -> Any:
    try:
        return native.parse_rows(body, 100).tolist()
    except InvalidRequestError as error:
        return str(error), error.detail


def _parse_strictly(body: bytes) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "SHORT_BODY_BYTES", 1 << 30)
        return _parse(body)


@given(rows=ROWS, space=st.sampled_from(["", " ", "\n\t", "\r\n "]))
@settings(deadline=None)
def test_valid_rows(rows: list[list[Any]], space: str) -> None:
    """Valid rows are the same numbers to the last bit, with any white space."""
    body = _body(rows, space)
    expected = [[float(cell) for cell in row] for row in json.loads(body)["instances"]]

    assert _parse(body) == expected == _parse_strictly(body)


@given(rows=ODD_ROWS | WILD_ROWS)
@example(rows=[[1, 2, 3, 4]] * 20 + [[1, 2, 3], [1, 2, 3, 4, 5]])
@example(rows=[[1, 2, 3, 4]] * 20 + [["[1", "2]", 3, 4]])
@settings(deadline=None)
def test_invalid_rows(rows: list[list[Any]]) -> None:
    """Invalid rows have the same error on both paths."""
    body = _body(rows)

    assert _parse(body) == _parse_strictly(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"e-instances":' + b" " * 300 + b"[[1,2,3,4]]}",
        b'{"inst ances":' + b" " * 300 + b"[[1,2,3,4]]}",
        b'{"\\u0069nstances":' + b" " * 300 + b"[[1,2,3,4]]}",
        b'{"instances":[[1,2,3,4]]}' + b" " * 300 + b"1",
        b'{"instances":[[1,2,3,4]],"instances":[[1,2,3,4]]}' + b" " * 300,
        b'{"instances":[[1,2,3,4' + b" " * 300,
        b"\x00" * 300,
    ],
)
def test_bodies_that_look_alike(body: bytes) -> None:
    """A body that only resembles a list of rows is left to the strict path."""
    assert _parse(body) == _parse_strictly(body)


def test_long_bodies_take_the_fast_path() -> None:
    """Arrays of numbers take the fast path, and objects do not."""
    plain = _body([[5.1, 3.5, 1.4, 0.2]] * 100)
    objects = json.dumps({"instances": [dict.fromkeys(schema.FEATURES, 1)] * 100}).encode()

    found = native._parse_arrays(plain)  # noqa: SLF001
    assert found is not None
    assert np.array_equal(found, np.array([[5.1, 3.5, 1.4, 0.2]] * 100))
    assert native._parse_arrays(objects) is None  # noqa: SLF001
    assert native.parse_rows(objects, 100).shape == (100, 4)


@given(content=JSON)
@example(content={"a\nb": 1})
@example(content={"\x1b[31m": 1})
@example(content={"\u2028": 1})
@example(content={"x" * 1000: 1})
def test_any_json(content: Any) -> None:
    """Any JSON is parsed, or rejected with an error of one line, whatever a key contains."""
    found = _parse(json.dumps(content).encode())

    if isinstance(found, tuple):
        message, detail = found
        assert re.fullmatch(r"[^\n\x1b\u2028]{1,200}", message)
        assert all(len(str(place)) <= 64 for problem in detail for place in problem.loc)

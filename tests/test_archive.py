"""A skops archive is checked, its members and its types, before anything in it is constructed."""

import io
import json
import stat
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skops.io._protocol import PROTOCOL
from support.saved_models import (
    SPECIES,
    Copy,
    Edit,
    X,
    edited,
    logistic,
    node,
    problem,
    text_node,
    tuple_node,
    untrusted,
)


def _archive(
    *members: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED
) -> bytes:
    target = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w", compression) as written:
        warnings.simplefilter("ignore")  # the duplicate is on purpose
        for name, content in members:
            written.writestr(name, content)
    return target.getvalue()


def _symbolic_link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("link.npy")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


AGAIN = "; log and register the model again"
SMALLER = "; register a smaller model"
NOT_PLAIN = "the model file has a member that is not a plain file: "
NOT_SOUND = "the model file is not a sound skops archive "


TOO_MUCH = f"the model file unpacks to more than 256 MiB or 100000 members{SMALLER}"


def _arrays(content: bytes, count: int = 1) -> bytes:
    """Write an archive of a list whose items are all the same member."""
    item = node("NdArrayNode", "numpy.ndarray", type="numpy", file="a.npy")
    schema = node("ListNode", "builtins.list", content=[item] * count, protocol=PROTOCOL)
    return _archive(("a.npy", content), ("schema.json", json.dumps(schema).encode()))


def _header(shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    claims = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, claims)
    return header.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (_archive(("a.npy", bytes(200 << 20)), ("b.npy", bytes(100 << 20))), TOO_MUCH),
        (_arrays(bytes(50 << 20), count=6), TOO_MUCH),
        (b"PK\1\2" * 100_001, TOO_MUCH),
        (
            _archive(("schema.json", b"[" + b"[]," * 1_000_000 + b"0]")),
            f"the model's schema has more than 2000000 values{SMALLER}",
        ),
        (
            _arrays(_header((1 << 28,)) + bytes(80)),
            (
                f"{NOT_SOUND}(ValueError: EOF: reading array data, expected 262144 bytes got 80)"
                f"{AGAIN}"
            ),
        ),
        (
            _archive(("schema.json", bytes(65 << 20))),
            f"the model's schema is larger than 64 MiB{SMALLER}",
        ),
        (
            _archive(("schema.json", b"{}"), ("schema.json", b"[]")),
            f"the model file has a member twice{AGAIN}",
        ),
        (_archive((_symbolic_link(), b"/etc/passwd")), f"{NOT_PLAIN}link.npy{AGAIN}"),
        (
            _archive(("schema.json", b"{}"), compression=zipfile.ZIP_LZMA),
            f"{NOT_PLAIN}schema.json{AGAIN}",
        ),
        (
            _archive(("schema.json", b"[" * 100_000)),
            (
                f"{NOT_SOUND}(RecursionError: maximum recursion depth exceeded while decoding a "
                f"JSON array from a unicode string){AGAIN}"
            ),
        ),
        (
            _archive(("other.json", b"{}")),
            (
                f"{NOT_SOUND}(KeyError: \"There is no item named 'schema.json' in the archive\")"
                f"{AGAIN}"
            ),
        ),
    ],
    ids=[
        "bomb",
        "repeated",
        "directory",
        "values",
        "array",
        "schema",
        "twice",
        "link",
        "lzma",
        "deep",
        "empty",
    ],
)
def test_archive_is_rejected(copied: Copy, data: bytes, expected: str) -> None:
    """An archive is bounded and unambiguous before skops reads it."""
    assert problem(copied(model=data)) == expected


def _multiply(state: dict[str, Any]) -> None:
    """Write a few short references that stand for 2^60 nodes."""
    state["penalty"] = tuple_node() | {"__id__": 0}
    for level in range(1, 60):
        again = tuple_node() | {"__id__": level - 1}
        state["penalty"] = tuple_node(state["penalty"], again) | {"__id__": level}


def _repeat(state: dict[str, Any]) -> None:
    """Write two values with one id."""
    state |= {"penalty": text_node("l2") | {"__id__": 1}, "solver": text_node("l1") | {"__id__": 1}}


def _repeat_as_float(state: dict[str, Any]) -> None:
    """Write two values with one id, which is not an integer everywhere."""
    _repeat(state)
    state["solver"]["__id__"] = 1.0


@pytest.mark.parametrize("edit", [_multiply, _repeat, _repeat_as_float])
def test_id_of_different_objects(copied: Copy, edit: Edit) -> None:
    """An id stands for one value, so that what is checked is what is opened, and at once."""
    directory = copied(model=edited(logistic(), edit))
    start = time.monotonic()

    assert problem(directory) == (
        f"{NOT_SOUND}(ValueError: two different objects have the same id){AGAIN}"
    )
    assert time.monotonic() - start < 5


TOUCH = tuple_node(text_node("touch marker"))
PARTIAL = {
    "func": node("FunctionNode", "os.system"),
    "args": TOUCH,
    "kwds": text_node(None),
    "namespace": text_node(None),
}
BOUND = {"func": "format", "obj": text_node("x")}
KD_TREE = "sklearn.neighbors._kd_tree.KDTree"


@pytest.mark.parametrize(
    ("trick", "expected"),
    [
        (node("FunctionNode", "os.system"), "os.system"),
        (node("FunctionNode", "builtins.eval"), "builtins.eval"),
        (node("TypeNode", "subprocess.Popen"), "subprocess.Popen"),
        (
            node("ObjectNode", "sklearn.utils._testing.MinimalClassifier"),
            "sklearn.utils._testing.MinimalClassifier",
        ),
        (
            node("ConstructorFromReduceNode", "os.system", content=TOUCH),
            "os.system as ConstructorFromReduceNode",
        ),
        (
            node("OperatorFuncNode", "operator.methodcaller", attrs=TOUCH),
            "operator.methodcaller as OperatorFuncNode",
        ),
        (node("MethodNode", "builtins.str", content=BOUND), "builtins.str as MethodNode"),
        (
            node("PartialNode", "functools.partial", content=PARTIAL),
            "os.system",
        ),
        # A trusted class is not a container: skops would call it with arguments from the file.
        (node("ListNode", KD_TREE, content=[TOUCH]), f"{KD_TREE} as ListNode"),
        (node("NdArrayNode", KD_TREE, type="numpy", file="a.npy"), f"{KD_TREE} as NdArrayNode"),
        (
            node("NdArrayNode", "numpy.void", type="numpy", file="a.npy"),
            "numpy.void as NdArrayNode",
        ),
        (
            node("LossNode", KD_TREE, content=TOUCH, __reduce__={"args": TOUCH}),
            f"{KD_TREE} as LossNode",
        ),
        (node("CachedNode", "builtins.str", __id__=5), "builtins.str as CachedNode"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_schema_that_names_code(
    copied: Copy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trick: dict[str, Any],
    expected: str,
) -> None:
    """Names and kinds of nodes that are not on the lists are not constructed."""
    monkeypatch.chdir(tmp_path)
    directory = copied(model=edited(logistic(), lambda state: state.update(penalty=trick)))

    assert problem(directory) == untrusted(expected)
    assert not (tmp_path / "marker").exists()


def test_many_untrusted_types_are_counted(copied: Copy) -> None:
    """Five untrusted types are named in order, the others counted."""
    names = {f"a{n}": node("FunctionNode", f"own.f{n}") for n in range(8)}
    directory = copied(model=edited(logistic(), lambda state: state.update(names)))

    assert problem(directory) == untrusted("own.f0, own.f1, own.f2, own.f3, own.f4 and 3 more")


def test_own_function_in_a_transformer(copied: Copy) -> None:
    """A FunctionTransformer with any function but numpy's arithmetic is rejected."""
    pipeline = make_pipeline(FunctionTransformer(np.loadtxt), GaussianNB())
    pipeline[-1].fit(X, SPECIES)

    assert problem(copied(model=skops.io.dumps(pipeline))) == untrusted("numpy.loadtxt")

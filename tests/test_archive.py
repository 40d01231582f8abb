"""A skops archive is bounded and unambiguous before skops sees it."""

import io
import stat
import time
import warnings
import zipfile
from typing import Any

import pytest
from support.saved_models import Copy, edited, logistic, message, opened, text_node, tuple_node


def _archive(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    target = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as written:
        warnings.simplefilter("ignore")  # the duplicate is on purpose
        for name, content in members:
            written.writestr(name, content)
    return target.getvalue()


def _symbolic_link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("link.npy")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def _lzma() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_LZMA) as written:
        written.writestr("schema.json", b"{}")
    return target.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            _archive(("a.npy", bytes(200 << 20)), ("b.npy", bytes(100 << 20))),
            (
                "the model file unpacks to more than 256 MiB or 100000 members; "
                "register a smaller model"
            ),
        ),
        (
            _archive(("schema.json", bytes(65 << 20))),
            "the model's schema is larger than 64 MiB; register a smaller model",
        ),
        (
            _archive(("schema.json", b"{}"), ("schema.json", b"[]")),
            "the model file has a member twice; log and register the model again",
        ),
        (
            _archive((_symbolic_link(), b"/etc/passwd")),
            (
                "the model file has a member that is not a plain file: link.npy; "
                "log and register the model again"
            ),
        ),
        (
            _lzma(),
            (
                "the model file has a member that is not a plain file: schema.json; "
                "log and register the model again"
            ),
        ),
        (
            _archive(("schema.json", b"[" * 100_000)),
            (
                "the model file is not a sound skops archive (RecursionError: maximum recursion "
                "depth exceeded while decoding a JSON array from a unicode string); "
                "log and register the model again"
            ),
        ),
        (
            _archive(("other.json", b"{}")),
            (
                'the model file is not a sound skops archive (KeyError: "There is no item named '
                "'schema.json' in the archive\"); log and register the model again"
            ),
        ),
    ],
    ids=["bomb", "schema", "twice", "link", "lzma", "deep", "empty"],
)
def test_archive_is_refused(copied: Copy, data: bytes, expected: str) -> None:
    """An archive is bounded and unambiguous before skops sees it."""
    directory = copied(model=data)

    assert message(lambda: opened(directory)) == expected


def test_references_do_not_multiply(copied: Copy) -> None:
    """A short schema whose references stand for 2^60 nodes is refused, and at once."""

    def multiply(state: dict[str, Any]) -> None:
        state["penalty"] = tuple_node() | {"__id__": 0}
        for level in range(1, 60):
            again = tuple_node() | {"__id__": level - 1}
            state["penalty"] = tuple_node(state["penalty"], again) | {"__id__": level}

    directory = copied(model=edited(logistic(), multiply))
    start = time.monotonic()

    refusal = message(lambda: opened(directory))

    assert refusal == (
        "the model file is not a sound skops archive (ValueError: two different objects have the "
        "same id); log and register the model again"
    )
    assert time.monotonic() - start < 5


def test_same_id_with_another_value(copied: Copy) -> None:
    """An id stands for one value, so that what is checked is what is opened."""
    one, other = text_node("l2") | {"__id__": 1}, text_node("l1") | {"__id__": 1}
    directory = copied(model=edited(logistic(), lambda s: s.update(penalty=one, solver=other)))

    assert message(lambda: opened(directory)) == (
        "the model file is not a sound skops archive (ValueError: two different objects have the "
        "same id); log and register the model again"
    )

"""MLmodel and the model file that it names: what is read, and what is rejected."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.saved_models import (
    AGAIN,
    AS_SKOPS,
    CODE,
    HERE,
    Copy,
    Edit,
    both_files,
    problem,
    pyfunc_flavor,
    sklearn_flavor,
)

from iris_api.vetting.mlmodel import read_flavor


def _write_too_much(path: Path) -> None:
    path.touch()
    os.truncate(path, (256 << 20) + 1)


def test_flavor_of_a_saved_model(copied: Copy) -> None:
    """A directory of mlflow.sklearn is read field by field."""
    flavor = read_flavor(copied())

    assert flavor.model_file == "model.skops"
    assert flavor.serialization_format == "skops"
    assert flavor.sklearn_version == HERE
    assert set(flavor.signature) == {"inputs", "outputs"}
    assert json.loads(flavor.signature["inputs"])[0]["name"] == "sepal_length"


WRONG = "the MLmodel file cannot be used: "
NO_STRING = f"Input should be a valid string; {AGAIN}"


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda d: d.clear(), f"{WRONG}flavors: Field required; {AGAIN}"),
        (
            lambda d: d.update(flavors=[1]),
            f"{WRONG}flavors: Input should be a valid dictionary; {AGAIN}",
        ),
        (
            lambda d: d.update(flavors={"keras": {}, "on\x1bnx": {}}),
            f"the model has no sklearn flavor (it has: keras, on?nx); {AGAIN}",
        ),
        (
            pyfunc_flavor(model_path="other.skops"),
            f"the model's two flavors name different files; {AGAIN}",
        ),
        (sklearn_flavor(code="code"), CODE),
        (pyfunc_flavor(model_code_path="model.py"), CODE),
        (lambda d: d["flavors"].update(own={"code_paths": ["a.py"]}), CODE),
        (sklearn_flavor(pickled_model=7), f"{WRONG}pickled_model: {NO_STRING}"),
        (sklearn_flavor(sklearn_version=1.9), f"{WRONG}sklearn_version: {NO_STRING}"),
        (
            sklearn_flavor(serialization_format="torch"),
            f"the serialization format torch is not known; {AS_SKOPS}",
        ),
    ],
)
def test_mlmodel_is_rejected(copied: Copy, edit: Edit, expected: str) -> None:
    """Each mistake in MLmodel has its own message."""
    assert problem(copied(edit=edit)) == expected


def test_mlmodel_is_missing(tmp_path: Path) -> None:
    """A folder without MLmodel is not a model."""
    assert problem(tmp_path) == f"the file MLmodel is missing or unreadable; {AGAIN}"


@pytest.mark.parametrize(
    "text", ["a: [", "\0", "a: !!bool maybe", "a: !!int ''", "a: !!timestamp foo"]
)
def test_mlmodel_is_not_yaml(tmp_path: Path, text: str) -> None:
    """Everything that safe YAML does not know is rejected, such as Python objects."""
    (tmp_path / "MLmodel").write_text(text)

    assert problem(tmp_path) == f"the MLmodel file is not valid YAML; {AGAIN}"


@pytest.mark.parametrize("path", ["../other/model.skops", "/etc/passwd", "a/../../model.skops", ""])
def test_model_file_outside_the_folder(copied: Copy, path: str) -> None:
    """The name of a model file leads to a place inside the folder."""
    copied(to="other")

    assert problem(copied(edit=both_files(path))) == (
        f"the file {path} is not inside the model's folder; {AGAIN}"
    )


@pytest.mark.parametrize("name", ["model.skops", "data/model.skops"])
def test_model_file_is_behind_a_symbolic_link(copied: Copy, tmp_path: Path, name: str) -> None:
    """A link is not followed, whether it is the file or a folder above it."""
    directory = copied(edit=both_files(name))
    shutil.move(directory / "model.skops", tmp_path / "model.skops")
    link = directory / Path(name).parts[0]
    link.symlink_to(tmp_path / "model.skops" if name == "model.skops" else tmp_path)

    assert problem(directory) == f"the file {name} is behind a symbolic link; {AGAIN}"


@pytest.mark.parametrize(
    ("replace", "expected"),
    [
        (lambda _: None, f"is missing or unreadable; {AGAIN}"),
        (os.mkfifo, f"is not a plain file; {AGAIN}"),  # and is not waited for
        (_write_too_much, "is larger than 256 MiB; log a smaller one"),
    ],
    ids=["missing", "pipe", "too large"],
)
def test_model_file(copied: Copy, replace: Callable[[Path], object], expected: str) -> None:
    """A model file that cannot be read is named."""
    directory = copied()
    (directory / "model.skops").unlink()
    replace(directory / "model.skops")

    assert problem(directory) == f"the file model.skops {expected}"

"""MLmodel and the model file that it names: what is read, and what is refused."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.saved_models import (
    AGAIN,
    AS_SKOPS,
    CODE,
    FIT,
    FOUR,
    HERE,
    SIGN,
    Copy,
    Edit,
    both_files,
    message,
    pyfunc_flavor,
    sklearn_flavor,
)

from iris_api.schema import FEATURES
from iris_api.vetting.estimator import vet
from iris_api.vetting.mlmodel import read_flavor


def _inputs(value: Any) -> Edit:
    return lambda document: document["signature"].update(inputs=value)


def _columns(*names: str) -> Edit:
    return _inputs(json.dumps([{"name": name, "type": "double"} for name in names]))


def test_flavor_of_a_saved_model(copied: Copy) -> None:
    """A directory of mlflow.sklearn is read field by field."""
    flavor = read_flavor(copied())

    assert flavor.model_file == "model.skops"
    assert flavor.serialization_format == "skops"
    assert flavor.sklearn_version == HERE
    assert flavor.features == FEATURES
    assert set(flavor.signature) == {"inputs", "outputs"}
    assert json.loads(flavor.signature["inputs"])[0]["name"] == "sepal_length"


def test_features_keep_their_stored_order(copied: Copy) -> None:
    """A signature in another order is accepted, and its order is kept."""
    flavor = read_flavor(copied(edit=_columns(*reversed(FEATURES))))

    assert flavor.features == tuple(reversed(FEATURES))


def test_names_of_the_data_set(copied: Copy) -> None:
    """What scikit-learn calls the columns of its own data set means the four features."""
    names = ("petal width (cm)", "sepal_length", "petal length (cm)", "sepal width (cm)")
    flavor = read_flavor(copied(edit=_columns(*names)))

    assert flavor.features == ("petal_width", "sepal_length", "petal_length", "sepal_width")
    assert json.loads(flavor.signature["inputs"])[0]["name"] == "petal width (cm)"


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda d: d.clear(), f"flavors in the MLmodel file should be a mapping; {AGAIN}"),
        (
            lambda d: d.update(flavors=[1]),
            f"flavors in the MLmodel file should be a mapping; {AGAIN}",
        ),
        (
            lambda d: d.update(flavors={"keras": {}, "on\x1bnx": {}}),
            f"the model has no sklearn flavor (it has: keras, on?nx); {AGAIN}",
        ),
        (
            pyfunc_flavor(loader_module="os"),
            f"the model is loaded by os and not by mlflow.sklearn; {AGAIN}",
        ),
        (
            pyfunc_flavor(model_path="other.skops"),
            f"the model's two flavors name different files; {AGAIN}",
        ),
        (sklearn_flavor(code="code"), CODE),
        (pyfunc_flavor(code="code"), CODE),
        (pyfunc_flavor(model_code_path="model.py"), CODE),
        (lambda d: d["flavors"].update(own={"code_paths": ["a.py"]}), CODE),
        (
            sklearn_flavor(pickled_model=7),
            f"pickled_model of the sklearn flavor should be a string; {AGAIN}",
        ),
        (
            sklearn_flavor(sklearn_version=1.9),
            f"sklearn_version of the sklearn flavor should be a string; {AGAIN}",
        ),
        (
            sklearn_flavor(serialization_format="torch"),
            f"the serialization format torch is not known; {AS_SKOPS}",
        ),
        (lambda d: d.update(signature=None), f"the model has no signature; {SIGN}"),
        (_inputs(None), f"the signature has no inputs; {SIGN}"),
        (_inputs("{"), f"the signature's inputs are not a list of columns; {SIGN}"),
        (
            _inputs('[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 4]}}]'),
            f"the signature's columns have no names; {SIGN}",
        ),
        (
            _columns("sepal_length", "sepal_width", "petal_length", "weight"),
            f"{FOUR} (missing: petal_width; foreign: weight); {FIT}",
        ),
        (_columns(*FEATURES, "weight"), f"{FOUR} (missing: none; foreign: weight); {FIT}"),
        (
            _columns(*FEATURES[:3], "Sepal Length (cm)"),
            f"{FOUR} (missing: petal_width; foreign: Sepal Length (cm)); {FIT}",
        ),
        (
            _columns(*FEATURES, "petal width (cm)"),
            f"{FOUR} (missing: none; foreign: none); {FIT}",
        ),
        (
            _columns(*FEATURES[:3], "sepal width (cm)"),
            f"{FOUR} (missing: petal_width; foreign: none); {FIT}",
        ),
        (_columns(*FEATURES[:3]), f"{FOUR} (missing: petal_width; foreign: none); {FIT}"),
        (_columns(*FEATURES, FEATURES[0]), f"{FOUR} (missing: none; foreign: none); {FIT}"),
    ],
)
def test_mlmodel_is_refused(copied: Copy, edit: Edit, expected: str) -> None:
    """Each thing that MLmodel can get wrong has its own line."""
    directory = copied(edit=edit)

    assert message(lambda: vet(directory, trust_pickle=False)) == expected


def test_mlmodel_is_missing(tmp_path: Path) -> None:
    """A folder without MLmodel is no model."""
    assert message(lambda: vet(tmp_path, trust_pickle=False)) == (
        f"the file MLmodel is missing or unreadable; {AGAIN}"
    )


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "!!python/object/apply:os.system ['true']",
        "\0",
        "a: !!bool maybe",
        "a: !!int ''",
        "a: !!timestamp foo",
    ],
)
def test_mlmodel_is_not_yaml(tmp_path: Path, text: str) -> None:
    """What safe YAML does not know, Python objects among it, is refused."""
    (tmp_path / "MLmodel").write_text(text)

    assert message(lambda: vet(tmp_path, trust_pickle=False)) == (
        f"the MLmodel file is not valid YAML; {AGAIN}"
    )


def test_code_folder(copied: Copy) -> None:
    """A code folder is refused even if no flavor names it."""
    directory = copied()
    (directory / "code").mkdir()

    assert message(lambda: vet(directory, trust_pickle=False)) == CODE


@pytest.mark.parametrize("path", ["../other/model.skops", "/etc/passwd", "a/../../model.skops", ""])
def test_model_file_outside_the_folder(copied: Copy, path: str) -> None:
    """A model file is inside the folder by its name alone."""
    copied(to="other")
    directory = copied(edit=both_files(path))

    assert message(lambda: vet(directory, trust_pickle=False)) == (
        f"the file {path} is not inside the model's folder; {AGAIN}"
    )


def test_model_file_missing(copied: Copy) -> None:
    """A model file that was not downloaded is named."""
    directory = copied()
    (directory / "model.skops").unlink()

    assert message(lambda: vet(directory, trust_pickle=False)) == (
        f"the file model.skops is missing or unreadable; {AGAIN}"
    )


@pytest.mark.parametrize("name", ["model.skops", "data/model.skops"])
def test_model_file_is_behind_a_symbolic_link(copied: Copy, tmp_path: Path, name: str) -> None:
    """A link is not followed, be it the file or a folder above it."""
    directory = copied(edit=both_files(name))
    shutil.move(directory / "model.skops", tmp_path / "model.skops")
    link = directory / Path(name).parts[0]
    link.symlink_to(tmp_path / "model.skops" if name == "model.skops" else tmp_path)

    assert message(lambda: vet(directory, trust_pickle=False)) == (
        f"the file {name} is behind a symbolic link; {AGAIN}"
    )


def test_model_file_is_a_pipe(copied: Copy) -> None:
    """A pipe is refused and not waited for."""
    directory = copied()
    (directory / "model.skops").unlink()
    os.mkfifo(directory / "model.skops")

    assert message(lambda: vet(directory, trust_pickle=False)) == (
        f"the file model.skops is not a plain file; {AGAIN}"
    )


def test_model_file_is_too_large(copied: Copy) -> None:
    """A model file beyond the limit is not read."""
    directory = copied()
    os.truncate(directory / "model.skops", (256 << 20) + 1)

    assert message(lambda: vet(directory, trust_pickle=False)) == (
        "the file model.skops is larger than 256 MiB; log a smaller one"
    )

"""A trusted pickle is opened in a limited process of its own, and becomes a skops file."""

import ast
import os
import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import pandas as pd
import pytest
from support.saved_models import (
    AGAIN,
    AS_SKOPS,
    HERE,
    OWN,
    SPECIES,
    Copy,
    X,
    bomb,
    both_files,
    logistic,
    message,
)

from iris_api.schema import FEATURES
from iris_api.vetting.archive import VettingError
from iris_api.vetting.estimator import open_estimator
from iris_api.vetting.mlmodel import read_flavor
from iris_api.vetting.pickles import convert_pickle


@pytest.mark.thorough
def test_order_of_a_pickle(copied: Copy, tmp_path: Path) -> None:
    """A pickle that was fitted in another order than its signature is refused as well."""
    frame = pd.DataFrame(X, columns=list(FEATURES))[list(FEATURES[::-1])]
    directory = copied("pickle", model=pickle.dumps(logistic().fit(frame, SPECIES)))
    flavor = read_flavor(directory)

    convert_pickle(directory, flavor, tmp_path / "out.skops", timeout=60)

    assert "in another order than its signature" in message(
        lambda: open_estimator(
            tmp_path, replace(flavor, model_file="out.skops", serialization_format="skops")
        )
    )


def _convert(directory: Path, destination: Path, timeout: float = 60) -> None:
    convert_pickle(directory, read_flavor(directory), destination, timeout=timeout)


@pytest.mark.parametrize(
    "name",
    [
        "pickle",
        pytest.param("cloudpickle", marks=pytest.mark.thorough),
        pytest.param("joblib", marks=pytest.mark.thorough),
    ],
)
def test_pickle_is_converted(copied: Copy, tmp_path: Path, name: str) -> None:
    """A sound pickle becomes a skops file that opens like any other."""
    if name == "joblib":
        directory = copied("pickle", edit=both_files("model.joblib"))
        joblib.dump(logistic(), directory / "model.joblib")
    else:
        dumps = cloudpickle.dumps if name == "cloudpickle" else pickle.dumps
        directory = copied(name, model=dumps(logistic()))
    flavor = read_flavor(directory)

    convert_pickle(directory, flavor, tmp_path / "out.skops", timeout=60)
    estimator = open_estimator(
        tmp_path, replace(flavor, model_file="out.skops", serialization_format="skops")
    )

    assert flavor.serialization_format == name
    assert (estimator.predict(X) == logistic().predict(X)).all()


def test_pickle_sees_no_secrets(
    copied: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that opens a pickle has a handful of harmless variables and no input."""
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    seen = tmp_path / "seen"
    found = "(dict(os.environ), sys.stdin.read())"
    code = f"import os, sys; open({str(seen)!r}, 'w').write(repr({found}))"
    directory = copied("pickle", model=bomb(code))

    with pytest.raises(VettingError):
        _open_estimator_from(directory, tmp_path)

    assert "hunter2" not in seen.read_text()
    environment, stdin = ast.literal_eval(seen.read_text())
    assert set(environment) == {
        "PATH",
        "LANG",
        "HOME",
        "TMPDIR",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
    }
    assert stdin == ""


def _open_estimator_from(directory: Path, tmp_path: Path) -> Any:
    """Convert and open, as the import does."""
    flavor = read_flavor(directory)
    convert_pickle(directory, flavor, tmp_path / "out.skops", timeout=60)
    return open_estimator(
        tmp_path, replace(flavor, model_file="out.skops", serialization_format="skops")
    )


def test_converted_file_is_not_trusted(copied: Copy, tmp_path: Path) -> None:
    """What a pickle turns into goes through the same list."""
    directory = copied("pickle", model=pickle.dumps([os.system]))

    assert message(lambda: _open_estimator_from(directory, tmp_path)) == (
        f"the model asks for types that are not trusted: posix.system; {OWN}"
    )


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("bytearray(8 << 30)", "MemoryError"),
        ("raise ValueError('bo\\x1bom ' + 'x' * 500)", "ValueError: bo?om " + "x" * 182),
        ("import sys; sys.exit(3)", "its process failed and said nothing"),
        ("import os; os.kill(os.getpid(), 9)", "its process was killed by signal 9"),
        ("import os; os._exit(0)", "the model file model.skops is missing or unreadable"),
    ],
)
def test_pickle_that_fails(copied: Copy, tmp_path: Path, code: str, problem: str) -> None:
    """A failure of the process is one printable line, and nothing is written."""
    directory = copied("pickle", model=bomb(code))

    refusal = message(lambda: _convert(directory, tmp_path / "out.skops"))

    assert refusal == (
        f"the pickle was not converted: {problem}; {AS_SKOPS}"
        if "missing" not in problem
        else f"{problem}; {AGAIN}"
    )
    assert not (tmp_path / "out.skops").exists()


def test_pickle_of_another_version(copied: Copy, tmp_path: Path) -> None:
    """A pickled estimator of another version of scikit-learn is not relabelled as one of this."""
    model = pickle.dumps(logistic()).replace(HERE.encode(), b"1.2.2")
    assert len(HERE) == len("1.2.2")
    directory = copied("pickle", model=model)

    refusal = message(lambda: _convert(directory, tmp_path / "out.skops"))

    assert refusal == (
        "the pickle was not converted: it was made by scikit-learn 1.2.2 and this is "
        f"{HERE}; {AS_SKOPS}"
    )


def test_pickle_without_end(copied: Copy, tmp_path: Path) -> None:
    """A pickle that takes too long is stopped."""
    directory = copied("pickle", model=bomb("while True: pass"))

    assert message(lambda: _convert(directory, tmp_path / "out.skops", timeout=1.5)) == (
        f"the pickle was not converted: it took longer than 1.5 s; {AS_SKOPS}"
    )


def test_children_of_a_pickle_do_not_outlive_it(copied: Copy, tmp_path: Path) -> None:
    """A process that a pickle leaves behind is killed, if it could be started at all."""
    alive = tmp_path / "alive"
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        f"    open({str(alive)!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        f"while not os.path.exists({str(alive)!r}): time.sleep(0.01)\n"
        "time.sleep(0.2)\n"
        "raise SystemExit('left')"
    )
    directory = copied("pickle", model=bomb(code))

    with pytest.raises(VettingError):
        _convert(directory, tmp_path / "out.skops")

    if alive.exists():  # as root; others are not allowed to start one
        process = Path("/proc", alive.read_text())
        deadline = time.monotonic() + 5
        while process.exists() and "(zombie)" not in (process / "status").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)

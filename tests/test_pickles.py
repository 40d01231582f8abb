"""A trusted pickle is opened in a limited process of its own, and becomes a skops file."""

import ast
import os
import pickle
import time
from pathlib import Path

import cloudpickle
import joblib
import pytest
from support.saved_models import (
    AGAIN,
    AS_SKOPS,
    HERE,
    Copy,
    X,
    bomb,
    both_files,
    logistic,
    problem,
    untrusted,
)

from iris_api.vetting import pickle_conversion
from iris_api.vetting.estimator import vet
from iris_api.vetting.mlmodel import read_flavor


@pytest.mark.parametrize(
    "name",
    [
        "pickle",
        pytest.param("cloudpickle", marks=pytest.mark.thorough),
        pytest.param("joblib", marks=pytest.mark.thorough),
    ],
)
def test_pickle_is_converted(copied: Copy, name: str) -> None:
    """A sound pickle becomes a skops file that opens like any other."""
    if name == "joblib":
        directory = copied("pickle", edit=both_files("model.joblib"))
        joblib.dump(logistic(), directory / "model.joblib")
    else:
        dumps = cloudpickle.dumps if name == "cloudpickle" else pickle.dumps
        directory = copied(name, model=dumps(logistic()))

    vetted = vet(directory, trust_pickle=True)

    assert read_flavor(directory).serialization_format == name
    assert vetted.skops is not None
    assert vetted.skops.startswith(b"PK")
    assert (vetted.estimator.predict(X) == logistic().predict(X)).all()


def test_pickle_sees_no_secrets(
    copied: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that opens a pickle has a handful of harmless variables and no input."""
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    seen = tmp_path / "seen"
    found = "(dict(os.environ), sys.stdin.read())"
    code = f"import os, sys; open({str(seen)!r}, 'w').write(repr({found}))"

    problem(copied("pickle", model=bomb(code)), trust_pickle=True)

    assert "hunter2" not in seen.read_text()
    environment, stdin = ast.literal_eval(seen.read_text())
    assert sorted(environment) == (
        ["HOME", "LANG", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH", "TMPDIR"]
    )
    assert stdin == ""


def test_converted_file_is_not_trusted(copied: Copy) -> None:
    """A converted pickle goes through the same list."""
    directory = copied("pickle", model=pickle.dumps([os.system]))

    assert problem(directory, trust_pickle=True) == untrusted("posix.system")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("bytearray(1 << 30)", "it took more than 1024 MiB of memory"),
        ("raise ValueError('bo\\x1bom ' + 'x' * 500)", "ValueError: bo?om " + "x" * 182),
        ("import sys; sys.exit(3)", "its process failed without a message"),
        ("import os; os.kill(os.getpid(), 9)", "its process was killed by signal 9"),
        ("import os; os._exit(0)", "the file model.skops is missing or unreadable"),
    ],
)
def test_pickle_that_fails(copied: Copy, code: str, expected: str) -> None:
    """A failure of the process is one printable line."""
    directory = copied("pickle", model=bomb(code))

    assert problem(directory, trust_pickle=True) == (
        f"{expected}; {AGAIN}"
        if "missing" in expected
        else f"the pickle was not converted: {expected}; {AS_SKOPS}"
    )


def test_pickle_of_another_version(copied: Copy) -> None:
    """A pickled estimator of another version of scikit-learn is not relabelled as one of this."""
    model = pickle.dumps(logistic()).replace(HERE.encode(), b"1.2.2")
    assert len(HERE) == len("1.2.2")

    assert problem(copied("pickle", model=model), trust_pickle=True) == (
        "the pickle was not converted: it was made by scikit-learn 1.2.2 and this is "
        f"{HERE}; {AS_SKOPS}"
    )


def test_pickle_without_end(copied: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle that takes too long is stopped."""
    monkeypatch.setattr(pickle_conversion, "TIMEOUT_SECONDS", 1)
    directory = copied("pickle", model=bomb("while True: pass"))

    assert problem(directory, trust_pickle=True) == (
        f"the pickle was not converted: it took longer than 1 s; {AS_SKOPS}"
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

    problem(copied("pickle", model=bomb(code)), trust_pickle=True)

    if alive.exists():  # as root; other users are not allowed to start one
        process = Path("/proc", alive.read_text())
        deadline = time.monotonic() + 5
        while process.exists() and "(zombie)" not in (process / "status").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)

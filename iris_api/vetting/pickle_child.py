"""The program that opens one pickle, in a process of its own with Python's isolated mode.

It reads `model` and writes `model.skops`, both in its working folder. It imports nothing of this
project, which isolated mode does not see.
"""

import importlib
import pickle
import resource
import sys
import warnings
from pathlib import Path
from typing import Any


def limit(memory: int, file_size: int, seconds: int) -> None:
    """Limit this process and its children: memory and files in bytes, processor time in seconds."""
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),  # no other process or thread; the kernel exempts root
    ):
        resource.setrlimit(kind, (most, most))


def load(serialization_format: str) -> Any:
    """Open the pickle, which runs any code that it contains."""
    if serialization_format == "joblib":
        return importlib.import_module("joblib").load("model")
    with Path("model").open("rb") as file:
        return pickle.load(file)  # noqa: S301


def main() -> None:
    """Convert the file, unless another minor version of scikit-learn made it."""
    limit(*map(int, sys.argv[2:]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator = load(sys.argv[1])
    # Imported here, because they take seconds, which only a sound pickle needs.
    import skops.io  # noqa: PLC0415
    from sklearn.exceptions import InconsistentVersionWarning  # noqa: PLC0415

    for found in (warning.message for warning in caught):
        if isinstance(found, InconsistentVersionWarning):
            made_by, here = found.original_sklearn_version, found.current_sklearn_version
            if made_by.split(".")[:2] != here.split(".")[:2]:
                # skops would record the installed version in its place.
                sys.exit(f"it was made by scikit-learn {made_by} and this is {here}")
    skops.io.dump(estimator, "model.skops")


if __name__ == "__main__":
    main()

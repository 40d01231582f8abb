"""The process that opens a pickle: started by `unpickle`, alone, with Python's isolated mode.

It imports nothing of this project, because isolated mode does not see it. It reads `model` and
writes `model.skops`, both in its working folder.
"""

import importlib
import pickle
import resource
import sys
import warnings
from pathlib import Path
from typing import Any


def limit(memory: int, file_size: int, seconds: int) -> None:
    """Give up what opening a model does not need, for this process and all that it starts."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # No process and no thread beyond this one; the kernel does not hold root to it.
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def read(serialization_format: str) -> Any:
    """Open the pickle, which runs what is in it."""
    if serialization_format == "joblib":
        return importlib.import_module("joblib").load("model")
    with Path("model").open("rb") as file:
        return pickle.load(file)  # noqa: S301


def check_versions(caught: list[warnings.WarningMessage]) -> None:
    """Stop if it was another minor version, which skops would overwrite with the one of here."""
    from sklearn.exceptions import InconsistentVersionWarning  # noqa: PLC0415

    for warning in caught:
        if isinstance(found := warning.message, InconsistentVersionWarning):
            made_by, here = found.original_sklearn_version, found.current_sklearn_version
            if made_by.split(".")[:2] != here.split(".")[:2]:
                sys.exit(f"it was made by scikit-learn {made_by} and this is {here}")


def main() -> None:
    """Convert one file."""
    limit(*(int(number) for number in sys.argv[2:]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator = read(sys.argv[1])
    check_versions(caught)
    # Seconds of imports, and only a pickle that could be opened needs them.
    import skops.io  # noqa: PLC0415

    skops.io.dump(estimator, "model.skops")


if __name__ == "__main__":
    main()

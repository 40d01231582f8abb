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


def main() -> None:
    """Convert the file, unless another minor version of scikit-learn made it."""
    memory, file_size, seconds = map(int, sys.argv[2:])
    for kind, most in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),  # no other process or thread; the kernel exempts root
    ):
        resource.setrlimit(kind, (most, most))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Either runs any code that the pickle contains.
        if sys.argv[1] == "joblib":
            estimator = importlib.import_module("joblib").load("model")
        else:
            estimator = pickle.loads(Path("model").read_bytes())  # noqa: S301
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
    try:
        main()
    except MemoryError:
        sys.exit(f"it took more than {int(sys.argv[2]) >> 20} MiB of memory")

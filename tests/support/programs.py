"""Programs that some tests need: from the environment of the tests, or from the system."""

import os
import shutil
import sys
from pathlib import Path

import pytest


def program(name: str, package: str) -> str:
    """Return the path of a program, or skip the test; where `CI` is set, fail instead.

    Args:
        name: name of the program.
        package: package that provides it.
    """
    folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
    path = shutil.which(name, path=os.pathsep.join(folders))
    if path is None:
        reason = f"{name} is not installed; the package {package} provides it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path

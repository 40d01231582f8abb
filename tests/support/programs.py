"""Programs that some tests need and that no Python package brings."""

import os
import shutil

import pytest


def program(name: str, package: str) -> str:
    """Return the path of a program, or skip the test; where `CI` is set, fail instead.

    Args:
        name: of the program.
        package: of Debian that has it.
    """
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is not installed: apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path

"""Programs of the environment or of the system, and rights, that some tests need."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

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
        lacks(f"{name} is not installed; the package {package} provides it")
    return path


def lacks(reason: str) -> NoReturn:
    """Skip a test that this machine cannot run; where `CI` is set, fail instead."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def schemathesis(url: str, folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Ask a service what its OpenAPI document allows, and compare the answers with it.

    Args:
        url: address of the service.
        folder: working folder of the program.
        options: which operations, how many requests, and which checks are left out.
    """
    return subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "run"),
            *(f"{url}/docs.json", "--checks", "all"),
            *("--generation-database", "none", "--no-color", *options),
        ],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=folder,
    )

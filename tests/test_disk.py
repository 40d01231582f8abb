"""An import where the disk, or the permission to write to it, does not suffice."""

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Tracking
from support import servers
from support.inprocess import Fails, Run, snapshot

pytestmark = pytest.mark.thorough


@pytest.fixture(params=["16k", "44k"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Give a disk that is full after the first files, or when the entry is made."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting takes root; test_file_size_limit runs without")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(run: Run, small_disk: Path) -> None:
    """No space is left for the model."""
    done = run(BENTOML_HOME=str(small_disk))

    assert done.status == 1
    assert done.out == ""
    assert done.last.startswith(f"error: {small_disk}")
    assert done.last.endswith(
        ": No space left on device; free some space, or set BENTOML_HOME to another folder"
    )
    assert snapshot(small_disk) == {}


def test_file_size_limit(tracking: Tracking, tmp_path: Path) -> None:
    """A file that may not grow, of the command line itself, on any machine."""
    home = tmp_path / "bentoml"
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 1; exec {shlex.quote(sys.executable)} import_model.py"],
        env=tracking.env | {"BENTOML_HOME": str(home)},
        cwd=servers.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == (
        f"error: {home}: File too large; raise the limit of the file size, ulimit -f, "
        "or set BENTOML_HOME to another folder"
    )
    assert snapshot(home) == {}


@contextlib.contextmanager
def _ordinary_user() -> Iterator[None]:
    """Take root's rights from this process for a while, if it has them."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_store_without_permission(run: Run) -> None:
    """A BENTOML_HOME in a folder that somebody else may write."""
    with _ordinary_user():
        done = run(BENTOML_HOME="/usr/iris")

    assert done.status == 1
    assert done.out == ""
    assert done.last == (
        "error: /usr/iris: Permission denied; give this user the permission, "
        "or set BENTOML_HOME to another folder"
    )


@pytest.mark.parametrize("option", ["--timeout=60", "--list"])
def test_store_that_cannot_be_read(run: Run, tmp_path: Path, option: str) -> None:
    """A BENTOML_HOME that nobody may look into, for the import and for the list."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0)
    with _ordinary_user():
        done = run(option, BENTOML_HOME=str(folder))

    assert done.status == 1
    assert done.out == ""
    assert done.last.startswith(f"error: {folder}")
    assert done.last.endswith(
        ": Permission denied; give this user the permission, or set BENTOML_HOME to another folder"
    )


def test_store_that_is_a_file(fails: Fails, tmp_path: Path) -> None:
    """A BENTOML_HOME that is no folder."""
    path = tmp_path / "file"
    path.touch()
    done = fails(BENTOML_HOME=str(path))

    assert done.last == (
        f"error: {path}/staging: Not a directory; "
        "remove the file that stands where a folder should be, "
        "or set BENTOML_HOME to another folder"
    )

"""An import fails with one line where the disk is full or may not be written to."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import warm
from support.fake_registry import fake_registry
from support.programs import lacks
from support.warm import Fails, snapshot

from iris_api.errors import explain

pytestmark = pytest.mark.thorough

NOBODY = 65534
"""The user id of no one, on any Unix."""

OTHER_HOME = "or set BENTOML_HOME to another folder"
FULL = f": {os.strerror(errno.ENOSPC)}; free some space, {OTHER_HOME}"
READ_ONLY = f": {os.strerror(errno.EROFS)}; mount it writable, {OTHER_HOME}"
TOO_LARGE = f": {os.strerror(errno.EFBIG)}; raise the limit of the file size, ulimit -f, "


@pytest.fixture(scope="module")
def env(model_files: dict[str, bytes], plain_env: dict[str, str]) -> Iterator[dict[str, str]]:
    """Give the environment of an import from a registry with each version of IrisModel."""
    with fake_registry(model_files) as registry:
        yield plain_env | {"MLFLOW_TRACKING_URI": registry.url}


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Mount a file system in memory, by default of one mebibyte, where that is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = getattr(request, "param", "1m")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        lacks("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("disk", ["16k", "40k"], indirect=True)
def test_full_disk_at_the_first_import(env: dict[str, str], tmp_path: Path, disk: Path) -> None:
    """Without space for the download, or for the entry, nothing is left on the disk."""
    done = warm.run(tmp_path, env=env | {"BENTOML_HOME": str(disk)})

    assert done.status == 1
    assert done.stdout == ""
    assert done.error.startswith(str(disk))
    assert done.error.endswith(FULL)
    assert snapshot(disk) == {}


def test_read_only_disk(env: dict[str, str], tmp_path: Path, disk: Path) -> None:
    """A disk that is mounted read-only is not called full, by an import or by a worker."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    done = warm.run(tmp_path, env=env | {"BENTOML_HOME": str(disk)})
    with pytest.raises(OSError, match="Read-only") as raised:
        (disk / "file").touch()

    assert done.error == f"{disk}/staging{READ_ONLY}"
    assert explain(raised.value, disk) == f"{disk}/file{READ_ONLY}"


def test_read_only_folder(tmp_path: Path) -> None:
    """The same error has the same fix where the test may not mount a disk."""
    denied = OSError(errno.EROFS, os.strerror(errno.EROFS))

    assert explain(denied, tmp_path) == f"{tmp_path}{READ_ONLY}"


@pytest.mark.parametrize("free", [0, 8, 16, 24, 32, 64])
def test_full_disk(env: dict[str, str], tmp_path: Path, disk: Path, free: int) -> None:
    """An import on a disk with a few free kibibytes changes nothing, or succeeds whole."""
    home = disk / "home"
    env = env | {"BENTOML_HOME": str(home)}
    assert warm.run(tmp_path, "models:/IrisModel/1", env=env).status == 0
    blocks = os.statvfs(disk)
    (disk / "filler").write_bytes(b"x" * (blocks.f_bavail * blocks.f_bsize - free * 1024))
    before = warm.snapshot(home)
    done = warm.run(tmp_path, "models:/IrisModel/2", env=env)

    if free == 64:  # an entry takes less: seven files, of one page or a few each
        assert done.status == 0, done.stderr
    else:
        assert done.status == 1, done
        assert done.error.startswith(str(home))
        assert done.error.endswith(FULL)
        assert warm.snapshot(home) == before
    warm.check(home, tmp_path)


@pytest.mark.parametrize("has_entry", [False, True], ids=["empty", "one entry"])
def test_file_size_limit(env: dict[str, str], tmp_path: Path, has_entry: bool) -> None:
    """An import whose files exceed the limit of a process changes nothing."""
    home = tmp_path / "home"
    env = env | {"BENTOML_HOME": str(home)}
    if has_entry:
        assert warm.run(tmp_path, "models:/IrisModel/1", env=env).status == 0
    before = snapshot(home)
    done = warm.run(tmp_path, "models:/IrisModel/2", env=env, limit=5000)

    assert done.status == 1, done
    assert done.stdout == ""
    assert done.error.startswith(str(home))
    assert done.error.endswith(TOO_LARGE + OTHER_HOME)
    assert snapshot(home) == before
    warm.check(home, tmp_path)


@pytest.mark.parametrize(
    ("home", "option"),
    [("/usr/iris", "--timeout=60"), ("closed", "--timeout=60"), ("closed", "--list")],
)
def test_home_without_permission(
    env: dict[str, str], tmp_path: Path, home: str, option: str
) -> None:
    """BENTOML_HOME may not be made, or not be read, by an import or by the list."""
    (tmp_path / "closed").mkdir(mode=0)
    folder = tmp_path / home
    done = warm.run(tmp_path, option, env=env | {"BENTOML_HOME": str(folder)}, user=NOBODY)

    assert done.status == 1
    assert done.stdout == ""
    assert done.last.startswith(f"error: {folder}")
    assert done.last.endswith(f": Permission denied; give this user the permission, {OTHER_HOME}")


def test_home_that_is_a_file(fails: Fails, tmp_path: Path) -> None:
    """BENTOML_HOME is a file."""
    path = tmp_path / "file"
    path.touch()
    done = fails(BENTOML_HOME=str(path))

    assert done.last == (
        f"error: {path}/staging: Not a directory; "
        f"remove the file that stands where a folder should be, {OTHER_HOME}"
    )

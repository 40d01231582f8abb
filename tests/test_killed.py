"""An import that is killed, raced or out of space leaves a store that answers as before."""

import errno
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import warm
from support.fake_registry import FakeRegistry, fake_registry

pytestmark = pytest.mark.thorough

KILLS = 200
HOMES = 10
SEED = 20261123


@pytest.fixture(scope="module")
def registry(model_files: dict[str, bytes]) -> Iterator[FakeRegistry]:
    """Run a registry that has each version of IrisModel that it is asked for."""
    with fake_registry(model_files) as registry:
        yield registry


@pytest.fixture(scope="module")
def env(registry: FakeRegistry, plain_env: dict[str, str]) -> dict[str, str]:
    """Give the environment of an import, but for the store."""
    return plain_env | {"MLFLOW_TRACKING_URI": registry.url}


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def _check(home: Path, output: Path) -> None:
    """Load each entry of a store, and the active one, once."""
    done = warm.end(warm.read(output, home, once=True), output)
    assert done.status == 0, done.stderr
    latest = home / "models" / "irismodel" / "latest"
    assert not latest.exists() or (latest.parent / latest.read_text() / "model.yaml").is_file()


def test_killed_at_any_moment(tmp_path: Path, env: dict[str, str]) -> None:
    """200 imports killed by SIGKILL: whatever a reader finds, then or later, loads and answers.

    Half of the moments are drawn over the whole of an import and half over the few milliseconds
    in which the store is written. A reader runs all the while; the next import clears what is
    left, and nothing is left elsewhere.
    """
    env = env | {"TMPDIR": str(_folder(tmp_path, "temporary"))}
    chance = random.Random(SEED)  # noqa: S311 (moments, no secrets)
    output, reading = _folder(tmp_path, "output"), _folder(tmp_path, "reading")
    duration = 0.0
    for number in range(4):  # the last is measured, when everything is warm
        started = time.monotonic()
        done = warm.run(output, "models:/IrisModel/1", env=_at(env, tmp_path / f"first-{number}"))
        assert done.status == 0, done.stderr
        duration = time.monotonic() - started
    killed, left, staged, loads = 0, 0, 0, 0
    for number in range(HOMES):
        home = _folder(tmp_path, f"home-{number}")
        reader = warm.read(reading, home)
        version, goal = 0, killed + KILLS // HOMES
        while killed < goal:
            version += 1
            process = warm.start(output, f"models:/IrisModel/{version}", env=_at(env, home))
            if version % 2:
                process.join(duration * chance.uniform(0, 1.3))
            else:
                while process.is_alive() and not list(home.glob("staging/*/models")):
                    time.sleep(0.0005)
                process.join(chance.uniform(0, 0.02))
            process.kill()
            process.join()
            killed += process.exitcode == -signal.SIGKILL
            left += len(list(home.glob("staging/*")))
            staged += len(list(home.glob("staging/*/models")))
        reader.terminate()
        done = warm.end(reader, reading)
        assert done.status == 0, done.stderr
        loads += int(done.stdout.split()[1])
        _check(home, reading)
        done = warm.run(output, "models:/IrisModel/999", env=_at(env, home))
        assert done.status == 0, done.stderr
        assert list(home.glob("staging/*")) == []
        _check(home, reading)

    print(f"{duration=:.2f} {killed=} {left=} {staged=} {loads=}")
    assert list((tmp_path / "temporary").iterdir()) == []
    assert killed == KILLS
    assert left > KILLS // 4
    assert staged > KILLS // 10
    assert loads > KILLS


def _at(env: dict[str, str], home: Path) -> dict[str, str]:
    return env | {"BENTOML_HOME": str(home)}


@pytest.mark.parametrize("versions", [(1, 1, 1), (1, 2, 3)], ids=["same", "different"])
def test_imports_at_once(
    tmp_path: Path, registry: FakeRegistry, env: dict[str, str], versions: tuple[int, ...]
) -> None:
    """Three imports at once all succeed, and leave each version once and one of them active."""
    registry.delay = 0.02
    home = tmp_path / "home"
    running = []
    for number, version in enumerate(versions):
        output = _folder(tmp_path, f"output-{number}")
        uri = f"models:/IrisModel/{version}"
        running.append((warm.start(output, uri, env=_at(env, home)), output))
    done = [warm.end(process, output) for process, output in running]
    registry.delay = 0

    assert [one.status for one in done] == [0, 0, 0], done
    tags = {one.stdout.strip() for one in done}
    assert len(tags) == len(set(versions))
    entries = {f"irismodel:{path.parent.name}" for path in home.glob("models/*/*/model.yaml")}
    assert entries == tags
    assert f"irismodel:{(home / 'models/irismodel/latest').read_text()}" in tags
    assert list(home.glob("staging/*")) == []
    _check(home, tmp_path)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of one mebibyte in memory, where that is allowed."""
    folder = _folder(tmp_path, "full")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("free", [0, 8, 16, 24, 32, 64])
def test_full_disk(tmp_path: Path, env: dict[str, str], full: Path, free: int) -> None:
    """An import on a disk with a few free kibibytes fails with one line, or succeeds whole."""
    home = full / "home"
    assert warm.run(tmp_path, "models:/IrisModel/1", env=_at(env, home)).status == 0
    blocks = os.statvfs(full)
    filler = b"x" * (blocks.f_bavail * blocks.f_bsize - free * 1024)
    (full / "filler").write_bytes(filler)
    before = warm.digest(home)
    done = warm.run(tmp_path, "models:/IrisModel/2", env=_at(env, home))

    if free == 64:  # an entry takes less: seven files, at a page or a few each
        assert done.status == 0, done.stderr
    else:
        assert done.status == 1, done
        assert done.error.startswith(str(home))
        assert done.error.endswith(
            f": {os.strerror(errno.ENOSPC)}; free some space, or set BENTOML_HOME to another folder"
        )
        assert warm.digest(home) == before
    _check(home, tmp_path)


def test_limit_of_the_file_size(tmp_path: Path, env: dict[str, str]) -> None:
    """An import whose files may not be as long as they are fails, and the store is as before."""
    home = tmp_path / "home"
    assert warm.run(tmp_path, "models:/IrisModel/1", env=_at(env, home)).status == 0
    before = warm.digest(home)
    done = warm.run(tmp_path, "models:/IrisModel/2", env=_at(env, home), limit=5000)

    assert done.status == 1, done
    assert done.error.endswith(
        f": {os.strerror(errno.EFBIG)}; raise the limit of the file size, ulimit -f, "
        "or set BENTOML_HOME to another folder"
    )
    assert warm.digest(home) == before
    _check(home, tmp_path)

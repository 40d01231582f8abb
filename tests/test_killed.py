"""An import that is killed or raced leaves a store from which every entry can be loaded."""

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import warm
from support.fake_registry import FakeRegistry, fake_registry

pytestmark = pytest.mark.thorough

KILLS = 80
HOMES = 4
SEED = 20261123


@pytest.fixture(scope="module")
def registry(model_files: dict[str, bytes]) -> Iterator[FakeRegistry]:
    """Run a registry that has each version of IrisModel that it is asked for."""
    with fake_registry(model_files) as registry:
        yield registry


@pytest.fixture(scope="module")
def env(registry: FakeRegistry, plain_env: dict[str, str]) -> dict[str, str]:
    """Give the environment of an import, except for the store."""
    return plain_env | {"MLFLOW_TRACKING_URI": registry.url}


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def _at(env: dict[str, str], home: Path) -> dict[str, str]:
    return env | {"BENTOML_HOME": str(home)}


def test_killed_at_any_moment(tmp_path: Path, env: dict[str, str]) -> None:
    """After 80 imports ended by SIGKILL, every entry that a reader finds loads and answers.

    Half of the moments are drawn over the whole of an import and half over the few milliseconds
    in which the store is written. A reader runs all the time; the next import removes what is
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
        warm.check(home, reading)
        done = warm.run(output, "models:/IrisModel/999", env=_at(env, home))
        assert done.status == 0, done.stderr
        assert list(home.glob("staging/*")) == []
        warm.check(home, reading)

    print(f"{duration=:.2f} {killed=} {left=} {staged=} {loads=}")
    assert list((tmp_path / "temporary").iterdir()) == []
    assert killed == KILLS
    assert left > KILLS // 4
    assert staged > KILLS // 10
    assert loads > KILLS


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
    warm.check(home, tmp_path)

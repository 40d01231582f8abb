"""The command lines import_model.py and train_model.py, forked from a process with their modules.

A new process spends seconds on importing mlflow and scikit-learn. A forked one has them, and its
own signals, caches, output and exit status like any other. Only the pauses between the retries of a
request are shorter, and a file is called slow sooner.
"""

import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import servers

PRELOADED = [
    "iris_api.importing.cli",
    "iris_api.model.loaded_model",
    "iris_api.compiling.conversion",
    "iris_api.importing.pipeline",
    "iris_api.vetting.pickle_conversion",
    "iris_api.vetting.estimator",
    "iris_api.importing.listing",
    "iris_api.importing.watcher",
    # An ordinary user may not read the folder of root's Python.
    "multiprocessing.popen_fork",
    "mlflow.tracking.request_header.registry",
]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([*PRELOADED, "support.warm"])


@dataclass(frozen=True)
class Done:
    """How an import ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The one line that begins with `error:`, which is the last one."""
        lines = self.stderr.splitlines()
        assert [line for line in lines if line.startswith("error:")] == lines[-1:], self.stderr
        return lines[-1].removeprefix("error: ")

    @property
    def last(self) -> str:
        """The last line of standard error."""
        return self.stderr.splitlines()[-1]


Run = Callable[..., Done]
"""Runs the command line with its arguments, and with variables as keywords."""

Fails = Callable[..., Done]
"""A `Run` that takes the `status` to fail with, too."""


def runner(output: Path, env: Mapping[str, str]) -> Run:
    """Return a function that runs import_model.py with its arguments and more variables."""
    return lambda *arguments, **more: run(output, *arguments, env={**env, **more})


def failing(run: Run, store: Path) -> Fails:
    """Return a function that runs what must fail, and checks that it leaves the store as it was."""

    def fail(*arguments: str, status: int = 1, **env: str) -> Done:
        before = snapshot(store)
        done = run(*arguments, **env)
        assert done.status == status, done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        assert snapshot(store) == before
        assert staged(store) == []
        return done

    return fail


def metadata(home: Path, tag: str) -> dict[str, Any]:
    """Return the metadata of an entry of a store."""
    path = home / "models" / tag.strip().replace(":", "/") / "model.yaml"
    found: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))["metadata"]
    return found


def start(
    output: Path,
    *arguments: str,
    env: Mapping[str, str],
    limit: int = resource.RLIM_INFINITY,
    user: int = 0,
) -> ForkServerProcess:
    """Start an import, whose output goes to two files in a folder.

    Args:
        output: The folder.
        arguments: The arguments of the command line.
        env: The environment of the process.
        limit: The largest file that it may write, in bytes.
        user: The user that it becomes, where root runs the tests.
    """
    return _start(_main, str(output), arguments, dict(env), limit, user)


def train(output: Path, *arguments: str, env: Mapping[str, str]) -> Done:
    """Run train_model.py to its end."""
    output.mkdir(exist_ok=True)
    return end(_start(_train, str(output), arguments, dict(env)), output)


def read(output: Path, home: Path, *, once: bool = False) -> ForkServerProcess:
    """Start to read a store over and over until SIGTERM; an error in the store ends it early."""
    return _start(_read, str(output), {"BENTOML_HOME": str(home)}, once)


def _start(target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    process = _context.Process(target=target, args=arguments)
    with pytest.MonkeyPatch.context() as patch:
        # The process that is forked from begins with the first one, and imports by this path.
        patch.setenv("PYTHONPATH", f"{servers.ROOT}{os.pathsep}{servers.ROOT / 'tests'}")
        process.start()
    return process


def run(output: Path, *arguments: str, env: Mapping[str, str], **options: int) -> Done:
    """Run an import to its end; the options are those of `start`."""
    output.mkdir(exist_ok=True)
    return end(start(output, *arguments, env=env, **options), output)


def end(process: ForkServerProcess, output: Path, timeout: float = 60) -> Done:
    """Wait until a process ends, and return how it did."""
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError((output / "stderr").read_text(errors="replace"))
    out, err = (
        (output / name).read_bytes().decode(errors="replace") for name in ("stdout", "stderr")
    )
    return Done(process.exitcode, out, err)


def check(home: Path, output: Path) -> None:
    """Load each entry of a store, and the active one, once."""
    done = end(read(output, home, once=True), output)
    assert done.status == 0, done.stderr
    latest = home / "models" / "irismodel" / "latest"
    assert not latest.exists() or (latest.parent / latest.read_text() / "model.yaml").is_file()


def snapshot(home: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a BENTOML_HOME, except the registry's last answer."""
    return {
        path.relative_to(home).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(home.rglob("*"))
        if path.is_file() and path.parent != home / "registry"
    }


def staged(home: Path) -> list[Path]:
    """Return what imports left in the staging folder."""
    return list((home / "staging").glob("*"))


def _main(
    output: str, arguments: tuple[str, ...], env: dict[str, str], limit: int, user: int
) -> None:
    _become(output, env)
    if user and os.geteuid() == 0:
        os.seteuid(user)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    from iris_api.importing import cli  # noqa: PLC0415
    from iris_api.registry import artifacts, client  # noqa: PLC0415

    client.BACKOFF_SECONDS = 0.01
    artifacts.SLOW_SECONDS = 3
    sys.exit(cli.main(arguments))


def _train(output: str, arguments: tuple[str, ...], env: dict[str, str]) -> None:
    _become(output, env)
    import train_model  # noqa: PLC0415

    sys.argv[1:] = arguments
    sys.exit(train_model.main())


def _read(output: str, env: dict[str, str], once: bool) -> None:
    """Load whatever is there as the service would; print the number of rounds and of loads."""
    _become(output, env)
    import bentoml  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    from iris_api.model.loaded_model import Model  # noqa: PLC0415
    from iris_api.store import active_version  # noqa: PLC0415
    from iris_api.store import entry as store  # noqa: PLC0415

    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    models = Path(env["BENTOML_HOME"], "models")
    rounds = loads = 0
    while not ended:
        latest = models / "irismodel" / "latest"
        active = [active_version.active("IrisModel")] if latest.exists() else []
        listed = [store.get(model.tag) for model in bentoml.models.list()]
        for entry in [*active, *listed]:
            example = entry.metadata.example
            model = Model.load(entry, origin="store")
            answer = model.answer(np.array(example.rows), probabilities=False)
            assert answer.values.tolist() == example.values, entry
            loads += 1
        rounds += 1
        if once:
            break
        time.sleep(0.01)
    print(rounds, loads)


def _become(output: str, env: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = env.get("TMPDIR")
    for number, name in ((1, "stdout"), (2, "stderr")):
        descriptor = os.open(f"{output}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)

"""The command line import_model.py in a process that has everything imported already.

A new process spends seconds on importing mlflow and scikit-learn. A forked one has them, and is
otherwise as good: its own signals, caches, output and exit status.
"""

import multiprocessing
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import servers

PRELOADED = [
    "import_model",
    "iris_api.classifier",
    "iris_api.compiler",
    "iris_api.importer",
    "iris_api.unpickle",
    "iris_api.vetting",
    "mlflow.tracking.request_header.registry",
]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([*PRELOADED, "warm"])


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


def start(output: Path, *arguments: str, env: Mapping[str, str]) -> ForkServerProcess:
    """Begin an import; its output goes to two files in a folder."""
    process = _context.Process(target=_main, args=(str(output), arguments, dict(env)))
    with pytest.MonkeyPatch.context() as patch:
        # The process that is forked from begins with the first one, and imports by this path.
        patch.setenv("PYTHONPATH", f"{servers.ROOT}{os.pathsep}{servers.ROOT / 'tests'}")
        process.start()
    return process


def run(output: Path, *arguments: str, env: Mapping[str, str], timeout: float = 60) -> Done:
    """Run an import to its end."""
    process = start(output, *arguments, env=env)
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError((output / "stderr").read_text(errors="replace"))
    return Done(
        process.exitcode,
        (output / "stdout").read_bytes().decode(errors="replace"),
        (output / "stderr").read_bytes().decode(errors="replace"),
    )


def _main(output: str, arguments: tuple[str, ...], env: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(env)
    for number, name in ((1, "stdout"), (2, "stderr")):
        descriptor = os.open(f"{output}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    import import_model  # noqa: PLC0415

    sys.exit(import_model.main(arguments))

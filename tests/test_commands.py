"""The commands of the README and docs/ run in order, and print what is below them."""

import contextlib
import itertools
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support import documentation, servers

END = "--- end of the command ---"
TIMEOUT_SECONDS = 240


def _run(shell: "subprocess.Popen[str]", command: str) -> str:
    """Run a command in a bash that keeps its variables, and return what it printed."""
    assert shell.stdin
    assert shell.stdout
    shell.stdin.write(f"{command}\necho; echo '{END}'\n")
    shell.stdin.flush()
    lines = itertools.takewhile(lambda line: line.strip() != END, shell.stdout)
    return "".join(lines).removesuffix("\n")


@contextlib.contextmanager
def _background(
    command: str, cwd: Path, env: dict[str, str], log: Path, url: str
) -> Iterator[None]:
    """Run a command until the block ends, in a shell of its own, and everything it started."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=cwd, env=env, stdout=out, stderr=out
        )
    started: list[psutil.Process] = []
    try:
        servers.wait_until_ready(process, f"{url}/readyz", log, TIMEOUT_SECONDS)
        started = psutil.Process(process.pid).children(recursive=True)
        time.sleep(1)  # the last lines are printed after it is ready
        yield
    finally:
        process.terminate()  # make passes it on; Ctrl-C would go to all processes at once
        process.wait(60)
        assert not [child for child in started if child.is_running()]


def _matches(expected: str, printed: str) -> bool:
    pattern = re.escape(expected.strip()).replace("…", r"[\s\S]*?")
    return re.fullmatch(pattern, printed.strip()) is not None


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "pages",
    [
        pytest.param(("README.md",), id="README"),
        pytest.param(documentation.NAMES, marks=pytest.mark.thorough, id="all"),
    ],
)
def test_commands(
    clone: Path, plain_env: dict[str, str], tmp_path: Path, pages: tuple[str, ...]
) -> None:
    """Each command prints what is below it, on a machine where 8000 and 5000 may be taken."""
    port, mlflow_port = str(servers.free_port()), str(servers.free_port())
    ports = {"8000": port, "5000": mlflow_port}
    env = plain_env | {
        "BENTOML_HOME": str(tmp_path / "bentoml"),
        "IRIS_PORT": port,
        "IRIS_MLFLOW_PORT": mlflow_port,
        "IRIS_WORKERS": "1",  # a second one would log in between, or after
        "PATH": f"{Path(sys.executable).parent}:{plain_env['PATH']}",
        "COLUMNS": "200",
    }

    def ours(text: str) -> str:
        return re.sub("8000|5000", lambda found: ports[found[0]], text)

    pipe = subprocess.PIPE
    with (
        subprocess.Popen(
            ["bash"],
            cwd=clone,
            env=env,
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.STDOUT,
            text=True,
        ) as shell,
        contextlib.ExitStack() as background,
    ):
        for number, step in enumerate(documentation.steps(pages)):
            command, expected = ours(step.command), ours(step.output)
            if command == "make serve" or command.startswith("bentoml serve"):
                background.close()
                log = tmp_path / f"{number}.log"
                option = "" if command == "make serve" else f" --port {port}"
                url = f"http://127.0.0.1:{port}"
                background.enter_context(_background(command + option, clone, env, log, url))
                printed = log.read_text("utf-8")
            else:
                printed = _run(shell, command)
            assert _matches(expected, printed), (
                f"{step.page}: $ {command}\n{printed}\n--- expected\n{expected}"
            )

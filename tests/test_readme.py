"""The README cannot rot: its commands are run in order, its tables held against the code."""

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import httpx
import psutil
import pytest
from support import servers

from iris_api.serving import openapi
from iris_api.settings import Settings
from iris_api.telemetry.instruments import REASONS

README = (servers.ROOT / "README.md").read_text("utf-8")
END = "--- end of the command ---"
TIMEOUT_SECONDS = 240


@dataclass
class Step:
    """A command of the README and the output that stands below it."""

    command: str
    output: str = ""


def _steps() -> list[Step]:
    """Read the console blocks: a command after `$`, with its continued lines, then its output."""
    steps: list[Step] = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        lines = iter(block.splitlines())
        for line in lines:
            if not line.startswith("$ "):
                steps[-1].output += line + "\n"
                continue
            command = line.removeprefix("$ ")
            while command.endswith("\\"):
                command += "\n" + next(lines)
            if command.endswith("<<'EOF'"):
                while not command.endswith("\nEOF"):
                    command += "\n" + next(lines)
            steps.append(Step(command))
    return steps


@dataclass
class Terminal:
    """A bash that keeps its variables from one command to the next."""

    cwd: Path
    env: dict[str, str]
    shell: "subprocess.Popen[str]" = field(init=False)

    def __post_init__(self) -> None:
        self.shell = subprocess.Popen(
            ["bash"],
            cwd=self.cwd,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> str:
        """Run a command to its end and return what it printed."""
        assert self.shell.stdin
        assert self.shell.stdout
        self.shell.stdin.write(f"{command}\necho; echo '{END}'\n")
        self.shell.stdin.flush()
        lines = iter(self.shell.stdout.readline, "")
        printed = []
        for line in lines:
            if line.strip() == END:
                break
            printed.append(line)
        return "".join(printed).removesuffix("\n")

    def close(self) -> None:
        """End the bash."""
        self.shell.communicate()


@contextlib.contextmanager
def _background(command: str, terminal: Terminal, log: Path, url: str) -> Iterator[None]:
    """Run a command until the block ends, in a terminal of its own, and all that it started."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=terminal.cwd,
            env=terminal.env,
            stdout=out,
            stderr=out,
        )
    try:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/readyz").is_success:
                    break
            time.sleep(0.2)
        time.sleep(1)  # the last lines are printed after it is ready
        yield
    finally:
        started = psutil.Process(process.pid).children(recursive=True)
        process.terminate()  # make passes it on; of Ctrl-C it thinks that all have it
        process.wait(60)
        assert not [child for child in started if child.is_running()]


def _matches(expected: str, printed: str) -> bool:
    pattern = re.escape(expected.strip()).replace("…", r"[\s\S]*?")
    return re.fullmatch(pattern, printed.strip()) is not None


@pytest.mark.timeout(600)
def test_commands(clone: Path, plain_env: dict[str, str], tmp_path: Path) -> None:
    """Each command prints what stands below it, on a machine where 8000 and 5000 may be taken."""
    port, mlflow_port = str(servers.free_port()), str(servers.free_port())
    env = plain_env | {
        "BENTOML_HOME": str(tmp_path / "bentoml"),
        "IRIS_PORT": port,
        "IRIS_MLFLOW_PORT": mlflow_port,
        "IRIS_WORKERS": "1",  # a second one would log in between, or after
        "PATH": f"{Path(sys.executable).parent}:{plain_env['PATH']}",
        "COLUMNS": "200",
    }

    def ours(text: str) -> str:
        return text.replace("8000", port).replace("5000", mlflow_port)

    terminal = Terminal(clone, env)
    with contextlib.ExitStack() as background, contextlib.closing(terminal):
        for number, step in enumerate(_steps()):
            command, expected = ours(step.command), ours(step.output)
            if command == "make serve" or command.startswith("bentoml serve"):
                background.close()
                log = tmp_path / f"{number}.log"
                option = "" if command == "make serve" else f" --port {port}"
                url = f"http://127.0.0.1:{port}"
                background.enter_context(_background(command + option, terminal, log, url))
                printed = log.read_text("utf-8")
            else:
                printed = terminal.run(command)
            assert _matches(expected, printed), f"$ {command}\n{printed}\n--- expected\n{expected}"


def _table_names(heading: str) -> set[str]:
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_settings_are_in_the_readme() -> None:
    """Each variable of ours is in the table with its default, and no other of ours is there."""
    section = README.split("\n## Configuration\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    documented = {names.strip(" `"): default.strip(" `") for names, default in rows}

    ours = {str(field.alias): name for name, field in Settings.model_fields.items()}
    assert ours.keys() == {name for name in documented if name.startswith("IRIS_") or name in ours}
    for variable, name in ours.items():
        text, default = documented[variable], getattr(Settings(), name)
        if default is None or default == "":
            assert not re.search(r"\d", text), variable  # in words, or not at all
        else:
            told = Settings.model_validate({variable: text})
            assert getattr(told, name) == default, variable


def test_routes_are_in_the_readme() -> None:
    """Each described route is in the table, and the table has no other but the document's own."""
    documented = {name for name in _table_names("HTTP") if name.startswith(("GET", "POST"))}

    described = {
        f"{method.upper()} {path}"
        for path, operations in openapi.document("")["paths"].items()
        for method in operations
    }
    assert documented == described | {"GET /docs.json", "GET /"}


def test_errors_are_in_the_readme() -> None:
    """Each status of an error is in the table."""
    section = README.split("| status | when |")[1].split("\n\n")[0]

    assert {int(status) for status in re.findall(r"\n\| (\d+) \|", section)} == set(openapi.ERRORS)


def test_reasons_are_in_the_readme() -> None:
    """Each reason of a refusal is in the list, and in the runbook of the alert that counts it."""
    listed = README.split("A `reason` is one of ")[1].split(";")[0]
    runbook = README.split("\n### IrisApiRefusalsRising\n")[1].split("\n### ")[0]

    assert set(re.findall(r"`(\w+)`", listed)) == set(REASONS)
    # Requests without a model have an alert of their own.
    assert set(re.findall(r"`([a-z_]+)`", runbook)) == set(REASONS) - {"no_model"}


def test_log_messages_are_in_the_readme() -> None:
    """What the service logs when something is wrong is in the table, up to what varies."""
    section = README.split("\n## Logs and traces\n")[1].split("\n## ")[0]
    texts = [
        text
        for path in [servers.ROOT / "service.py", *servers.ROOT.glob("iris_api/**/*.py")]
        for text in re.findall(
            r'logger\.(?:warning|error|critical)\(\s*"([^%"].*?)[:;,%"]', path.read_text("utf-8")
        )
    ]

    assert len(texts) > 8
    assert [text for text in texts if text.strip() not in section] == []


def test_modules_are_in_the_readme() -> None:
    """Each module is in the table of files, and what the table has is there."""
    section = README.split("| file | concern |")[1].split("\n\n")[0]
    documented = set()
    for row in section.splitlines()[2:]:
        names = re.findall(r"`([^`]+)`", row.split("|")[1])
        folder = PurePosixPath(names[0]).parent  # of the other names as well
        documented |= {name if "/" in name.rstrip("/") else str(folder / name) for name in names}

    modules = [*servers.ROOT.glob("*.py"), *servers.ROOT.glob("iris_api/**/*.py")]
    found = {path.relative_to(servers.ROOT).as_posix() for path in modules}
    ours = {name for name in documented if re.fullmatch(r"(iris_api/(\w+/)?)?\w+\.py", name)}
    assert ours == {path for path in found if not path.endswith("__init__.py")}
    assert [name for name in documented if not (servers.ROOT / name).exists()] == []

"""deploy/compose.yaml without containers: its services as processes of this machine.

Everything comes from the file itself: commands, environments, mounts, ports, health checks and the
order. What a container gives, and a process lacks, is translated in `Translation` alone.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

from support import servers

FILE = servers.ROOT / "deploy" / "compose.yaml"
SPEC: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = SPEC["services"]


def mounts(name: str) -> Iterator[tuple[str, str]]:
    """Give the source and the target of each of a service's mounts, without their mode."""
    for mount in SERVICES[name].get("volumes", []):
        source, target, *_ = mount.split(":")
        yield source, target


def port(name: str) -> str:
    """Return the port that a service listens on in its container."""
    return str(SERVICES[name]["ports"][0].split(":")[-1])


def seconds(duration: str) -> float:
    """Read a duration of the file, all of which are in seconds."""
    return float(duration.removesuffix("s"))


def order() -> list[str]:
    """Return the services, each after those that it depends on."""
    graph = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    return list(TopologicalSorter(graph).static_order())


@dataclass(frozen=True)
class Translation:
    """From a container's network and file system to those of this machine.

    - A service's name and port, `mlflow:5000`, is 127.0.0.1 and a free port; so is the 127.0.0.1
      of its own container. It listens there, where in a container it listens everywhere.
    - A named volume is a folder; what is mounted from the project is a copy, so that names can be
      translated in it; the path of either is replaced wherever it is said.
    - What `--allowed-hosts` has to say is left as it is: the test asks by those very names.

    Attributes:
        folder: for the volumes and copies.
        ports: a free one for each service that has any.
    """

    folder: Path
    ports: Mapping[str, int] = field(
        default_factory=lambda: {
            name: servers.free_port() for name, service in SERVICES.items() if "ports" in service
        }
    )

    def url(self, name: str) -> str:
        """Return the address of a service."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def text(self, name: str, text: str) -> str:
        """Translate a word of a service's command, a value of its environment, or a file of its."""
        if text.startswith("--allowed-hosts="):
            return text
        for other, number in self.ports.items():
            text = text.replace(f"{other}:{port(other)}", f"127.0.0.1:{number}")
        if name in self.ports:
            text = text.replace(f"127.0.0.1:{port(name)}", f"127.0.0.1:{self.ports[name]}")
            text = text.replace(f"--port={port(name)}", f"--port={self.ports[name]}")
        text = text.replace("--host=0.0.0.0", "--host=127.0.0.1")
        targets = "|".join(sorted((target for _, target in mounts(name)), key=len, reverse=True))
        if not targets:
            return text
        return re.sub(
            rf"(?<!\w)(?:{targets})(?=/|$)", lambda found: str(self.path(name, found[0])), text
        )

    def path(self, name: str, target: str) -> Path:
        """Return where a mount of a service is on this machine."""
        source = {target: source for source, target in mounts(name)}[target]
        return self.folder / (name + target if source.startswith(".") else f"volumes/{source}")

    def mount(self, name: str) -> None:
        """Make a service's volumes, and copy what it has of the project."""
        for source, target in mounts(name):
            path = self.path(name, target)
            if not source.startswith("."):
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            original = FILE.parent / source
            if original.is_dir():
                shutil.copytree(original, path)
            else:
                path.write_text(self.text(name, original.read_text("utf-8")), "utf-8")


@dataclass(frozen=True)
class Image:
    """What an image has by itself.

    Attributes:
        cwd: the folder that its process starts in.
        entrypoint: the words before a service's command.
        command: of a service that has none.
    """

    cwd: Path
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()


@dataclass
class Stack:
    """The services that run.

    Attributes:
        translation: of what the file says.
        env: that all of them have, without a setting of this project.
        images: by their names.
    """

    translation: Translation
    env: Mapping[str, str]
    images: Mapping[str, Image]
    running: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    def start(self, name: str) -> "subprocess.Popen[bytes]":
        """Start a service as the file says."""
        self.translation.mount(name)
        service = SERVICES[name]
        image = self.images[service["image"].split(":")[0]]
        command = service.get("command", image.command)
        with self.log(name).open("ab") as out:
            process = subprocess.Popen(
                [self.translation.text(name, word) for word in (*image.entrypoint, *command)],
                cwd=image.cwd,
                env=self.environment(name),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.running[name] = process
        return process

    def environment(self, name: str) -> dict[str, str]:
        """Return what a service has of the file, beside what all of them have."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{self.env['PATH']}"
        own = SERVICES[name].get("environment", {})
        own = {key: self.translation.text(name, value) for key, value in own.items()}
        return {**self.env, "PATH": path, **own}

    def log(self, name: str) -> Path:
        """Return where the output of a service is."""
        return self.translation.folder / f"{name}.log"

    def wait_until_healthy(self, name: str) -> None:
        """Run a service's health check until it is content, for as long as the file gives it."""
        check = SERVICES[name]["healthcheck"]
        assert check["test"][0] == "CMD"
        command = [self.translation.text(name, word) for word in check["test"][1:]]
        patience = seconds(check["start_period"]) + check["retries"] * seconds(check["interval"])
        deadline = time.monotonic() + patience
        while (
            subprocess.run(
                command,
                env=self.environment(name),
                capture_output=True,
                timeout=seconds(check["timeout"]) + 5,  # this machine has more to do
                check=False,
            ).returncode
            != 0
        ):
            assert self.running[name].poll() is None, self.log(name).read_text("utf-8")[-5000:]
            assert time.monotonic() < deadline, self.log(name).read_text("utf-8")[-5000:]
            time.sleep(1)

    def stop(self, name: str) -> int:
        """Stop a service as an engine does, and return its exit status."""
        process = self.running.pop(name)
        process.terminate()
        try:
            return process.wait(seconds(SERVICES[name].get("stop_grace_period", "10s")) + 5)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

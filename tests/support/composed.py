"""deploy/compose.yaml without containers: its services run as processes of this machine.

Commands, environments, mounts, ports, health checks and the order come from the file itself.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

from support import servers

FILE = servers.ROOT / "deploy" / "compose.yaml"
SPEC: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = SPEC["services"]


def mounts(name: str) -> dict[str, str]:
    """Return the source of each of a service's mounts by its target."""
    words = (mount.split(":") for mount in SERVICES[name].get("volumes", []))
    return {target: source for source, target, *_ in words}


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
class Image:
    """The settings of an image: its folder, its entry point, and the command without another."""

    cwd: Path
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()


@dataclass(frozen=True)
class Stack:
    """The services of the file, on free ports of 127.0.0.1 and with volumes in a folder.

    Attributes:
        folder: folder of the volumes, the logs, and copies of the mounted files.
        env: environment of all services, without a setting of this project.
        images: images by their names.
    """

    folder: Path
    env: Mapping[str, str]
    images: Mapping[str, Image]
    ports: Mapping[str, int] = field(
        default_factory=lambda: {
            name: servers.free_port() for name, service in SERVICES.items() if "ports" in service
        }
    )
    running: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    def url(self, name: str) -> str:
        """Return the address of a service."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def log(self, name: str) -> Path:
        """Return the file with the output of a service."""
        return self.folder / f"{name}.log"

    def text(self, name: str, text: str) -> str:
        """Translate a word of a service's command, environment or files.

        Names and ports become those of this machine, and targets of mounts its paths. The value of
        `--allowed-hosts` stays: the test sends these very names.
        """
        if text.startswith("--allowed-hosts="):
            return text
        for other, number in self.ports.items():
            text = text.replace(f"{other}:{port(other)}", f"127.0.0.1:{number}")
        if name in self.ports:
            text = text.replace(f"127.0.0.1:{port(name)}", f"127.0.0.1:{self.ports[name]}")
            text = text.replace(f"--port={port(name)}", f"--port={self.ports[name]}")
        text = text.replace("--host=0.0.0.0", "--host=127.0.0.1")
        targets = "|".join(sorted(mounts(name), key=len, reverse=True)) or "nothing"
        return re.sub(
            rf"(?<!\w)(?:{targets})(?=/|$)", lambda at: str(self._path(name, at[0])), text
        )

    def _path(self, name: str, target: str) -> Path:
        source = mounts(name)[target]
        return self.folder / (name + target if source.startswith(".") else f"volumes/{source}")

    def _mount(self, name: str) -> None:
        for target, source in mounts(name).items():
            path, original = self._path(name, target), FILE.parent / source
            if not source.startswith("."):
                path.mkdir(parents=True, exist_ok=True)
            elif original.is_dir():
                shutil.copytree(original, path)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self.text(name, original.read_text("utf-8")), "utf-8")

    def start(self, name: str) -> "subprocess.Popen[bytes]":
        """Start a service."""
        self._mount(name)
        image = self.images[SERVICES[name]["image"].split(":")[0]]
        command = [*image.entrypoint, *SERVICES[name].get("command", image.command)]
        with self.log(name).open("ab") as out:
            self.running[name] = subprocess.Popen(
                [self.text(name, word) for word in command],
                cwd=image.cwd,
                env=self._environment(name),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        return self.running[name]

    def _environment(self, name: str) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{self.env['PATH']}"
        own = SERVICES[name].get("environment", {})
        return {**self.env, "PATH": path, **{key: self.text(name, own[key]) for key in own}}

    def wait_until_healthy(self, name: str) -> None:
        """Run a service's health check until it succeeds, within the time limits of the file."""
        check = SERVICES[name]["healthcheck"]
        command = [self.text(name, word) for word in check["test"] if word != "CMD"]
        env, limit = self._environment(name), seconds(check["timeout"]) + 5  # of a busy machine

        def is_healthy() -> bool:
            assert self.running[name].poll() is None, self.log(name).read_text("utf-8")[-5000:]
            done = subprocess.run(command, env=env, capture_output=True, timeout=limit, check=False)
            return done.returncode == 0

        patience = seconds(check["start_period"]) + check["retries"] * seconds(check["interval"])
        servers.wait_for(is_healthy, patience)

    def stop(self, name: str) -> int:
        """Stop a service as an engine does, and return its exit status."""
        process = self.running.pop(name)
        process.terminate()
        try:
            return process.wait(seconds(SERVICES[name].get("stop_grace_period", "10s")) + 5)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

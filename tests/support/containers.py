"""Containers for the tests, run by the documented commands, on the engine that answers."""

import contextlib
import ipaddress
import json
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import httpx

from support import documentation, servers
from support.programs import lacks, program

START_SECONDS = 60


def require_engine() -> None:
    """Skip the test where no container engine answers; where `CI` is set, fail instead."""
    docker_path = program("docker", "docker.io")
    done = subprocess.run([docker_path, "info"], capture_output=True, text=True, check=False)
    if done.returncode == 0 and "ERROR" not in done.stdout:
        return
    lacks("no container engine answers docker info")


def docker(*arguments: str, env: Mapping[str, str] | None = None) -> str:
    """Run a docker command to its end and return what it printed on standard output."""
    done = subprocess.run(
        ["docker", *arguments], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"docker {shlex.join(arguments)}\n{done.stderr}"
    return done.stdout.strip()


def make(command: str, image: str, env: Mapping[str, str]) -> None:
    """Build an image of another name by a documented command, `make container …`."""
    done = subprocess.run(
        [*command.split(), f"IMAGE={image}"],
        cwd=servers.ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def labels(image: str) -> dict[str, str]:
    """Return the labels of an image."""
    found: dict[str, str] = json.loads(
        docker("image", "inspect", "-f", "{{json .Config.Labels}}", image)
    )
    return found


def gateway() -> str:
    """Return the address of this machine as containers see it."""
    subnet = docker("network", "inspect", "bridge", "-f", "{{(index .IPAM.Config 0).Subnet}}")
    return str(ipaddress.ip_network(subnet)[1])


def documented_commands(beginning: str) -> list[str]:
    """Return the commands of the section on Docker that begin with this."""
    commands = documentation.shell_commands(documentation.section("docs/deployment.md", "Docker"))
    return [command for command in commands if command.startswith(beginning)]


@dataclass(frozen=True)
class Container:
    """A container that was started and may have ended."""

    id: str
    url: str
    began: float

    def logs(self) -> str:
        """Return its output, including standard error."""
        done = subprocess.run(
            ["docker", "logs", self.id],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        return done.stdout

    def stop(self) -> None:
        """Stop it with `docker stop`, which kills it after 10 s."""
        docker("stop", self.id)

    def inspect(self, template: str) -> str:
        """Return a property of it by a Go template."""
        return docker("inspect", "-f", template, self.id)

    def execute(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in it."""
        return subprocess.run(
            ["docker", "exec", self.id, *command], capture_output=True, text=True, check=False
        )

    def wait_until_ready(self) -> float:
        """Wait until its probe succeeds, and return the seconds since `docker run`."""
        while time.monotonic() - self.began < START_SECONDS:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz", timeout=5).is_success:
                    return time.monotonic() - self.began
            assert self.inspect("{{.State.Running}}") == "true", self.logs()
            time.sleep(0.05)
        raise AssertionError(f"not ready within {START_SECONDS} s\n{self.logs()}")

    def wait_until_ended(self) -> int:
        """Wait until it ends, and return its exit status."""
        servers.wait_for(lambda: self.inspect("{{.State.Running}}") == "false", START_SECONDS)
        return int(self.inspect("{{.State.ExitCode}}"))


@contextlib.contextmanager
def running(command: str, image: str, *options: str, env: Mapping[str, str]) -> Iterator[Container]:
    """Start a container by a documented command, on a free port of 127.0.0.1, and remove it.

    Args:
        command: `docker run …`, as documented.
        image: image to run in place of `iris-api`.
        options: further options of docker run.
        env: environment with the variables that the command names without a value.
    """
    port = servers.free_port()
    words = shlex.split(command.replace("8000:8000", f"127.0.0.1:{port}:8000"))
    assert words[:2] == ["docker", "run"], words
    place = words.index("iris-api")
    words = ["run", "--detach", *options, *words[2:place], image, *words[place + 1 :]]
    began = time.monotonic()
    container = Container(docker(*words, env=env), f"http://127.0.0.1:{port}", began)
    try:
        yield container
    except BaseException:
        print(f"--- {command}\n{container.logs()[-5000:]}")
        raise
    finally:
        docker("rm", "--force", "--volumes", container.id)

"""Load from wrk, to 127.0.0.1 only."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import Message
from benchmarks.servers import ANSWER_SECONDS, BenchmarkError, pinned

SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True)
class Load:
    """The figures that wrk measured.

    Attributes:
        rate: Answers a second.
        accepted: Successful answers a second.
        p50: Median latency, in milliseconds.
        p99: Latency that one answer of a hundred exceeds, in milliseconds.
    """

    rate: float
    accepted: float
    p50: float
    p99: float


def require_wrk() -> str:
    """Return wrk's version.

    Raises:
        BenchmarkError: wrk is not installed.
    """
    if not shutil.which("wrk"):
        raise BenchmarkError("wrk, which makes the load, is missing; run apt-get install wrk")
    # It prints its version with its usage, and fails for want of a URL.
    shown = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)  # noqa: S607
    return " ".join(shown.stdout.split()[:2])


def fire(  # noqa: PLR0913 (all of them by keyword)
    url: str,
    message: Message,
    *,
    connections: int,
    seconds: int,
    cores: Collection[int],
    overload: bool = False,
    close: bool = False,
) -> Load:
    """Send the same message again and again, one request at a time on each connection.

    Args:
        url: The address of the prediction.
        message: The body and its headers.
        connections: Number of connections.
        seconds: How long the load lasts.
        cores: The cores for wrk.
        overload: Whether the service may reject requests.
        close: Whether each request has a connection of its own.

    Raises:
        BenchmarkError: A request failed, or none was answered.
    """
    headers = {**message.headers, **({"Connection": "close"} if close else {})}
    with tempfile.NamedTemporaryFile() as body:
        body.write(message.body)
        body.flush()
        command = [
            *("wrk", "--threads", "1", "--connections", str(connections)),
            *("--duration", f"{seconds}s", "--timeout", f"{ANSWER_SECONDS}s"),
            *(f"--header={name}: {value}" for name, value in headers.items()),
            *("--script", str(SCRIPT), url, body.name),
        ]
        done = subprocess.run(
            pinned(command, cores),
            capture_output=True,
            text=True,
            timeout=seconds + ANSWER_SECONDS,
            check=False,
        )
    if done.returncode:
        raise BenchmarkError(f"wrk failed: {done.stderr.strip()}")
    seen = json.loads(done.stdout.strip().splitlines()[-1])
    failed = seen["errors"] + (0 if overload else seen["statuses"])
    if failed or not seen["requests"]:
        raise BenchmarkError(f"{failed} of {seen['requests']} requests failed")
    seconds_taken = seen["microseconds"] / 1e6
    return Load(
        rate=seen["requests"] / seconds_taken,
        accepted=(seen["requests"] - seen["statuses"]) / seconds_taken,
        p50=seen["p50"] / 1000,
        p99=seen["p99"] / 1000,
    )

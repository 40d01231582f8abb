"""Load from wrk, to 127.0.0.1 only."""

import json
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import ANSWER_SECONDS, BenchmarkError, pinned

SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True)
class Load:
    """What wrk saw.

    Attributes:
        rate: answers a second.
        p50: median latency, in milliseconds.
        p99: latency that one answer of a hundred exceeds, in milliseconds.
    """

    rate: float
    p50: float
    p99: float


def require_wrk() -> str:
    """Return wrk's version.

    Raises:
        BenchmarkError: it is missing.
    """
    if not shutil.which("wrk"):
        raise BenchmarkError("wrk, which makes the load, is missing; run apt-get install wrk")
    # It prints its version with its usage, and fails for want of a URL.
    shown = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)  # noqa: S607
    return " ".join(shown.stdout.split()[:2])


def fire(url: str, body: Path, *, connections: int, seconds: int, cores: Collection[int]) -> Load:
    """Send the same body for some seconds, one request at a time on each connection.

    Raises:
        BenchmarkError: a request failed, or none was answered.
    """
    command = [
        *("wrk", "--threads", "1", "--connections", str(connections)),
        *("--duration", f"{seconds}s", "--timeout", f"{ANSWER_SECONDS}s"),
        *("--script", str(SCRIPT), url, str(body)),
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
    if seen["errors"] or not seen["requests"]:
        raise BenchmarkError(f"{seen['errors']} of {seen['requests']} requests failed")
    return Load(
        seen["requests"] / seen["microseconds"] * 1e6, seen["p50"] / 1000, seen["p99"] / 1000
    )

"""The record that the active version cannot be loaded, which all workers of a service share.

A file may be damaged after one worker loaded it and before another one does. Because of the shared
record, both then answer with the same version.
"""

import contextlib
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from iris_api.home import METRICS_VARIABLE

Pointer = tuple[str, int]
"""An activation: the content of `latest`, and when it was written, in ns."""


class Degraded(BaseModel):
    """An activation whose version a worker failed to load."""

    model_config = ConfigDict(frozen=True)

    pointer: Pointer | None
    reason: str


def read() -> Degraded | None:
    """Return the record of this service, if there is one."""
    with contextlib.suppress(OSError, ValueError):
        return Degraded.model_validate_json(_file().read_bytes())
    return None


def record(pointer: Pointer | None, reason: str) -> None:
    """Record for all workers that an active version cannot be loaded."""
    written = _file().with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):  # the folder is gone, or the disk is full
        content = Degraded(pointer=pointer, reason=reason).model_dump_json()
        written.write_text(content, encoding="utf-8")
        written.replace(_file())


def clear() -> None:
    """Remove the record, because its version was loaded or replaced."""
    with contextlib.suppress(OSError):
        _file().unlink()


def _file() -> Path:
    return Path(os.environ[METRICS_VARIABLE], "degraded.json")  # the folder is new at each start

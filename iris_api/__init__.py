"""What the entry points are made of, one concern a module."""

import os

__version__ = "0.1.0"

# ONNX Runtime reports its use to its maker from version 1.29 on, unless this is set before it is
# loaded (Privacy.md in its package). Every entry point loads this package first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


class IrisError(Exception):
    """A failure that a person can mend: one line that says what is wrong and how to mend it."""

    transient = False
    """Whether the same may work later although the model stays what it is."""


def one_line(text: object, limit: int = 200) -> str:
    """Bring text from elsewhere to one printable line, fit for a terminal and a log."""
    line = " ".join(str(text).split())
    return "".join(char if char.isprintable() else "?" for char in line)[:limit]

"""Log lines of the commands: plain ones in a log, and on a terminal also the step that runs.

Not with rich, which comes with BentoML: it hides the cursor while it shows progress, and the child
process that imports may be killed at any moment.
"""

import itertools
import logging
import os
import shutil
import sys
import threading
import time
from typing import TextIO

STEP = {"step": True}
"""`extra` of a record about work that begins. It ends with the next record that is no warning."""

PROGRESS = {"progress": True}
"""`extra` of a record that says how far a step is."""

ENDED = {"ended": True}
"""`extra` of a record that says in a word how a step ended, if it is not done."""

CLEAR = "\r\x1b[K"
RED, GREEN, YELLOW = (f"\x1b[{number}m" for number in (31, 32, 33))
PLAIN = "\x1b[0m"

FRAMES = "|/-\\"
FRAME_SECONDS = 0.1


def configure() -> None:
    """Send the lines of this project to standard error as they are.

    Records below INFO are shown on a terminal alone, and only if they are steps.
    """
    is_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    ours = logging.getLogger("iris_api")
    ours.handlers = [TerminalHandler(sys.stderr) if is_terminal else logging.StreamHandler()]
    ours.setLevel(logging.DEBUG if is_terminal else logging.INFO)
    ours.propagate = False


class TerminalHandler(logging.Handler):
    """Shows the step that runs with its seconds, and how each step ended."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._has_colours = not os.environ.get("NO_COLOR")
        self._step: str | None = None
        self._progress = ""
        self._began = 0.0
        self._is_ticking = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, after the end of the step before."""
        text = record.getMessage()
        if hasattr(record, "progress"):
            self._progress = text
        elif hasattr(record, "ended"):
            self._end(text, RED)
        elif hasattr(record, "step"):
            self._end("done", GREEN)
            self._begin(text)
        elif record.levelno >= logging.ERROR:
            self._end("failed", RED)
            self._write(self._coloured(text, RED))
        elif record.levelno >= logging.WARNING:
            self._write(self._coloured(text, YELLOW))
        elif record.levelno >= logging.INFO:
            self._end("done", GREEN)
            self._write(text)

    def _begin(self, text: str) -> None:
        self._step, self._progress, self._began = text, "", time.monotonic()
        if not self._is_ticking:
            self._is_ticking = True
            threading.Thread(target=self._tick, daemon=True).start()

    def _end(self, how: str, colour: str) -> None:
        if self._step is not None:
            seconds = time.monotonic() - self._began
            self._write(f"{self._step}: {self._coloured(how, colour)}, {seconds:.1f} s")
            self._step = None

    def _tick(self) -> None:
        for frame in itertools.cycle(FRAMES):
            time.sleep(FRAME_SECONDS)
            if self.lock is None:  # closed
                return
            with self.lock:
                if self._step is not None:
                    seconds = f"{time.monotonic() - self._began:.0f} s"
                    line = f"{frame} {seconds} {self._step} {self._progress}"
                    # A longer line would wrap, and could not be cleared.
                    line = line[: shutil.get_terminal_size().columns - 1]
                    self._stream.write(f"{CLEAR}{line}")
                    self._stream.flush()

    def _write(self, line: str) -> None:
        self._stream.write(f"{CLEAR}{line}\n")
        self._stream.flush()

    def _coloured(self, text: str, colour: str) -> str:
        return f"{colour}{text}{PLAIN}" if self._has_colours else text

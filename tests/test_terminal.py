"""The steps of a command, as a terminal shows them."""

import io
import logging
import re

import pytest

from iris_api import terminal


@pytest.mark.parametrize("no_color", ["", "1"])
def test_steps(monkeypatch: pytest.MonkeyPatch, no_color: str) -> None:
    """Each step ends with a word and its seconds, and not with a warning; NO_COLOR is respected."""
    monkeypatch.setenv("NO_COLOR", no_color)
    shown = io.StringIO()
    logger = logging.getLogger("steps")
    logger.setLevel(logging.DEBUG)
    monkeypatch.setattr(logger, "handlers", [terminal.TerminalHandler(shown)])
    logger.info("importing", extra=terminal.STEP)
    logger.warning("slow")
    logger.debug("unseen")
    logger.debug("compiling", extra=terminal.STEP)
    logger.debug("50 %", extra=terminal.PROGRESS)
    logger.debug("failed", extra=terminal.ENDED)
    logger.error("error: why")

    lines = [line.rpartition(terminal.CLEAR)[2] for line in shown.getvalue().rstrip().split("\n")]
    plain = [re.sub(r"\x1b\[\d+m", "", line) for line in lines]
    assert [re.sub(r"[\d.]+ s$", "0 s", line) for line in plain] == [
        "slow",
        "importing: done, 0 s",
        "compiling: failed, 0 s",
        "error: why",
    ]
    assert (lines == plain) == bool(no_color)

"""The log: plain lines on a terminal, and elsewhere one JSON object a line.

docs/operations.md lists its keys. No line contains the rows of a request.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import ClassVar

from iris_api.telemetry import traces


def configure() -> None:
    """Change the format of BentoML's server log, unless it goes to a terminal."""
    # BentoML's quiet mode is meant for BentoML's own lines alone.
    logging.getLogger("bentoml.service").setLevel(logging.INFO)
    # BentoML gives them a handler and also passes them to the root: each line came twice.
    for name in ("circus", "uvicorn.error"):
        logging.getLogger(name).propagate = False
    for handler in logging.getLogger().handlers:
        # Only BentoML's servers have this handler, its other commands have not.
        if handler.name == "tracehandler" and not sys.stdout.isatty():
            handler.setFormatter(JsonFormatter())
            logging.captureWarnings(capture=True)


class JsonFormatter(logging.Formatter):
    """Writes a record as one line."""

    worker_version: ClassVar[int | None] = None
    """The model version that this worker serves now."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON object."""
        of_worker = self.worker_version, *traces.current_ids()
        version, trace_id, span_id = traces.current_call.get() or of_worker
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
            "model_version": version,  # of the call, or else the one that the worker serves
            "trace_id": f"{trace_id:032x}" if trace_id else None,
            "span_id": f"{span_id:016x}" if span_id else None,
            "exception": _tracebacks(record.exc_info[1]) if record.exc_info else None,
        }
        return json.dumps({key: value for key, value in line.items() if value is not None})


def _tracebacks(error: BaseException | None) -> str | None:
    """Write the traceback of an exception, below those of its causes, without its message."""
    if error is None:
        return None
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    frames = traceback.format_tb(error.__traceback__)
    return (_tracebacks(cause) or "") + "".join(frames) + type(error).__qualname__ + "\n"

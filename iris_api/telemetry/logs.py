"""The log: plain lines on a terminal, and elsewhere one JSON object a line.

The keys of an object; those from `model_version` on are absent if they have no value:

- `time`: UTC, ISO 8601, in milliseconds.
- `level`: `debug`, `info`, `warning`, `error` or `critical`.
- `logger`: its name, such as `bentoml.service`.
- `process`: process id.
- `message`: one line or more.
- `model_version`: of the model that answers the prediction call, or else that the worker serves.
- `trace_id`, `span_id`: of the request, in hexadecimal as in traces.
- `exception`: traceback and type of an exception, without its message, which may contain rows.

No line contains the rows of a request.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

from iris_api.telemetry import traces

BENTOML_HANDLER = "tracehandler"
"""Name of the handler of BentoML's servers; its other commands have no such handler."""

PROPAGATING = ("circus", "uvicorn.error")
"""Loggers that BentoML gives a handler and also passes to the root, which logs each line twice."""

_worker_version: int | None = None


def configure(*, traced: bool) -> None:
    """Change the format of BentoML's server log, unless it goes to a terminal."""
    for name in PROPAGATING:
        logging.getLogger(name).propagate = False
    if sys.stdout.isatty():
        return
    for handler in logging.getLogger().handlers:
        if handler.name == BENTOML_HANDLER:
            handler.setFormatter(JsonFormatter(traced=traced))
            logging.captureWarnings(capture=True)


def set_model_version(version: int) -> None:
    """Set the model version that this worker serves from now on."""
    global _worker_version  # noqa: PLW0603 (one for each process, as the log)
    _worker_version = version


class JsonFormatter(logging.Formatter):
    """Writes a record as one line.

    Args:
        traced: whether requests have traces.
    """

    def __init__(self, *, traced: bool) -> None:
        super().__init__()
        self._traced = traced

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON object."""
        version, trace_id, span_id = traces.current_call.get() or (_worker_version, *self._ids())
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
            "model_version": version,
            "trace_id": f"{trace_id:032x}" if trace_id else None,
            "span_id": f"{span_id:016x}" if span_id else None,
            "exception": _tracebacks(record.exc_info[1]) if record.exc_info else None,
        }
        return json.dumps({key: value for key, value in line.items() if value is not None})

    def _ids(self) -> tuple[int, int]:
        return traces.current_ids() if self._traced else (0, 0)


def _tracebacks(error: BaseException | None) -> str | None:
    """Write the traceback of an exception, below those of its causes."""
    if error is None:
        return None
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    frames = traceback.format_tb(error.__traceback__)
    return (_tracebacks(cause) or "") + "".join(frames) + type(error).__qualname__ + "\n"

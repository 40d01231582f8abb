"""The log: lines for a person on a terminal, and elsewhere one JSON object a line.

The keys of an object, of which those from `model_version` on are left out where there is nothing to
say:

- `time`: UTC, ISO 8601, in milliseconds.
- `level`: `debug`, `info`, `warning`, `error` or `critical`.
- `logger`: what speaks, such as `bentoml.service`.
- `process`: its process id.
- `message`: one line or more.
- `model_version`: that answers the call which the line is about, or else the worker's.
- `trace_id`, `span_id`: of the call, in hexadecimal as traces have them.
- `exception`: where an exception came from and its type, without its message, which may have rows.

The rows of a call are in no line.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

from bentoml._internal.context import trace_context
from bentoml._internal.log import TraceRecordFilter

from iris_api.settings import settings
from iris_api.telemetry import traces

PROPAGATING = ("circus", "uvicorn.error")
"""BentoML gives these a handler and lets its root handle them too, so that each line is twice."""

_worker_version: int | None = None


def configure() -> None:
    """Go on from BentoML's logging of a server; other commands log as they do."""
    for name in PROPAGATING:
        logging.getLogger(name).propagate = False
    if sys.stdout.isatty():
        return
    for handler in logging.getLogger().handlers:
        for part in list(handler.filters):
            if isinstance(part, TraceRecordFilter):
                handler.removeFilter(part)
                handler.setFormatter(JsonFormatter())
                logging.captureWarnings(capture=True)


def use(version: int) -> None:
    """Note which model version this worker answers with from now on."""
    global _worker_version  # noqa: PLW0603 (a log has one per process, as it has one output)
    _worker_version = version


class JsonFormatter(logging.Formatter):
    """Writes a record as one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON object, whose strings have their line breaks escaped."""
        call = traces.call.get()
        version = call.model_version if call else _worker_version
        trace_id, span_id = (call.trace_id, call.span_id) if call else _current_ids()
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
            "model_version": version,
            "trace_id": f"{trace_id:032x}" if trace_id else None,
            "span_id": f"{span_id:016x}" if span_id else None,
            "exception": _traces(record.exc_info[1]) if record.exc_info else None,
        }
        return json.dumps({key: value for key, value in line.items() if value is not None})


def _traces(error: BaseException | None) -> str | None:
    """Write the traceback of an exception, below those of what led to it."""
    if error is None:
        return None
    led_to_it = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    frames = traceback.format_tb(error.__traceback__)
    return (_traces(led_to_it) or "") + "".join(frames) + type(error).__qualname__ + "\n"


def _current_ids() -> tuple[int, int]:
    """Return the ids of a request that is no prediction call."""
    if not settings().otlp_endpoint:
        return 0, 0
    return trace_context.trace_id, trace_context.span_id

"""The prediction call that a log line belongs to, and OpenTelemetry's spans of its steps.

BentoML makes one span a request if an OTLP endpoint is set; this adds one for each step.
"""

import functools
import logging
import os
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from importlib.metadata import entry_points
from typing import Any, NamedTuple, ParamSpec, TypeVar

from opentelemetry import trace

from iris_api.errors import one_line

P = ParamSpec("P")
T = TypeVar("T")

DEFAULTS = {
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "OTEL_PYTHON_EXCLUDED_URLS": "/(livez|readyz|healthz|health|metrics|ping)$,/v2/health/",
}
"""Values of variables that are not set: OpenTelemetry's SDK exports nothing, by gRPC, and traces
probes."""

logger = logging.getLogger("bentoml.service")


class Call(NamedTuple):
    """One prediction call; the ids are 0 if it is not traced."""

    model_version: int
    trace_id: int = 0
    span_id: int = 0


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
"""The call that is being answered, until its last log line, which comes after its spans."""


def correct_variables() -> None:
    """Remove values that would end each worker, and empty ones, which count as not set."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        text = os.environ[name].strip()
        if text and name.endswith("_LIMIT") and not text.isdecimal():
            logger.warning("%s: ignoring %r, which is not a number", name, text)
            text = ""
        if not text:
            del os.environ[name]
    wanted = [name.strip() for name in os.environ.get("OTEL_PROPAGATORS", "none").split(",")]
    known = {"none", *entry_points(group="opentelemetry_propagator").names}
    if unknown := [name for name in wanted if name not in known]:
        text = "OTEL_PROPAGATORS: ignoring %s, whose package is not installed"
        logger.warning(text, ", ".join(unknown))
        os.environ["OTEL_PROPAGATORS"] = ",".join(name for name in wanted if name in known)


def export(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Have OpenTelemetry's SDK configure itself by its variables.

    BentoML's own provider applies few of them, and is not that of the process, which makes the
    spans of steps.

    Returns:
        Options of OpenTelemetry's middleware; none if the SDK failed, which is logged.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("opentelemetry.util.re").addFilter(_hide_header)
    try:
        # Only traced services need these. `opentelemetry-distro` uses the class as well.
        from opentelemetry.metrics import NoOpMeterProvider  # noqa: PLC0415
        from opentelemetry.sdk._configuration import _OTelSDKConfigurator  # noqa: PLC0415
        from opentelemetry.util.http import get_excluded_urls  # noqa: PLC0415

        _OTelSDKConfigurator().configure(resource_attributes=dict(resource))
        # Also where they are not exported, metrics take tens of microseconds a request.
        measured = os.environ.get("OTEL_METRICS_EXPORTER", "none").strip().lower() != "none"
        return {
            "tracer_provider": None,  # that of the process
            "meter_provider": None if measured else NoOpMeterProvider(),
            "excluded_urls": get_excluded_urls("ASGI"),
            "exclude_spans": ["receive", "send"],  # one for each message of a request
        }
    except Exception as error:  # noqa: BLE001 (of whichever exporter is installed)
        text = "no traces: %s; correct the variables OTEL_…, or install the exporter's package"
        logger.warning(text, one_line(error))
        return {}


def _hide_header(record: logging.LogRecord) -> bool:
    """Remove an invalid header, which may be a login, from the warning that names it."""
    record.args = ("not shown",)
    return True


class Tracing:
    """Adds spans to requests if they are exported; otherwise a request does no work for them."""

    def __init__(self) -> None:
        provider = trace.get_tracer_provider()
        self._enabled = not isinstance(provider, trace.ProxyTracerProvider)

    def note_version(self, version: int) -> None:
        """Record the model version that answers the current request."""
        if not self._enabled:
            current_call.set(Call(version))
            return
        trace.get_current_span().set_attribute("model_version", version)
        current_call.set(Call(version, *current_ids()))

    def step(self, name: str, function: Callable[P, T]) -> Callable[P, T]:
        """Return a function that has a span around each call; the same one if not enabled."""
        if not self._enabled:
            return function
        tracer = trace.get_tracer("iris_api")

        @functools.wraps(function)
        def traced(*args: P.args, **kwargs: P.kwargs) -> T:
            call = current_call.get()
            attributes = {"model_version": call.model_version} if call else None
            with tracer.start_as_current_span(name, attributes=attributes):
                return function(*args, **kwargs)

        return traced


def current_ids() -> tuple[int, int]:
    """Return the ids of the current trace and span, 0 if there is none."""
    context = trace.get_current_span().get_span_context()
    return context.trace_id, context.span_id

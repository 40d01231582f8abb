"""The prediction call that a log line belongs to, and OpenTelemetry's spans of its steps.

BentoML makes one span a request if an OTLP endpoint is set; this adds one for each step.
"""

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Call(NamedTuple):
    """One prediction call; the ids are 0 if it is not traced."""

    model_version: int
    trace_id: int = 0
    span_id: int = 0


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
"""The call that is being answered, until its last log line, which comes after its spans."""


class Tracing:
    """Adds spans to requests if they are exported; otherwise a request does no work for them."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled

    def note_version(self, version: int) -> None:
        """Record the model version that answers the current request."""
        if not self._enabled:
            current_call.set(Call(version))
            return
        from opentelemetry import trace  # noqa: PLC0415 (loaded by traced services alone)

        trace.get_current_span().set_attribute("model_version", version)
        current_call.set(Call(version, *current_ids()))

    def step(self, name: str, function: Callable[P, T]) -> Callable[P, T]:
        """Return a function that has a span around each call; the same one if not enabled."""
        if not self._enabled:
            return function
        from opentelemetry import trace  # noqa: PLC0415

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
    from opentelemetry import trace  # noqa: PLC0415

    context = trace.get_current_span().get_span_context()
    return context.trace_id, context.span_id

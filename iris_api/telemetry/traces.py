"""Which call a log line or a span belongs to, and the spans of its steps.

BentoML opens one span a request. With an OTLP endpoint in the environment, this adds one for each
step of a prediction; without one, nothing: the functions stay as they are.
"""

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import NamedTuple, ParamSpec, TypeVar

from bentoml._internal.configuration.containers import BentoMLContainer

from iris_api.settings import settings

MODEL_VERSION = "model_version"
"""The attribute of a span and the key of a log line, as the label of the metrics."""

P = ParamSpec("P")
T = TypeVar("T")


class Call(NamedTuple):
    """One prediction call; the ids are 0 where it is not traced."""

    model_version: int
    trace_id: int = 0
    span_id: int = 0


call: ContextVar[Call | None] = ContextVar("call", default=None)
"""The call that is being answered; it stays until its last log line, outside of its spans."""


def version_noter() -> Callable[[int], object]:
    """Return what notes which model version answers a call."""
    if not settings().otlp_endpoint:
        return lambda version: call.set(Call(version))
    from opentelemetry import trace  # noqa: PLC0415 (without traces no process need load it)

    def note(version: int) -> None:
        span = trace.get_current_span()
        span.set_attribute(MODEL_VERSION, version)
        context = span.get_span_context()
        call.set(Call(version, context.trace_id, context.span_id))

    return note


def spanned(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Have a span around each call of a function, where traces are made at all."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        if not settings().otlp_endpoint:
            return function
        tracer = BentoMLContainer.tracer_provider.get().get_tracer("iris_api")

        @functools.wraps(function)
        def step(*args: P.args, **kwargs: P.kwargs) -> T:
            known = call.get()
            attributes = {MODEL_VERSION: known.model_version} if known else None
            with tracer.start_as_current_span(name, attributes=attributes):
                return function(*args, **kwargs)

        return step

    return decorate

"""Refusals: 429 for requests that find no place, each at half the price of a prediction.

They are sent in turns, as many as there are places: each takes half the time of one that is
accepted, reading included. Were each sent at once, clients that do not wait as they are told would
take all of the worker's time, and the accepted requests would wait for their refusals.
"""

import asyncio
from collections import deque
from typing import Protocol

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from iris_api.bentoml_server.request_metrics import RequestMetrics
from iris_api.serving.admission import OverloadedError
from iris_api.serving.openapi import PREDICTIONS
from iris_api.serving.responses import CLOSE, RETRY, error_response, to_bytes
from iris_api.telemetry.recording import Metrics

TURN_SECONDS = 0.005
"""Between two turns, at least: with 64 places up to 12 800 refusals a second."""


class Refusable(Protocol):
    """A connection, as far as refusals need it."""

    transport: asyncio.Transport
    flow: FlowControl

    def on_response_complete(self) -> None:
        """Go on with the next request."""


class Refusals:
    """The refusals of one worker.

    Args:
        state: of the server, with the headers of every answer.
        metrics: that count them.
        per_turn: how many are sent at once.
    """

    def __init__(self, state: ServerState, metrics: Metrics, per_turn: int) -> None:
        self._state = state
        self._metrics = metrics
        self._per_turn = per_turn
        self._waiting: deque[tuple[Refusable, RequestResponseCycle]] = deque()
        self._has_turn = False

    def refuse(self, connection: Refusable, cycle: RequestResponseCycle) -> None:
        """Count a request that finds no place, and have it answered when there is time."""
        path = cycle.scope["path"]
        if path in PREDICTIONS:
            self._metrics.reject("overloaded")
        if RequestMetrics.of_worker:
            RequestMetrics.of_worker.count_refused(path)
        self._waiting.append((connection, cycle))
        self._take_turn()

    def _take_turn(self) -> None:
        if self._waiting and not self._has_turn:
            self._has_turn = True
            asyncio.get_running_loop().call_later(TURN_SECONDS, self._send)

    def _send(self) -> None:
        kept, last = (self._message(headers) for headers in (RETRY, RETRY | CLOSE))
        for _ in range(min(len(self._waiting), self._per_turn)):
            connection, cycle = self._waiting.popleft()
            if cycle.disconnected or connection.transport.is_closing():
                continue
            if connection.flow.write_paused:  # it takes none of its answers
                connection.transport.abort()
                continue
            connection.transport.write(kept if cycle.keep_alive else last)
            cycle.response_started = cycle.response_complete = True
            if not cycle.keep_alive:
                connection.transport.close()
            connection.on_response_complete()
        self._has_turn = False
        self._take_turn()

    def _message(self, headers: dict[str, str]) -> bytes:
        response = error_response(429, str(OverloadedError()), headers=headers)
        return to_bytes(response, self._state.default_headers)

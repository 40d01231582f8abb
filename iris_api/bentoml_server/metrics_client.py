"""The workers' metrics, read by BentoML while no worker updates them.

Buys: each scrape has every request as a whole, and all that were answered before it (tests:
test_metrics.py). BentoML calls the `__metrics__` hook after it has read the files, which is too
late for a lock. Relies on `BentoMLContainer.metrics_client` and `PrometheusClient.generate_latest`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.server.metrics.prometheus import PrometheusClient


class LockedClient(PrometheusClient):
    """BentoML's metrics client, which renders the page within a context.

    Args:
        rendering: makes the context.
    """

    def __init__(self, rendering: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__()
        _ = self.registry  # its destructor asserts that this was called
        self._rendering = rendering

    def generate_latest(self) -> bytes:
        """Render the page of all workers."""
        with self._rendering():
            page: bytes = super().generate_latest()  # type: ignore[no-untyped-call]
        return page


def render_metrics_within(rendering: Callable[[], AbstractContextManager[None]]) -> None:
    """Have BentoML render the page of `GET /metrics` within a context."""
    BentoMLContainer.metrics_client.set(LockedClient(rendering))

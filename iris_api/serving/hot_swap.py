"""The hot swap: a worker's model, and its replacement without a break between two answers."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import anyio.to_thread

from iris_api.errors import IrisError
from iris_api.model.loaded_model import Model
from iris_api.protocols.native import NativeProtocol
from iris_api.serving.messages import ServedModel
from iris_api.store import active_version, registry_status
from iris_api.store.entry import Entry
from iris_api.telemetry import logs
from iris_api.telemetry.recording import Metrics

logger = logging.getLogger("bentoml.service")

RETRY_SECONDS = 60
"""Seconds until an active version that failed to load is retried: the cause may pass, such as too
many open files, but each attempt reads all files of the entry."""


@dataclass(frozen=True)
class Served:
    """A loaded model, and the protocol with its columns."""

    model: Model
    native: NativeProtocol


class HotSwap:
    """The model of one worker, which follows the active version of the store.

    A request reads `served` once and keeps the reference, so that one version answers all of it:
    a swap replaces the reference and never changes the model behind it.

    `carried` is the entry in the Bento, if there is one; `follows` says whether the active version
    of the store precedes it; `max_rows` is the limit of a request.
    """

    def __init__(
        self, name: str, *, carried: Entry | None, follows: bool, metrics: Metrics, max_rows: int
    ) -> None:
        self.served: Served | None = None
        self.reason = ""  # why no model can be loaded
        self._name = name
        self._carried = carried
        self._follows = follows
        self._metrics = metrics
        self._max_rows = max_rows
        self._seen: tuple[str, int] | None = None
        self._retry_at = math.inf  # time.monotonic(); infinite while the active version is loaded

    @property
    def model(self) -> Model | None:
        """The model that answers, if any does."""
        return self.served.model if self.served else None

    def load(self) -> None:
        """Load the first usable entry: the active version, the one before it, the Bento's own.

        A worker that replaces another one thus answers as the others do, even if the active version
        cannot be loaded.
        """
        self._seen = self._pointer()
        for load in self._sources():
            try:
                self._use(load())
            except (IrisError, OSError) as error:
                self._retry_at = time.monotonic() + RETRY_SECONDS
                self.reason = self.reason or str(error)
                logger.error("this model cannot answer: %s", error)  # noqa: TRY400 (no traceback)
            else:
                return

    def provenance(self) -> ServedModel | None:
        """Return where the model comes from, and what its registry said last."""
        if (model := self.model) is None:
            return None
        status = registry_status.read(self._name) if self._follows else None
        card = dict(model.metadata)
        return ServedModel(**card, tag=model.tag, origin=model.origin, registry=status)

    async def follow(self, seconds: float) -> None:
        """Poll the store for another active version, with so many seconds between two polls.

        A version that cannot be loaded is retried after RETRY_SECONDS. Never returns.
        """
        while True:
            await asyncio.sleep(seconds)
            found = self._pointer()
            due = found != self._seen or time.monotonic() >= self._retry_at
            if found is not None and due:
                self._seen = found
                await self._reload()

    def _sources(self) -> Iterator[Callable[[], Model]]:
        carried = self._carried
        if self._seen is not None or carried is None:
            yield self._load_active
        if self._seen is not None:
            yield lambda: Model.load(active_version.previous(self._name), origin="store")
        if carried is not None:
            yield lambda: Model.load(carried, origin="bento")

    async def _reload(self) -> None:
        start = time.perf_counter()
        former = self.model
        try:
            # In a thread: the worker goes on answering with the former model.
            self._use(model := await anyio.to_thread.run_sync(self._load_active))
        except (IrisError, OSError) as error:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            if former is None:
                self.reason = str(error)
            kept = f"{former.tag} goes on answering" if former else "no model can answer"
            self._metrics.count_reload("failure")
            logger.error("not activated, and %s: %s", kept, error)  # noqa: TRY400
            return
        self._retry_at = math.inf
        self._metrics.count_reload("success")
        took = time.perf_counter() - start
        tag = former and former.tag
        logger.info("%s answers instead of %s, after %.2f s", model.tag, tag, took)

    def _load_active(self) -> Model:
        return Model.load(active_version.active(self._name), origin="store")

    def _use(self, model: Model) -> None:
        self._metrics.activate(model)  # first: the next request counts on it
        self.served = Served(model, NativeProtocol(model.schema, self._max_rows))
        logs.JsonFormatter.worker_version = model.version

    def _pointer(self) -> tuple[str, int] | None:
        return active_version.pointer(self._name) if self._follows else None

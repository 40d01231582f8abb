"""The model that a worker answers with, and its replacement while the worker answers."""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Any

import anyio.to_thread
import bentoml

from iris_api.errors import IrisError
from iris_api.model.loaded import Classifier
from iris_api.store import active_version, registry_status
from iris_api.telemetry import logs
from iris_api.telemetry.recording import Metrics

logger = logging.getLogger("bentoml.service")

RETRY_SECONDS = 60
"""Before an active entry that failed is tried again: the fault may pass, such as file handles that
were all in use or a volume that was restored by half. Each try reads all files of the entry."""

Pointer = tuple[str, int] | None
"""The active version's name in the store and when it was written, in ns; None without one."""


class HotSwap:
    """Holds one worker's model, and swaps it when another version is activated.

    Whoever reads `model` once and goes on with that reference has one version from start to end:
    a swap replaces the reference and never the model behind it.

    Attributes:
        model: that answers, or None while none can.
        reason: why none can, one line.

    Args:
        name: of the registered model.
        carried: the entry that a Bento has with it.
        follows: whether the store's active entry goes before the carried one.
        metrics: to tell what is loaded.
    """

    def __init__(
        self,
        name: str,
        *,
        carried: bentoml.Model | None,
        follows: bool,
        metrics: Metrics,
    ) -> None:
        self.model: Classifier | None = None
        self.reason = ""
        self._name = name
        self._carried = carried
        self._follows = follows
        self._metrics = metrics
        self._seen: Pointer = None
        self._retry_at = math.inf  # time.monotonic(); not while the active entry answers

    def load(self) -> None:
        """Open the first entry that can be used: the active, the formerly active, the carried one.

        So a worker that is started anew answers as its siblings do, also where what was activated
        last cannot be used.
        """
        self._seen = self._pointer()
        carried = self._carried
        if self._seen is not None or carried is None:
            self._try(self._open_active)
        if self.model is None:
            self._retry_at = time.monotonic() + RETRY_SECONDS
        if self.model is None and self._seen is not None:
            self._try(self._open_previous)
        if self.model is None and carried is not None:
            self._try(lambda: Classifier.load(carried, origin="bento"))

    def _try(self, opening: Callable[[], Classifier]) -> None:
        try:
            self._use(opening())
        except (IrisError, OSError) as error:
            self.reason = self.reason or str(error)
            logger.error("this model cannot answer: %s", error)  # noqa: TRY400 (one line says it)

    def provenance(self) -> dict[str, Any] | None:
        """Tell where the model comes from; None without one."""
        if self.model is None:
            return None
        status = registry_status.read(self._name) if self._follows else None
        return self.model.info | ({"registry": status.model_dump()} if status else {})

    async def follow(self, seconds: float) -> None:
        """Look every so many seconds whether another entry was activated; never ends.

        Where the active entry cannot be used, it is tried again each RETRY_SECONDS, or as soon as
        anything is activated.
        """
        while True:
            await asyncio.sleep(seconds)
            found = self._pointer()
            due = found != self._seen or time.monotonic() >= self._retry_at
            if found is not None and due:
                self._seen = found
                await self._reload()

    async def _reload(self) -> None:
        start = time.perf_counter()
        former = self.model
        try:
            # In a thread, beside the running model: a worker answers all the while.
            model = await anyio.to_thread.run_sync(self._open_active)
            self._use(model)
        except (IrisError, OSError) as error:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            if former is None:
                self.reason = str(error)
            kept = f"{former.tag} goes on answering" if former else "no model can answer"
            self._metrics.reloaded("failure")
            logger.error("not activated, and %s: %s", kept, error)  # noqa: TRY400
            return
        self._retry_at = math.inf
        self._metrics.reloaded("success")
        took = time.perf_counter() - start
        logger.info(
            "%s answers instead of %s, after %.2f s", model.tag, former and former.tag, took
        )

    def _open_active(self) -> Classifier:
        return Classifier.load(
            active_version.active(self._name, active_version.home()), origin="store"
        )

    def _use(self, model: Classifier) -> None:
        self._metrics.activate(model)  # first, because the next request may count on it
        self.model = model
        logs.use(model.version)

    def _open_previous(self) -> Classifier:
        return Classifier.load(active_version.previous(self._name), origin="store")

    def _pointer(self) -> Pointer:
        return active_version.pointer(self._name) if self._follows else None

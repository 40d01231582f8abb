"""The hot swap: a worker's model, and its replacement without a break between two answers."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import anyio.to_thread

from iris_api.errors import IrisError
from iris_api.model.loaded_model import Model
from iris_api.protocols.calls import Call, Predict, PredictProba, PredictV1
from iris_api.protocols.native import NativeProtocol
from iris_api.protocols.open_inference.infer import Infer
from iris_api.protocols.problems import INVOCATIONS
from iris_api.protocols.scoring_server import Invocations
from iris_api.schema import IncompatibleError, changes
from iris_api.serving.messages import ServedModel
from iris_api.serving.openapi import V1, V2, V2_VERSION
from iris_api.store import active_version, degraded, registry_status
from iris_api.store.degraded import Pointer
from iris_api.store.entry import Entry, StoreError
from iris_api.telemetry import logs
from iris_api.telemetry.recording import Metrics

logger = logging.getLogger("bentoml.service")

WAIT_SECONDS = 1
"""Seconds between two checks of a worker without a model whether another one has one."""

RETRY_SECONDS = 60
"""Seconds until an active version that failed to load is retried: the cause may pass, such as too
many open files, but each attempt reads all files of the entry."""

Source = tuple[Callable[[], Entry], Literal["store", "bento"]]
"""A function that finds an entry, and the store that it is in."""


KINDS: dict[str, type[Call]] = {
    "/predict": Predict,
    "/predict_proba": PredictProba,
    INVOCATIONS: Invocations,
    V1: PredictV1,
    V2: Infer,
    V2_VERSION: Infer,
}
"""The kind of call of each path."""


@dataclass(frozen=True)
class Served:
    """A loaded model, and each kind of call to it."""

    model: Model
    calls: dict[type[Call], Call]


class HotSwap:
    """The model of one worker, which follows the active version of the store.

    A request reads `served` once and keeps the reference, so that one version answers all of it:
    a swap replaces the reference and never changes the model behind it.

    If a worker cannot load the active version, all workers answer with the one before it, until it
    can be loaded. After a change of the schema there is no such fallback.

    `carried` is the entry in the Bento, if there is one; `follows` says whether the active version
    of the store precedes it; `max_rows` is the limit of a request.
    """

    def __init__(
        self, name: str, *, carried: Entry | None, follows: bool, metrics: Metrics, max_rows: int
    ) -> None:
        self.served: Served | None = None
        self.reason = ""  # why no model can be loaded
        self.name = name
        self._carried = carried
        self._follows = follows
        self._metrics = metrics
        self._max_rows = max_rows
        self._seen: Pointer | None = None
        self._is_active = False  # whether the active version is loaded
        self._retry_at = math.inf  # time.monotonic(); finite where this worker failed to load it

    @property
    def model(self) -> Model | None:
        """The model that answers, if any does."""
        return self.served.model if self.served else None

    def load(self) -> None:
        """Load the first usable entry, before the first request."""
        self._seen = self._pointer()
        if (model := self._first_usable(active=True)) is not None:
            self._use(model)

    def lacks(self, name: str | None = None, version: str | None = None) -> str | None:
        """Return why a model of this name and version, if given, does not answer here."""
        if name not in {None, self.name}:
            return f"this service has no model of this name; it serves {self.name}"
        if version is not None and self.model and version != str(self.model.version):
            return f"this version does not answer; version {self.model.version} does"
        return None

    @property
    def degraded(self) -> str | None:
        """The reason why a worker of this service cannot load the active version, or None."""
        return record.reason if (record := degraded.read()) else None

    def provenance(self) -> ServedModel | None:
        """Return where the model comes from, and what its registry said last."""
        if (model := self.model) is None:
            return None
        status = registry_status.read(self.name) if self._follows else None
        known = dict(model.metadata)
        if status and status.checked_at and status.version == model.version:
            known["as_of"] = status.checked_at
        return ServedModel(
            **known,
            tag=model.tag,
            origin=model.origin,
            degraded=self.degraded,
            registry=status,
        )

    async def wait(self, is_stopping: Callable[[], bool]) -> None:
        """Wait while this worker has no model and another one has, which answers all requests."""
        # The system has no event for it (ASYNC110).
        while self.model is None and self._metrics.another_serves() and not is_stopping():  # noqa: ASYNC110
            await asyncio.sleep(WAIT_SECONDS)

    async def follow(self, seconds: float) -> None:
        """Poll the store for another active version, with so many seconds between two polls.

        A version that cannot be loaded is retried after RETRY_SECONDS. Never returns.
        """
        while True:
            await asyncio.sleep(seconds)
            try:
                await self._poll()
            except Exception:  # the next poll may succeed
                logger.exception("the active version was not polled")

    async def _poll(self) -> None:
        found, record = self._pointer(), degraded.read()
        if self._follows and found is None and (self._carried is None or self.served):
            return
        was_loaded = self._is_active
        is_usable = record is None or record.pointer != found
        due = found != self._seen or time.monotonic() >= self._retry_at
        # The worker that made the record retries by its own timer, and the others do not: else they
        # would change to and fro with it.
        follows = self._retry_at == math.inf and was_loaded != is_usable
        if due or follows:
            self._seen = found
            await self._reload(active=due or is_usable)
        # The record is of another version, or this worker has loaded its version since.
        if record and self._is_active and (is_usable or not was_loaded):
            degraded.clear()

    async def _reload(self, *, active: bool) -> None:
        start, former = time.perf_counter(), self.model
        if not active:
            logger.error("another worker cannot load the active version: %s", self.degraded)
        # In a thread: the worker goes on answering with the former model.
        model = await anyio.to_thread.run_sync(lambda: self._first_usable(active=active))
        failed = not self._is_active
        promoted = not failed and model and former and model.engine is former.engine
        if active and not promoted:
            self._metrics.count_reload("failure" if failed else "success")
        if model is None:
            return
        if model is former:
            logger.error("%s goes on answering", model.tag)
            return
        self._use(model)
        if promoted:  # it answers already
            return
        took = time.perf_counter() - start
        logger.info(
            "%s answers instead of %s, after %.2f s", model.tag, former and former.tag, took
        )

    def _first_usable(self, *, active: bool) -> Model | None:
        """Load the first usable entry: the active version, the one before it, the Bento's own.

        If there is none, the present model is kept.
        """
        sources = self._sources()
        self._retry_at, self._is_active = math.inf, active
        for find, origin in sources if active else sources[1:]:
            try:
                entry, present = find(), self.model
                if not self._is_active:
                    if present and present.tag == str(entry.tag):
                        return present
                    self._check_fallback(entry)
                promoted = present and present.promoted(entry, origin)
                return promoted or Model.load(entry, origin=origin)
            except (IrisError, OSError) as error:
                if self._is_active:
                    self._is_active = False
                    self._retry_at = time.monotonic() + RETRY_SECONDS
                    self.reason = str(error)
                    degraded.record(self._seen, self.reason)
                logger.error("this model cannot answer: %s", error)  # noqa: TRY400 (no traceback)
        return self.model

    def _check_fallback(self, entry: Entry) -> None:
        """Reject an entry with another schema: the requests of the active version do not fit it."""
        with contextlib.suppress(StoreError, OSError):
            active = active_version.active(self.name)
            if found := changes(entry.metadata.contract, active.metadata.contract):
                raise IncompatibleError(
                    f"{entry.tag} is no fallback for {active.tag}, which has another schema: "
                    f"{found[0]}"
                )

    def _sources(self) -> list[Source]:
        carried = self._carried
        sources: list[Source] = []
        if self._seen is not None or carried is None:
            sources.append((lambda: active_version.active(self.name), "store"))
        if self._seen is not None:
            sources.append((lambda: active_version.previous(self.name), "store"))
        if carried is not None:
            sources.append((lambda: carried, "bento"))
        return sources

    def _use(self, model: Model) -> None:
        self._metrics.activate(model)  # first: the next request counts on it
        native = NativeProtocol(model.schema, self._max_rows)
        self.served = Served(model, {kind: kind(model, native) for kind in KINDS.values()})
        logs.JsonFormatter.worker_version = model.version

    def _pointer(self) -> Pointer | None:
        return active_version.pointer(self.name) if self._follows else None

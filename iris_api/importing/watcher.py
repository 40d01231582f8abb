"""The watch: the active entry of the store follows what a model URI means in the registry."""

import contextlib
import logging
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import wait

from iris_api.importing import child
from iris_api.importing.outcome import Done, Failed, Outcome, T, attempt, explain
from iris_api.importing.pipeline import IDENTITY, Importer, check_name, provenance_of, record
from iris_api.importing.sources import Folder, Registry
from iris_api.model_uri import ModelURI
from iris_api.registry.versions import ModelVersion, log_stage
from iris_api.store import active_version, registry_status
from iris_api.store import entry as store
from iris_api.store.metadata import Provenance
from iris_api.store.retention import prune

logger = logging.getLogger(__name__)

POLL_MAXIMUM_SECONDS = 60
"""Longest pause between two polls after failures, unless the watch's own interval is longer."""

RETRY_SECONDS = 5
"""Time in which a poll retries its requests. It has all of the usual retries after quick failures,
and none after a time-out, so that a server that hangs is reported with the first one."""


@dataclass
class Watcher:
    """Keeps the active entry of one registered model at what its URI means.

    Each poll and each import is a child process. The same problem is logged once.

    Attributes:
        interval: Seconds between two polls.
        limits: What a poll may take, and an import.
        keep: How many entries stay in the store.
    """

    importer: Importer
    uri: ModelURI
    interval: float
    limits: child.Limits
    keep: int
    signals: child.Signals
    _is_away: bool = field(default=False, init=False)
    _logged: str = field(default="", init=False)
    _in_stage: list[int] = field(default_factory=list, init=False)
    # What the last problem was about, and whether it may pass.
    _problem: tuple[object, bool] | None = field(default=None, init=False)

    def run(self) -> signal.Signals:
        """Follow the registry until a signal comes, and return that."""
        longest = max(self.interval, POLL_MAXIMUM_SECONDS)
        pause = seconds = self.interval
        while not self.signals.received:
            if self._poll():
                pause = seconds = self.interval
            else:
                pause = min(pause * 2, longest)
                seconds = pause * random.uniform(0.5, 1)  # noqa: S311 (many watches poll one server)
            wait([self.signals.descriptor], seconds)
        return self.signals.received

    def _poll(self) -> bool:
        """Ask the registry once, and act on the answer; false means that the next poll may wait."""
        named = attempt(partial(check_name, self.uri.name))
        if isinstance(named, Failed):
            return self._failed(named.error)
        found = self._in_child(partial(_resolve, self.importer.source, self.uri))
        if self.signals.received:
            return True
        record(self.uri.name, found, warn=self._log_once)
        if isinstance(found, Failed) and found.transient:
            if not self._is_away:
                logger.warning("the registry is away: %s; %s", found.error, self._kept())
            self._is_away = True
            return False
        if self._is_away:
            logger.info("the registry is back")
        self._is_away = False
        if isinstance(found, Failed):  # there is no such version, or its files are out of reach
            return self._failed(found.error)
        return self._follow(found.result)

    def _in_child(self, work: Callable[[], T]) -> Outcome[T]:
        return child.run(work, self.limits, self.signals)

    def _log_once(self, line: str) -> None:
        if line != self._logged:
            logger.warning("%s", line)
            self._logged = line

    def _kept(self) -> str:
        """Return the end of a line about a problem: which version stays active."""
        try:
            return f"{active_version.active(self.uri.name).tag} stays active"
        except (store.StoreError, OSError):
            return "no version is active"

    def _failed(self, line: str, about: object = None, *, transient: bool = False) -> bool:
        problem = (about or line, transient)
        if self._problem != problem:
            logger.error("%s", f"error: {line}; {self._kept()}")
        self._problem = problem
        return not transient

    def _follow(self, version: ModelVersion) -> bool:
        """Make a version the active one, unless it is already or was rejected before."""
        wanted = provenance_of(version)
        about = _identity(wanted)
        known, self._in_stage = self._in_stage, version.in_stage
        outcome = attempt(partial(self._reactivate, wanted))
        if outcome == Done(None):
            if self._problem == (about, False):
                return True
            again = self._problem == (about, True)
            outcome = self._in_child(partial(_import, self.importer, self.uri, quiet=again))
            if isinstance(outcome, Failed) and self.signals.received:
                return True
        elif known != version.in_stage:
            log_stage(version)  # as an import does itself
        if isinstance(outcome, Failed):
            registry_status.record_rejection(
                self.uri.name, outcome.error, incompatible=outcome.incompatible
            )
            yet = " yet" if outcome.transient else ""
            line = f"version {version.version} is not activated{yet}: {outcome.error}"
            return self._failed(line, about, transient=outcome.transient)
        if self._problem and not outcome.result:
            logger.info("%s is version %d again, which is active", self.uri.text, version.version)
        self._problem = None
        if outcome.result:
            print(outcome.result, flush=True)
            try:
                for tag in prune(self.uri.name, self.keep):
                    logger.info("%s is removed; IRIS_KEEP_VERSIONS is %d", tag, self.keep)
            except OSError as error:
                self._log_once(f"old entries are not removed: {explain(error)}")
        return True

    def _reactivate(self, wanted: Provenance) -> str | None:
        """Activate a version that is in the store.

        Its files are not fetched again to be compared, as in an import by hand: a rollback is for
        when something is wrong, perhaps with the registry, and the entry was vetted and proved.

        Returns:
            Its tag, an empty string if it is active already, or None if it is not in the store.
        """
        entries = store.entries(self.uri.name)
        with contextlib.suppress(store.StoreError):  # first, because it nearly always is this one
            entries.insert(0, active_version.active(self.uri.name))
        for entry in entries:
            engine = self.importer.engine in {"auto", entry.metadata.engine}
            if engine and _identity(entry.metadata) == _identity(wanted):
                break
        else:
            return None
        active = active_version.is_active(entry)
        if not active:
            self.importer.check_schema(self.uri.name, entry.metadata.contract)
            store.verify(entry)
        active_version.activate(entry, wanted)
        registry_status.record_activation(self.uri.name)
        if active:
            return ""
        logger.info("%s is active again", entry.tag)
        return str(entry.tag)


def _resolve(source: Registry | Folder, uri: ModelURI) -> ModelVersion:
    # The watch itself says when the registry goes away, and not each retry.
    logging.getLogger("iris_api.registry").setLevel(logging.ERROR)
    if isinstance(source, Registry):
        source.servers.registry.retry_seconds = RETRY_SECONDS
    return source.resolve(uri)


def _import(importer: Importer, uri: ModelURI, *, quiet: bool) -> str | None:
    if quiet:  # its steps were logged the first time
        logging.getLogger("iris_api").setLevel(logging.ERROR)
    return importer.run(uri)


def _identity(provenance: Provenance) -> tuple[object, ...]:
    # Unlike in an import, the source counts: files that were moved must be compared.
    return tuple(getattr(provenance, key) for key in (*IDENTITY, "source"))

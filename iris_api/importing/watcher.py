"""The watch: the active entry of the store follows what a model URI means in the registry."""

import contextlib
import json
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from iris_api.errors import IrisError
from iris_api.importing.pipeline import ImportRefusedError, look
from iris_api.importing.time_limit import EndedError, Outcome, ending, endings_held, explain
from iris_api.model_uri import ModelURI
from iris_api.registry.client import TrackingServer
from iris_api.registry.error_messages import TrackingError
from iris_api.registry.versions import ModelVersion, RegistryError
from iris_api.store import active_version
from iris_api.store import entry as store
from iris_api.store.metadata import Provenance
from iris_api.store.retention import prune

LONGEST_PAUSE_SECONDS = 60
"""Between two looks after failures, where the watch's own pause is not longer."""

END_SECONDS = 0.5
"""For an import to end by itself. Then it is killed, and the next one clears what it left."""

LATE_SECONDS = 30
"""For an import to start, and to end by its own time limit; only native code needs longer."""

IDENTITY = ("name", "version", "tracking_uri", "run_id", "model_id", "source")
"""What of an entry's metadata says that it is this very version of this very registry.

With `source`, which an import leaves out: where the files were moved, it has to look at them.
"""


@dataclass
class Watcher:
    """Keeps the active entry of one registered model at what its URI means.

    Attributes:
        server: where the registry is.
        uri: what is followed.
        interval: between two looks, in seconds.
        timeout: of a look, and of an import, in seconds.
        keep: how many entries stay in the store.
        engine: of the entries, or `auto`.
        command: of an import, which prints its outcome as JSON. It is a process of its own, so that
            scikit-learn's memory and a crash in native code end with it.
        report: told what happens, one line each, and the same trouble once.
        announce: told the tag of each activation.
    """

    server: TrackingServer
    uri: ModelURI
    interval: float
    timeout: float
    keep: int
    engine: str
    command: Sequence[str]
    report: Callable[[str], None]
    announce: Callable[[str], None]

    def __post_init__(self) -> None:
        self._failures = 0
        self._is_away = False
        # What the trouble is about, and whether it may pass.
        self._trouble: tuple[object, bool] | None = None
        self._told = ""

    def run(self) -> NoReturn:
        """Follow until a signal ends it.

        Raises:
            EndedError: that signal; the store is whole.
        """
        while True:
            self._failures = 0 if self._round() else self._failures + 1
            time.sleep(self._pause())

    def _pause(self) -> float:
        if not self._failures:
            return self.interval
        longest = max(self.interval, LONGEST_PAUSE_SECONDS)
        pause = min(self.interval * 2.0 ** min(self._failures, 16), longest)
        return pause * random.uniform(0.5, 1)  # noqa: S311 (many watches ask one server)

    def _round(self) -> bool:
        """Look once, and act on it; false where the next look had better wait longer."""
        try:
            with ending(self.timeout):
                version = look(self.server, self.uri, self._report_once)
        except TrackingError as error:
            return self._without_answer(str(error))
        except RegistryError as error:  # an answer: there is no such version, or none in reach
            self._with_answer()
            return self._failed(str(error), f"error: {error}", transient=False)
        except ImportRefusedError as error:  # before anybody was asked
            return self._failed(str(error), f"error: {error}", transient=False)
        except EndedError as error:
            if error.args[0] != signal.SIGALRM:
                raise
            return self._without_answer(f"nothing came within {self.timeout:g} s")
        self._with_answer()
        return self._follow(version)

    def _report_once(self, line: str) -> None:
        if line != self._told:
            self._told = line
            self.report(line)

    def _without_answer(self, problem: str) -> bool:
        if not self._is_away:
            self.report(f"the registry is away: {problem}")
        self._is_away = True
        return False

    def _with_answer(self) -> None:
        if self._is_away:
            self.report("the registry is back")
        self._is_away = False

    def _failed(self, about: object, line: str, *, transient: bool) -> bool:
        if self._trouble != (about, transient):
            self.report(line)
        self._trouble = (about, transient)
        return not transient

    def _follow(self, version: ModelVersion) -> bool:
        """Make a version the active one, unless it is or was refused before."""
        wanted = Provenance(**version.provenance(self.server, self.uri))
        about = _identity(wanted)
        if self._trouble == (about, False):
            return True
        try:
            known = self._known(wanted)
            outcome = self._reactivate(known, wanted) if known else self._import(about)
        except IrisError as error:
            outcome = Outcome(1, error=str(error), transient=error.transient)
        except OSError as error:
            outcome = Outcome(1, error=explain(error), transient=True)
        if outcome.error:
            yet = " yet" if outcome.transient else ""
            line = f"error: version {version.version} is not activated{yet}: {outcome.error}"
            return self._failed(about, line, transient=outcome.transient)
        self._trouble = None
        if outcome.output:
            self.announce(outcome.output)
            self._prune()
        return True

    def _known(self, wanted: Provenance) -> store.Entry | None:
        """Find the version in the store, the active entry first, because it nearly always is it.

        Its files are not fetched again to be compared, as an import by hand does. Going back is
        for when something is wrong, perhaps with the registry; and what was vetted and proved, and
        is still what it was, is the better answer even where somebody changed the files there.
        """
        with contextlib.suppress(store.StoreError):
            active = active_version.active(self.uri.name)
            if self._is(active, wanted):
                return active
        entries = store.entries(self.uri.name)
        return next((entry for entry in entries if self._is(entry, wanted)), None)

    def _is(self, entry: store.Entry, wanted: Provenance) -> bool:
        engine = self.engine in {"auto", entry.metadata.engine}
        return engine and _identity(entry.metadata) == _identity(wanted)

    def _reactivate(self, entry: store.Entry, wanted: Provenance) -> Outcome:
        """Activate what is in the store; the output is empty where it is active already."""
        active = active_version.is_active(entry)
        if not active:
            store.verify(entry)
        with endings_held():
            # After a change of stage or alias alone as well, so that the service reads them.
            if store.update(entry, wanted) or not active:
                active_version.activate(entry)
        if active:
            return Outcome(0)
        self.report(f"{entry.tag} is active again")
        return Outcome(0, output=str(entry.tag))

    def _import(self, about: object) -> Outcome:
        """Import what the URI means by the command line, in a process of its own."""
        again = self._trouble == (about, True)
        process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if again else None,  # its steps are told once
            text=True,
        )
        try:
            printed, _ = process.communicate(timeout=self.timeout + LATE_SECONDS)
            return Outcome(**json.loads(printed))
        except subprocess.TimeoutExpired:
            return Outcome(1, error=f"its import hung for {self.timeout:g} s", transient=True)
        except (ValueError, TypeError):
            said = f"its import ended with exit status {process.returncode} and said nothing"
            return Outcome(1, error=said, transient=True)
        finally:
            _end(process)

    def _prune(self) -> None:
        try:
            for tag in prune(self.uri.name, self.keep):
                self.report(f"{tag} is removed; IRIS_KEEP_VERSIONS is {self.keep}")
        except OSError as error:
            self._report_once(f"old entries are not removed: {explain(error)}")


def _identity(provenance: Provenance) -> tuple[object, ...]:
    return tuple(getattr(provenance, key) for key in IDENTITY)


def _end(process: "subprocess.Popen[str]") -> None:
    """End a process, at once where it does not end by itself."""
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()

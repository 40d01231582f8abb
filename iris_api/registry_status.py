"""When the registry was last asked and what it said, for the service, which never asks itself."""

import dataclasses
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

from bentoml._internal.configuration.containers import BentoMLContainer

from iris_api import one_line
from iris_api.staging import staging
from iris_api.store import exists, store_name


@dataclass(frozen=True)
class RegistryStatus:
    """The last look at the registry.

    Attributes:
        checked_at: Unix time in seconds of the last look that the registry answered, or None.
        version: the version that the model URI meant then, or None where it meant none.
        error: one line that says why the last look had no answer, or None where it had one.
    """

    checked_at: float | None = None
    version: int | None = None
    error: str | None = None


def read(name: str) -> RegistryStatus | None:
    """Return the status of a registered model; None where nothing, or nothing readable, is there.

    It is written whole or not at all, so only another hand can make it unreadable.
    """
    try:
        found = RegistryStatus(**json.loads(_path(name).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return found if _is_sound(found) else None


def write(name: str, status: RegistryStatus) -> None:
    """Replace the status of a registered model, as one step.

    Raises:
        OSError: the disk is full or read-only; the former status stays.
    """
    path = _path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with staging() as folder:
        written = folder / path.name
        written.write_text(json.dumps(dataclasses.asdict(status)) + "\n", encoding="utf-8")
        written.replace(path)


def answered(name: str, version: int | None) -> None:
    """Write down a look that the registry answered just now.

    Raises:
        OSError: as in `write()`.
    """
    write(name, RegistryStatus(time.time(), version))


def failed(name: str, error: object) -> None:
    """Write down a look without an answer; what was known before is kept.

    Where there is no store, none is made: an import that fails leaves all as it was.

    Raises:
        OSError: as in `write()`.
    """
    if not exists():
        return
    known = read(name) or RegistryStatus()
    write(name, dataclasses.replace(known, error=one_line(error, 400)))


def _is_sound(status: RegistryStatus) -> bool:
    number = isinstance(status.checked_at, int | float) and math.isfinite(status.checked_at)
    return (
        (status.checked_at is None or number)
        and (status.version is None or isinstance(status.version, int))
        and (status.error is None or isinstance(status.error, str))
    )


def _path(name: str) -> Path:
    home = Path(BentoMLContainer.bentoml_home.get())
    return home / "registry" / f"{store_name(name)}.json"

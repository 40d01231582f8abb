"""When the registry was last asked and what it said, for the service, which never asks itself."""

import time
from pathlib import Path
from typing import Annotated

from bentoml._internal.configuration.containers import BentoMLContainer
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from iris_api.errors import one_line
from iris_api.home import staging
from iris_api.store.entry import exists, store_name


class RegistryStatus(BaseModel):
    """The last look at the registry.

    Attributes:
        checked_at: Unix time in seconds of the last look that the registry answered, or None.
        version: the version that the model URI meant then, or None where it meant none.
        error: one line that says why the last look had no answer, or None where it had one.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    checked_at: FiniteFloat | None = None
    version: Annotated[int, Field(ge=1, lt=2**63)] | None = None
    error: str | None = None


def read(name: str) -> RegistryStatus | None:
    """Return the status of a registered model; None where nothing, or nothing readable, is there.

    It is written whole or not at all, so only another hand can make it unreadable.
    """
    try:
        return RegistryStatus.model_validate_json(_path(name).read_bytes())
    except (OSError, ValueError):
        return None


def answered(name: str, version: int | None) -> None:
    """Write down a look that the registry answered just now.

    Raises:
        OSError: the disk is full or read-only; the former status stays.
    """
    _write(name, RegistryStatus(checked_at=time.time(), version=version))


def failed(name: str, error: object) -> None:
    """Write down a look without an answer; what was known before is kept.

    Where there is no store, none is made: an import that fails leaves all as it was.

    Raises:
        OSError: as in `answered()`.
    """
    if not exists():
        return
    known = read(name) or RegistryStatus()
    _write(name, known.model_copy(update={"error": one_line(error, 400)}))


def _write(name: str, status: RegistryStatus) -> None:
    """Replace the status of a registered model, as one step."""
    path = _path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with staging() as folder:
        written = folder / path.name
        written.write_text(status.model_dump_json() + "\n", encoding="utf-8")
        written.replace(path)


def _path(name: str) -> Path:
    home = Path(BentoMLContainer.bentoml_home.get())
    return home / "registry" / f"{store_name(name)}.json"

"""The last answer of the registry, recorded for the service, which never asks it."""

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from iris_api.errors import one_line
from iris_api.home import model_store, registry_status_file, staging
from iris_api.store.entry import store_name
from iris_api.store.metadata import Timestamp, Version


class Rejected(BaseModel):
    """A version that the model URI means, and that is not activated."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    version: Version
    reason: str = Field(description="one line that says why, and how to fix it")
    incompatible: bool = Field(
        description="whether its columns or labels differ from those of the active version"
    )


class RegistryStatus(BaseModel):
    """The result of the last poll of the registry."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    checked_at: Timestamp | None = None  # the last answer; earlier versions wrote the Unix time
    version: Version | None = None  # what the model URI meant then
    problem: str | None = None  # one line that says why it meant no version
    error: str | None = None  # one line that says why the last poll failed
    rejected: Rejected | None = None  # the version, if it was not activated
    in_stage: list[Version] = []  # the versions in the stage of the model URI, if it has one


def read(name: str) -> RegistryStatus | None:
    """Return the status of a registered model; None where nothing, or nothing readable, is there.

    It is written whole or not at all, so only another program can make it unreadable.
    """
    try:
        path = registry_status_file(store_name(name))
        return RegistryStatus.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def record_answer(
    name: str, version: int | None, problem: str | None = None, in_stage: Sequence[int] = ()
) -> None:
    """Record that the registry answered just now, with a version or with the reason for none."""
    known = (read(name) or RegistryStatus()).rejected
    status = RegistryStatus(
        checked_at=datetime.now(UTC),
        version=version,
        problem=problem and one_line(problem, 400),
        rejected=known if known and known.version == version else None,
        in_stage=list(in_stage),
    )
    _write(name, status)


def record_failure(name: str, error: object) -> None:
    """Record that the registry did not answer; its last answer is kept.

    Without a model store nothing is written: an import that fails leaves everything as it was.
    """
    if model_store().is_dir():
        known = read(name) or RegistryStatus()
        _write(name, known.model_copy(update={"error": one_line(error, 400)}))


def record_activation(name: str) -> None:
    """Record that the version of the last answer is active."""
    if (known := read(name)) and known.rejected:
        _rewrite(name, known, None)


def record_rejection(name: str, reason: str, *, incompatible: bool) -> None:
    """Record why the version of the last answer is not activated."""
    if (known := read(name)) and known.version is not None:
        reason = one_line(reason, 400)
        rejected = Rejected(version=known.version, reason=reason, incompatible=incompatible)
        _rewrite(name, known, rejected)


def _rewrite(name: str, known: RegistryStatus, rejected: Rejected | None) -> None:
    # If it cannot be written, the warning about the record of the answer has said so.
    with contextlib.suppress(OSError):
        _write(name, known.model_copy(update={"rejected": rejected}))


def _write(name: str, status: RegistryStatus) -> None:
    """Replace the status of a registered model, as one step."""
    path = registry_status_file(store_name(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    with staging() as folder:
        written = folder / path.name
        written.write_text(status.model_dump_json() + "\n", encoding="utf-8")
        written.replace(path)

"""The output of `--list` and `--dry-run`, as text."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iris_api.errors import one_line
from iris_api.home import model_store
from iris_api.store.active_version import damage, is_active
from iris_api.store.entry import entries
from iris_api.store.metadata import ModelCard

if TYPE_CHECKING:
    from iris_api.registry.servers import Servers
    from iris_api.registry.versions import Place

HEADER = ("", "TAG", "VERSION", "STAGE", "ALIASES", "AS OF", "REGISTRY", "ENGINE", "SIZE", "AGE")

KEYS = (
    *("name", "version", "stage", "aliases", "as_of", "tracking_uri", "registry_uri", "workspace"),
    *("engine", "estimator", "imported_at"),
)
"""The metadata of an entry that is listed."""

AGES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
"""Seconds in each unit, the largest first."""

logger = logging.getLogger(__name__)


def list_entries(servers: "Servers | None") -> list[dict[str, Any]]:
    """Return what was imported, newest last: `bytes` on disk, `age` in seconds since the import.

    An active entry that cannot be used has a `problem`, and little else if it cannot be read.

    Args:
        servers: The registry that is asked for stages and aliases, if any. Entries of another
            one, or of one that does not answer, have what it had at the time `as_of`.
    """
    problems = damage()
    registry = _Live(servers)
    found = [
        {"tag": str(entry.tag), "active": is_active(entry)}
        | registry.ask(entry.metadata).model_dump(mode="json", include=set(KEYS))
        | {
            "bytes": _size(entry.path),
            "age": round((datetime.now(UTC) - entry.created).total_seconds()),
            "problem": problems.pop(entry.tag, None),
        }
        for entry in entries()
    ]
    for tag, problem in problems.items():
        row = {"tag": str(tag), "active": True} | dict.fromkeys(KEYS)
        size = _size(model_store() / tag.path())
        found.append(row | {"bytes": size, "age": None, "problem": problem})
    return found


class _Live:
    """The stages and aliases that a registry has now; each registered model is asked for once."""

    def __init__(self, servers: "Servers | None") -> None:
        self._servers = servers
        self._places: dict[str, dict[int, Place]] = {}

    def ask(self, card: ModelCard) -> ModelCard:
        """Return a card with its present stage and aliases, where its registry answers."""
        found = self._find(card)
        as_of = datetime.now(UTC).replace(microsecond=0) if found else card.as_of
        stage, aliases = found or (card.stage, card.aliases)
        update = {"stage": stage, "aliases": aliases, "as_of": as_of or card.imported_at}
        return card.model_copy(update=update)

    def _find(self, card: ModelCard) -> "Place | None":
        servers = self._servers
        address = servers.registry.address if servers else None
        if not servers or (address, servers.workspace) != (_registry_of(card), card.workspace):
            return None
        # mlflow takes seconds to import.
        from iris_api.registry.error_messages import (  # noqa: PLC0415
            NotFoundError,
            TrackingError,
        )
        from iris_api.registry.versions import places  # noqa: PLC0415

        try:
            if card.name not in self._places:
                self._places[card.name] = places(servers.registry, card.name)
        except NotFoundError:
            self._places[card.name] = {}
        except TrackingError as error:
            logger.warning("stages and aliases are not those of now: %s", error)
            self._servers = None
            return None
        return self._places[card.name].get(card.version)


def _registry_of(card: ModelCard) -> str:
    """Return the address of the registry that a model is from."""
    return card.registry_uri or card.tracking_uri


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def to_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay out entries in columns, with a star before the active ones."""
    lines: list[tuple[str, ...]] = [HEADER]
    for row in rows:
        registry = " ".join(
            filter(None, (row["registry_uri"] or row["tracking_uri"], row["workspace"]))
        )
        cells = (row["tag"], row["version"], row["stage"], ",".join(row["aliases"] or []))
        as_of = (row["as_of"] or "").removesuffix("+00:00").replace("T", " ")
        shown = (one_line(cell or "-") for cell in (*cells, as_of, registry, row["engine"]))
        age = "-" if row["age"] is None else _in_units(row["age"])
        lines.append(("*" if row["active"] else "", *shown, _to_size(row["bytes"]), age))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    widths[0] = 1  # the column of the stars, also in an empty table
    return "\n".join(
        " ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _in_units(seconds: int) -> str:
    size, unit = next((unit for unit in AGES if seconds >= unit[0]), AGES[-1])
    return f"{seconds // size} {unit}"


def _to_size(size: float) -> str:
    """Return a number of bytes as `bentoml models list` does."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"


def to_lines(found: Mapping[str, Any]) -> str:
    """Lay out what a dry run found, a name and its value on each line."""
    return "\n".join(f"{key:16} {one_line(_to_text(value), 400)}" for key, value in found.items())


def _to_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, dict):
        if value.keys() == {"reason"}:
            return str(value["reason"])
        return ", ".join(f"{key} {_nested(part)}" for key, part in value.items())
    return ", ".join(map(_nested, value)) if isinstance(value, list) else str(value)


def _nested(value: Any) -> str:
    return f"({_to_text(value)})" if isinstance(value, dict | list) else _to_text(value)

"""What the model store has, and what a dry run found, for people."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from iris_api.errors import one_line
from iris_api.store import active_version
from iris_api.store import entry as store

HEADER = ("", "TAG", "VERSION", "STAGE", "ALIASES", "ENGINE", "SIZE", "AGE")

AGES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
"""Seconds in each unit, the largest first."""

SIZES = ((1024**2, "MiB"), (1024, "KiB"), (1, "B"))
"""Bytes in each unit, the largest first."""


def list_entries() -> list[dict[str, Any]]:
    """Return what was imported, the active entry of each registered model marked, newest last.

    `bytes` is all that an entry takes on disk; `age` is in seconds since its import.
    """
    return [_describe(entry) for entry in store.entries()]


def _describe(entry: store.Entry) -> dict[str, Any]:
    shown = {"name", "version", "stage", "aliases", "engine", "estimator", "imported_at"}
    files = (path for path in entry.path.rglob("*") if path.is_file())
    return {
        "tag": str(entry.tag),
        "active": active_version.is_active(entry),
        **entry.metadata.model_dump(mode="json", include=shown),
        "bytes": sum(path.stat().st_size for path in files),
        "age": round((datetime.now(UTC) - entry.created).total_seconds()),
    }


def to_table(rows: Sequence[dict[str, Any]]) -> str:
    """Lay the rows out in columns, the active ones with a star before them."""
    lines: list[tuple[str, ...]] = [HEADER]
    for row in rows:
        aliases = ",".join(map(str, row["aliases"] or ())) or "-"
        shown = (row["tag"], row["version"], row["stage"], aliases, row["engine"])
        size, age = _unit(row["bytes"], SIZES), _unit(row["age"], AGES)
        lines.append(("*" if row["active"] else "", *map(one_line, shown), size, age))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    widths[0] = 1  # with nothing in the store as well
    return "\n".join(
        " ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _unit(value: int, units: Sequence[tuple[int, str]]) -> str:
    for size, unit in units:
        if value >= size:
            return f"{value // size} {unit}"
    return f"0 {units[-1][1]}"


def to_lines(found: Mapping[str, Any]) -> str:
    """Lay out what a dry run found, a name and its value in each line."""
    return "\n".join(f"{key:16} {one_line(_plain(value), 400)}" for key, value in found.items())


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)

"""The output of `--list` and `--dry-run`, as text."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from iris_api.errors import one_line
from iris_api.store.active_version import is_active
from iris_api.store.entry import entries

HEADER = ("", "TAG", "VERSION", "STAGE", "ALIASES", "ENGINE", "SIZE", "AGE")

KEYS = {"name", "version", "stage", "aliases", "engine", "estimator", "imported_at"}
"""The metadata of an entry that is listed."""

AGES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
SIZES = ((1024**2, "MiB"), (1024, "KiB"), (1, "B"))
"""Seconds or bytes in each unit, the largest first."""


def list_entries() -> list[dict[str, Any]]:
    """Return what was imported, newest last: `bytes` on disk, `age` in seconds since the import."""
    found = []
    for entry in entries():
        files = (path for path in entry.path.rglob("*") if path.is_file())
        found.append(
            {"tag": str(entry.tag), "active": is_active(entry)}
            | entry.metadata.model_dump(mode="json", include=KEYS)
            | {
                "bytes": sum(path.stat().st_size for path in files),
                "age": round((datetime.now(UTC) - entry.created).total_seconds()),
            }
        )
    return found


def to_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay out entries in columns, with a star before the active ones."""
    lines: list[tuple[str, ...]] = [HEADER]
    for row in rows:
        aliases = ",".join(row["aliases"]) or "-"
        shown = (row["tag"], row["version"], row["stage"], aliases, row["engine"])
        size, age = _in_units(row["bytes"], SIZES), _in_units(row["age"], AGES)
        lines.append(("*" if row["active"] else "", *map(one_line, shown), size, age))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    widths[0] = 1  # the column of the stars, also in an empty table
    return "\n".join(
        " ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _in_units(value: int, units: Sequence[tuple[int, str]]) -> str:
    size, unit = next((unit for unit in units if value >= unit[0]), units[-1])
    return f"{value // size} {unit}"


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

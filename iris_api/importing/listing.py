"""The output of `--list` and `--dry-run`, as text."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from iris_api.errors import one_line
from iris_api.home import model_store
from iris_api.store.active_version import damage, is_active
from iris_api.store.entry import entries

HEADER = ("", "TAG", "VERSION", "STAGE", "ALIASES", "WORKSPACE", "ENGINE", "SIZE", "AGE")

KEYS = ("name", "version", "stage", "aliases", "workspace", "engine", "estimator", "imported_at")
"""The metadata of an entry that is listed."""

AGES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
SIZES = ((1024**2, "MiB"), (1024, "KiB"), (1, "B"))
"""Seconds or bytes in each unit, the largest first."""


def list_entries() -> list[dict[str, Any]]:
    """Return what was imported, newest last: `bytes` on disk, `age` in seconds since the import.

    An active entry that cannot be used has a `problem`, and little else if it cannot be read.
    """
    problems = damage()
    found = [
        {"tag": str(entry.tag), "active": is_active(entry)}
        | entry.metadata.model_dump(mode="json", include=set(KEYS))
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


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def to_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay out entries in columns, with a star before the active ones."""
    lines: list[tuple[str, ...]] = [HEADER]
    for row in rows:
        cells = (row["tag"], row["version"], row["stage"], ",".join(row["aliases"] or []))
        shown = (one_line(cell or "-") for cell in (*cells, row["workspace"], row["engine"]))
        age = "-" if row["age"] is None else _in_units(row["age"], AGES)
        size = _in_units(row["bytes"], SIZES)
        lines.append(("*" if row["active"] else "", *shown, size, age))
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

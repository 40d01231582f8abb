"""The active version of a registered model: the entry that the service answers with.

It is the one that BentoML's own `latest` file names, so that `bentoml build`,
`bentoml models get irismodel:latest` and the service all mean the same entry. BentoML writes the
entry created last into that file; `activate` writes the one promoted last. So the file is read here
and not by BentoML, which replaces one that names no entry by the entry created last.
"""

import re
from pathlib import Path
from typing import TypeGuard

import bentoml

from iris_api.errors import one_line
from iris_api.home import lock, model_store, staging
from iris_api.store.entry import (
    ONE_NAME_EACH,
    Entry,
    StoreError,
    get,
    removal,
    store_name,
    update,
    verify,
)
from iris_api.store.metadata import Provenance

LATEST = "latest"
PREVIOUS = "previous"
"""The file beside BentoML's `latest` that names the version that was active before."""

OURS = re.compile("v[0-9]+-[0-9a-f]{8}")
"""The version part of the tags that an import gives."""


def active(name: str) -> Entry:
    """Return the active entry of a registered model, or raise a StoreError."""
    store, tag = model_store(), bentoml.Tag(store_name(name), LATEST)
    found = _read(store / tag.latest_path())
    if found is None:
        raise StoreError(f"{tag} is not in the model store {store}; run python import_model.py")
    if not _is_version(found):
        raise StoreError(
            f"{store / tag.latest_path()} names no version, but {one_line(found, 40)!r}; "
            "run python import_model.py"
        )
    return _entry_of(name, found)


def previous(name: str) -> Entry:
    """Return the entry that was active before, for when the active one cannot be used."""
    found = _read(model_store() / store_name(name) / PREVIOUS)
    if not _is_version(found):
        raise StoreError(f"no version of {name} was active before")
    return _entry_of(name, found)


def pointer(name: str) -> tuple[str, int] | None:
    """Return the content of `latest` and when it was written, in ns; None without the file."""
    path = model_store() / store_name(name) / LATEST
    try:
        return _read(path) or "", path.stat().st_mtime_ns
    except OSError:
        return None


def is_active(entry: Entry) -> bool:
    """Return whether an entry is the active one."""
    return _read(entry.path.parent / LATEST) == entry.tag.version


def is_needed(entry: Entry) -> bool:
    """Return whether the service answers with an entry, or falls back to it."""
    return is_active(entry) or _read(entry.path.parent / PREVIOUS) == entry.tag.version


def damage() -> dict[bentoml.Tag, str]:
    """Return why active entries that are in the store cannot be used, by their tags.

    Other programs' models are left out: their versions are not named as an import names them.
    """
    found = {}
    for path in sorted(model_store().glob(f"*/{LATEST}")):
        version = _read(path) or ""
        if OURS.fullmatch(version) and (path.parent / version).is_dir():
            tag = bentoml.Tag(path.parent.name, version)
            try:
                verify(get(tag))
            except (StoreError, OSError) as error:
                found[tag] = str(error)
    return found


def publish(folder: Path, tag: bentoml.Tag) -> Entry:
    """Move the entry of a staging folder into the store and make it the active one: two renames.

    Where another import of the same version was faster, its entry stays.

    Raises:
        StoreError: Another content has this tag already.
    """
    target = model_store() / tag.path()
    target.parent.mkdir(parents=True, exist_ok=True)
    with lock(target.parent):
        written = _write_pointers(folder, tag)  # first, because it fails on a full disk
        staged = get(tag, folder / "models")
        try:
            staged.path.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            verify(get(tag))
        entry = get(tag)
        if entry.metadata.digest != staged.metadata.digest:
            raise StoreError(
                f"{entry.tag} has other files in it; run {removal(target)}, then import it again"
            )
        _move_pointers(written, target.parent)
    return entry


def activate(entry: Entry, provenance: Provenance) -> None:
    """Make an entry the active one, with the provenance that the registry gives it now.

    After a change of stage or alias alone it is activated again, so that a service reads them. The
    model URI is no such change: an import by hand may name a version otherwise than the watch does.
    """
    if is_active(entry):
        known = {"model_uri": entry.metadata.model_uri}
        if not update(entry, provenance.model_copy(update=known)):
            return
    else:
        update(entry, provenance)
    # The lock keeps out `retention`, which spares the active entry, and other activations.
    with staging() as folder, lock(entry.path.parent):
        get(entry.tag)  # it may have been removed just now
        _move_pointers(_write_pointers(folder, entry.tag), entry.path.parent)


def _entry_of(name: str, version: str) -> Entry:
    """Return an entry of this very registered model: the store's names are shorter than theirs."""
    entry = get(bentoml.Tag(store_name(name), version))
    if (other := entry.metadata.name) != name:
        raise StoreError(
            f"{entry.tag} is of the registered model {one_line(other)}, not of {name}; "
            f"{ONE_NAME_EACH}"
        )
    return entry


def _read(path: Path) -> str | None:
    """Return the content of a file that names a version; None where there is no such file."""
    try:
        # After a power failure it may be zeros, or no text at all.
        return path.read_text("utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None


def _is_version(text: str | None) -> TypeGuard[str]:
    """Return whether a text is the version part of a tag, and not a path, for example."""
    return bool(re.fullmatch(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?", text or ""))


def _write_pointers(folder: Path, tag: bentoml.Tag) -> Path:
    """Write `latest` and `previous` into a staging folder, under the lock of the model's folder."""
    written = folder / "pointer"
    written.mkdir()
    models = model_store() / tag.name
    former = _read(models / LATEST)
    # One that names no entry must not replace a former one that can still be used.
    if former != tag.version and _is_version(former) and (models / former).is_dir():
        (written / PREVIOUS).write_text(former, encoding="utf-8")
    (written / LATEST).write_text(str(tag.version), encoding="utf-8")
    return written


def _move_pointers(written: Path, models: Path) -> None:
    # The former one first, so that a service that reads the new version can fall back.
    for name in (PREVIOUS, LATEST):
        if (written / name).exists():
            (written / name).replace(models / name)

"""The active entry of a registered model: the one that the service answers with.

It is the one that BentoML's own `latest` points to, so that `bentoml build`,
`bentoml models get irismodel:latest` and the service all mean the same one. BentoML moves that
pointer to the entry created last; `activate` moves it to the entry promoted last. So the pointer is
read here and not by BentoML, which replaces one that leads nowhere by the entry created last.
"""

import re
from pathlib import Path

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.models import ModelStore

from iris_api.errors import one_line
from iris_api.home import lock, staging
from iris_api.store import entry as store

LATEST = "latest"
PREVIOUS = "previous"
"""Beside BentoML's `latest`: the version that it pointed to before."""


def home() -> ModelStore:
    """Return the store of BENTOML_HOME, where imports go; a served Bento has one of its own."""
    return ModelStore(BentoMLContainer.model_store_dir.get())


def active(name: str, where: ModelStore | None = None) -> store.Entry:
    """Return the entry of a registered model that was activated last.

    Raises:
        StoreError: nothing is imported yet, the pointer was damaged, or it leads to no entry, or to
            one of another model with the same store name.
    """
    models = _folder(where)
    tag = bentoml.Tag(store.store_name(name), LATEST)
    found = _read(models / tag.latest_path())
    if found is None:
        raise store.StoreError(
            f"{tag} is not in the model store {models}; run python import_model.py"
        )
    if (version := _version(found)) is None:
        raise store.StoreError(
            f"{models / tag.latest_path()} names no version, but {one_line(found, 40)!r}; "
            "run python import_model.py"
        )
    return _of(name, store.get(bentoml.Tag(tag.name, version), where))


def pointer(name: str) -> tuple[str, int] | None:
    """Tell which entry is active in `home()`, and when it became that; a look at one small file.

    Returns:
        The version part of its tag, or whatever stands there where it was damaged, and the time of
        its activation in ns; None without one.
    """
    path = Path(BentoMLContainer.model_store_dir.get()) / store.store_name(name) / LATEST
    try:
        return _text(path), path.stat().st_mtime_ns
    except OSError:
        return None


def _read(path: Path) -> str | None:
    """Return what a pointer says; None where there is none."""
    try:
        return _text(path)
    except FileNotFoundError:
        return None


def _text(path: Path) -> str:
    # After a loss of power it may be zeros, or no text at all.
    return path.read_text("utf-8", errors="replace").strip()


def _version(text: str | None) -> str | None:
    """Return the version that a pointer names; None where it names none, such as a path."""
    plain = re.fullmatch(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?", text or "")
    return plain and plain[0]


def _folder(where: ModelStore | None) -> Path:
    return Path(where._path) if where else store.models_folder()  # noqa: SLF001 (no public name)


def commit(folder: Path, tag: bentoml.Tag, digest: str) -> store.Entry:
    """Publish a staged entry and make it the active one: two renames.

    Args:
        folder: where it was staged.
        tag: from `store.stage()`.
        digest: of the model's files, whole.

    Returns:
        The entry. Where another import was faster, the entry of that one.

    Raises:
        StoreError: another content has this tag already.
    """
    target = store.models_folder() / tag.path()
    target.parent.mkdir(parents=True, exist_ok=True)
    with lock(target.parent):
        written = _write_pointer(folder, tag)  # what can fail for want of space comes first
        try:
            (folder / "models" / tag.path()).rename(target)
        except OSError:
            if not target.is_dir():
                raise
            store.verify(store.get(tag))
        entry = store.get(tag)
        if entry.metadata.digest != digest:
            raise store.StoreError(
                f"{target} has other files in it; remove this folder, then import the version again"
            )
        _point(written)
    return entry


def activate(entry: store.Entry) -> None:
    """Make an entry the one that the service answers with, as one step.

    Raises:
        StoreError: it was removed just now.
    """
    # Against `retention`, which spares the active one, and other activations.
    with staging() as folder, lock(entry.path.parent):
        store.get(entry.tag)
        _point(_write_pointer(folder, entry.tag))


def is_active(entry: store.Entry) -> bool:
    """Tell whether the service answers with this entry after its next start."""
    return _points_to(entry, entry.tag.latest_path())


def is_needed(entry: store.Entry) -> bool:
    """Tell whether the service answers with this entry, or falls back to it."""
    return is_active(entry) or _points_to(entry, f"{entry.tag.name}/{PREVIOUS}")


def _points_to(entry: store.Entry, path: str) -> bool:
    return _read(store.models_folder() / path) == entry.tag.version


def previous(name: str) -> store.Entry:
    """Return the entry that was active before, for when the active one cannot be used.

    Raises:
        StoreError: there is none, or it is of another model with the same store name.
    """
    version = _version(_read(_folder(home()) / store.store_name(name) / PREVIOUS))
    if version is None:
        raise store.StoreError(f"no version of {name} was active before")
    return _of(name, store.get(bentoml.Tag(store.store_name(name), version), home()))


def _of(name: str, entry: store.Entry) -> store.Entry:
    """Return an entry of this very registered model: the store's names are shorter than theirs."""
    if (other := entry.metadata.name) != name:
        raise store.StoreError(
            f"{entry.tag} is of the registered model {one_line(other)}, not of {name}; "
            f"{store.ONE_NAME_EACH}"
        )
    return entry


def _write_pointer(folder: Path, tag: bentoml.Tag) -> Path:
    """Write what `_point` publishes, into a staging folder; nobody else may activate until then."""
    written = folder / "pointer" / tag.latest_path()
    written.parent.mkdir(parents=True)
    models = store.models_folder()
    former = _version(_read(models / tag.latest_path()))
    # One that leads nowhere would only take the place of a former one that can be used.
    if former and former != tag.version and (models / tag.name / former).is_dir():
        written.with_name(PREVIOUS).write_text(former, encoding="utf-8")
    written.write_text(tag.version or "", encoding="utf-8")
    return written


def _point(written: Path) -> None:
    target = store.models_folder() / written.parent.name
    # The former one first: whoever sees the new pointer can fall back.
    for name in (PREVIOUS, written.name):
        if (written.parent / name).exists():
            (written.parent / name).replace(target / name)

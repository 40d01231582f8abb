"""The BentoML model store: entries are staged beside it, moved in whole, activated and verified.

The active entry is the one that BentoML's own `latest` points to, so that `bentoml build`,
`bentoml models get irismodel:latest` and the service all mean the same one. BentoML moves that
pointer to the entry created last; `activate` moves it to the entry promoted last.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import bentoml
import yaml
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.models import ModelStore
from bentoml._internal.models.model import ModelInfo, ModelOptions
from bentoml.exceptions import BentoMLException, NotFound
from bentoml.models import ModelContext
from bentoml.types import ModelSignature

from iris_api import IrisError
from iris_api.staging import lock, staging

MODEL_FOLDER = "mlflow_model"
"""Where `bentoml.mlflow.load_model` looks for the model's files inside an entry."""

ONNX_FILE = "model.onnx"
SKOPS_FILE = "estimator.skops"
"""Made here, at import: the compiled model, and the safe form of an estimator that was a pickle."""


PREVIOUS = "previous"
"""Beside BentoML's `latest`: the version that it pointed to before."""


class StoreError(IrisError):
    """An entry is not there, or is not what was imported."""

    passing = True


def store_name(name: str) -> str:
    """Turn a registered model's name into what a BentoML tag allows: IrisModel into irismodel."""
    return re.sub(r"[^a-z0-9_.-]+", "-", name.lower()).strip("_.-")[:63] or "model"


def digest_directory(directory: Path) -> str:
    """Return the SHA-256 over the sorted file names and contents of a directory, as 64 hex digits.

    For each file, in the order of the POSIX paths: the path, a zero byte, the SHA-256 of the
    content. Both parts have a known end, so no two directories share an input.
    """
    total = hashlib.sha256()
    for path, digest in digest_files(directory).items():
        total.update(path.encode() + b"\0" + bytes.fromhex(digest))
    return total.hexdigest()


def digest_files(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a directory by its POSIX path, sorted by path."""
    files = sorted(
        (path.relative_to(directory).as_posix(), path)
        for path in directory.rglob("*")
        if path.is_symlink() or not path.is_dir()
    )
    digests = {}
    for name, path in files:
        with path.open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def stage(
    folder: Path,
    name: str,
    model: Path,
    derived: Mapping[str, bytes],
    metadata: Mapping[str, Any],
) -> bentoml.Tag:
    """Make a whole entry in a staging folder, where nobody sees it; `commit` publishes it.

    Args:
        folder: from `staging()`.
        name: of the registered model.
        model: the directory as the registry served it, inside the folder; it is moved.
        derived: file name and content of what the import made from it.
        metadata: must have `version` and `digest`; `files` is added.
    """
    tag = tag_of(name, metadata["version"], metadata["digest"])
    entry = folder / "models" / tag.path()
    entry.mkdir(parents=True)
    model.rename(entry / MODEL_FOLDER)
    for file, content in derived.items():
        (entry / file).write_bytes(content)
    # bentoml.models.create works in /tmp, copies from there, and leaves it behind when killed.
    info = ModelInfo(
        tag=tag,
        module="bentoml.mlflow",
        api_version="v1",
        signatures={"predict": ModelSignature(batchable=False)},
        labels={"model": store_name(name), "version": str(metadata["version"])},
        options=ModelOptions(),
        metadata=dict(metadata) | {"files": digest_files(entry)},
        context=ModelContext(framework_name="mlflow", framework_versions={}),
    )
    with (entry / "model.yaml").open("w", encoding="utf-8") as out:
        info.dump(out)
    return tag


def commit(folder: Path, tag: bentoml.Tag, digest: str) -> bentoml.Model:
    """Publish a staged entry and make it the active one: two renames.

    Args:
        folder: where it was staged.
        tag: from `stage()`.
        digest: of the model's files, whole.

    Returns:
        The entry. Where another import was faster, the entry of that one.

    Raises:
        StoreError: another content has this tag already.
    """
    target = _models() / tag.path()
    target.parent.mkdir(parents=True, exist_ok=True)
    pointer = _write_pointer(folder, tag)  # what can fail for want of space comes first
    with lock(target.parent):
        try:
            (folder / "models" / tag.path()).rename(target)
        except OSError:
            if not target.is_dir():
                raise
            verify(get(tag))
        entry = get(tag)
        if metadata_of(entry).get("digest") != digest:
            raise StoreError(
                f"{target} has other files in it; remove this folder, then import the version again"
            )
        _point(pointer)
    return entry


def tag_of(name: str, version: int, digest: str) -> bentoml.Tag:
    """Return the tag of an imported version."""
    return bentoml.Tag(store_name(name), f"v{version}-{digest[:8]}")


def update(entry: bentoml.Model, metadata: Mapping[str, Any]) -> bool:
    """Change an entry's metadata, such as its stage after a promotion, as one step.

    Returns:
        Whether anything had to be changed.
    """
    known = metadata_of(entry)
    if all(known.get(key) == value for key, value in metadata.items()):
        return False
    known.update(metadata)
    with staging() as folder:
        changed = folder / "model.yaml"
        with changed.open("w", encoding="utf-8") as file:
            entry.info.dump(file)
        changed.replace(Path(entry.path) / "model.yaml")
    return True


def entries(name: str | None = None) -> list[bentoml.Model]:
    """Return the imported versions of a registered model, or of all, the oldest import first.

    Entries that others put into the store, and ones that cannot be read, are left out.
    """
    if not exists():
        return []
    pattern = f"{store_name(name) if name else '*'}/*/model.yaml"
    found = []
    for path in sorted(_models().glob(pattern)):
        with contextlib.suppress(StoreError):
            found.append(get(bentoml.Tag(path.parent.parent.name, path.parent.name)))
    ours = [entry for entry in found if name in {None, metadata_of(entry).get("name")}]
    ours = [entry for entry in ours if {"name", "digest", "files"} <= metadata_of(entry).keys()]
    return sorted(ours, key=lambda entry: entry.creation_time)


def exists() -> bool:
    """Tell whether there is a store, without making one as BentoML does when it is asked."""
    home = os.environ.get("BENTOML_HOME", "~/bentoml")
    return (Path(os.path.expandvars(home)).expanduser() / "models").is_dir()


def home() -> ModelStore:
    """Return the store of BENTOML_HOME, where imports go; a served Bento has one of its own."""
    return ModelStore(BentoMLContainer.model_store_dir.get())


def active(name: str, where: ModelStore | None = None) -> bentoml.Model:
    """Return the entry of a registered model that was activated last.

    Raises:
        StoreError: nothing is imported yet.
    """
    return get(bentoml.Tag(store_name(name), "latest"), where)


def pointer(name: str) -> tuple[str, int] | None:
    """Tell which entry is active in `home()`, and when it became that; a look at one small file.

    Returns:
        The version part of its tag, and the time of its activation in ns; None without one.
    """
    path = Path(BentoMLContainer.model_store_dir.get()) / store_name(name) / "latest"
    try:
        return path.read_text("utf-8").strip(), path.stat().st_mtime_ns
    except OSError:
        return None


def get(tag: bentoml.Tag, where: ModelStore | None = None) -> bentoml.Model:
    """Return an entry of a store, by default of the one in use.

    Raises:
        StoreError: it is not in the store.
    """
    models = where or BentoMLContainer.model_store.get()
    folder = models._path  # noqa: SLF001 (no public name)
    try:
        return bentoml.models.get(tag, _model_store=models)
    except NotFound:
        raise StoreError(
            f"{tag} is not in the model store {folder}; run python import_model.py"
        ) from None
    except (BentoMLException, ExceptionGroup, yaml.YAMLError, LookupError, TypeError, ValueError):
        raise StoreError(
            f"{tag} in the model store {folder} cannot be read; "
            "remove its folder, then import it again"
        ) from None


def activate(entry: bentoml.Model) -> None:
    """Make an entry the one that the service answers with, as one step.

    Raises:
        StoreError: it was removed just now.
    """
    with staging() as folder:
        pointer = _write_pointer(folder, entry.tag)
        with lock(Path(entry.path).parent):  # against `retention`, which spares the active one
            get(entry.tag)
            _point(pointer)


def is_active(entry: bentoml.Model) -> bool:
    """Tell whether the service answers with this entry after its next start."""
    return _points_to(entry, entry.tag.latest_path())


def is_needed(entry: bentoml.Model) -> bool:
    """Tell whether the service answers with this entry, or falls back to it."""
    return is_active(entry) or _points_to(entry, f"{entry.tag.name}/{PREVIOUS}")


def _points_to(entry: bentoml.Model, pointer: str) -> bool:
    try:
        return (_models() / pointer).read_text("utf-8").strip() == entry.tag.version
    except FileNotFoundError:
        return False


def previous(name: str) -> bentoml.Model:
    """Return the entry that was active before, for when the active one cannot be used.

    Raises:
        StoreError: there is none.
    """
    path = home()._path / store_name(name) / PREVIOUS  # noqa: SLF001 (no public name)
    version = path.read_text("utf-8").strip() if path.is_file() else ""
    if not version:
        raise StoreError(f"no version of {name} was active before")
    return get(bentoml.Tag(store_name(name), version), home())


def _write_pointer(folder: Path, tag: bentoml.Tag) -> Path:
    """Write what `_point` publishes, into a staging folder of its own shape."""
    written = folder / "pointer" / tag.latest_path()
    written.parent.mkdir(parents=True)
    former = _models() / tag.latest_path()
    if former.is_file() and former.read_text("utf-8").strip() != tag.version:
        written.with_name(PREVIOUS).write_bytes(former.read_bytes())
    written.write_text(tag.version or "", encoding="utf-8")
    return written


def _point(written: Path) -> None:
    target = _models() / written.parent.name
    # The former one first: whoever sees the new pointer can fall back.
    for name in (PREVIOUS, written.name):
        if (written.parent / name).exists():
            (written.parent / name).replace(target / name)


def verify(entry: bentoml.Model) -> None:
    """Hold every file of an entry against the digests of its import.

    Raises:
        StoreError: a file was changed, removed or added; the message names it.
    """
    expected: dict[str, str] = metadata_of(entry).get("files", {})
    found = digest_files(Path(entry.path))
    found.pop("model.yaml", None)
    for file in sorted(expected.keys() | found.keys()):
        if expected.get(file) != found.get(file):
            change = "is missing" if file not in found else "was changed after the import"
            if file not in expected:
                change = "was added after the import"
            raise StoreError(
                f"{entry.tag}: {file} {change}; "
                f"run bentoml models delete {entry.tag}, then import it again"
            )


def metadata_of(entry: bentoml.Model) -> dict[str, Any]:
    """Return what the import wrote down, changeable."""
    return cast("dict[str, Any]", entry.info.metadata)


def _models() -> Path:
    """Return the folder of the store in use: a Bento that carries its model has its own."""
    return Path(BentoMLContainer.model_store.get()._path)  # noqa: SLF001 (no public name)

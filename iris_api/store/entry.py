"""The entries of the BentoML model store: made beside it, found, changed and verified."""

import contextlib
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.models import ModelStore
from bentoml._internal.models.model import ModelInfo, ModelOptions
from bentoml.exceptions import NotFound
from bentoml.models import ModelContext
from bentoml.types import ModelSignature

from iris_api.errors import IrisError, one_line
from iris_api.home import staging
from iris_api.store.metadata import EntryMetadata, Example, ModelCard, Provenance

MODEL_FOLDER = "mlflow_model"
"""Where `bentoml.mlflow.load_model` looks for the model's files inside an entry."""

ONNX_FILE = "model.onnx"
SKOPS_FILE = "estimator.skops"
"""Made here, at import: the compiled model, and the safe form of an estimator that was a pickle."""

ONE_NAME_EACH = "use another BENTOML_HOME for one of them, or rename it in the registry"
"""The mend where two registered models, such as IrisModel and irismodel, share a store name."""


class StoreError(IrisError):
    """An entry is not there, or is not what was imported."""

    transient = True


@dataclass(frozen=True)
class Entry:
    """One imported model version in a model store.

    Attributes:
        tag: its name and version in the store.
        path: its folder.
        created: when the import wrote it.
        metadata: what the import recorded.
    """

    tag: bentoml.Tag
    path: Path
    created: datetime
    metadata: EntryMetadata


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
    folder: Path, model: Path, derived: Mapping[str, bytes], card: ModelCard, example: Example
) -> bentoml.Tag:
    """Make a whole entry in a staging folder; `active_version.commit` publishes it.

    Args:
        folder: from `staging()`.
        model: the directory as the registry served it, inside the folder; it is moved.
        derived: file name and content of what the import made from it.
        card: what the import found out.
        example: what the service checks itself with.
    """
    tag = tag_of(card.name, card.version, card.digest)
    entry = folder / "models" / tag.path()
    entry.mkdir(parents=True)
    model.rename(entry / MODEL_FOLDER)
    for file, content in derived.items():
        (entry / file).write_bytes(content)
    metadata = EntryMetadata(**dict(card), files=digest_files(entry), example=example)
    # bentoml.models.create works in /tmp, copies from there, and leaves it behind when killed.
    info = ModelInfo(
        tag=tag,
        module="bentoml.mlflow",
        api_version="v1",
        signatures={"predict": ModelSignature(batchable=False)},
        labels={"model": tag.name, "version": str(card.version)},
        options=ModelOptions(),
        metadata=metadata.model_dump(mode="json", exclude_none=True),
        context=ModelContext(framework_name="mlflow", framework_versions={}),
    )
    with (entry / "model.yaml").open("w", encoding="utf-8") as out:
        info.dump(out)
    return tag


def tag_of(name: str, version: int, digest: str) -> bentoml.Tag:
    """Return the tag of an imported version."""
    return bentoml.Tag(store_name(name), f"v{version}-{digest[:8]}")


def update(entry: Entry, provenance: Provenance) -> bool:
    """Change what an entry says about its version, such as the stage after a promotion.

    Returns:
        Whether anything had to be changed.
    """
    new = dict(provenance)
    if all(getattr(entry.metadata, key) == value for key, value in new.items()):
        return False
    with (entry.path / "model.yaml").open(encoding="utf-8") as file:
        info = ModelInfo.from_yaml_file(file)
    metadata = entry.metadata.model_copy(update=new)
    info.metadata.update(metadata.model_dump(mode="json", exclude_none=True))
    with staging() as folder:
        changed = folder / "model.yaml"
        with changed.open("w", encoding="utf-8") as file:
            info.dump(file)
        changed.replace(entry.path / "model.yaml")
    return True


def entries(name: str | None = None) -> list[Entry]:
    """Return the imported versions of a registered model, or of all, the oldest import first.

    Entries that other programs put into the store, and ones that cannot be read, are left out.
    """
    if not exists():
        return []
    pattern = f"{store_name(name) if name else '*'}/*/model.yaml"
    found = []
    for path in sorted(models_folder().glob(pattern)):
        with contextlib.suppress(StoreError):
            found.append(get(bentoml.Tag(path.parent.parent.name, path.parent.name)))
    ours = [entry for entry in found if name in {None, entry.metadata.name}]
    return sorted(ours, key=lambda entry: entry.created)


def exists() -> bool:
    """Tell whether there is a store, without making one as BentoML does when it is asked."""
    return place().is_dir()


def place() -> Path:
    """Return the folder where BENTOML_HOME has its store, or would have one."""
    home = os.environ.get("BENTOML_HOME", "~/bentoml")
    return Path(os.path.expandvars(home)).expanduser() / "models"


def get(tag: bentoml.Tag, where: ModelStore | None = None) -> Entry:
    """Return an entry of a store, by default of the one in use.

    Args:
        tag: with its version; `active_version.active` knows what `latest` means.
        where: the store.

    Raises:
        StoreError: it is not in the store, or not readable, whatever is wrong with it.
        OSError: the file system does not give it.
    """
    models = where or BentoMLContainer.model_store.get()
    store = models._path  # noqa: SLF001 (no public name)
    absent = StoreError(f"{tag} is not in the model store {store}; run python import_model.py")
    # BentoML takes the beginning of a version for the whole, where it is the only one.
    if not Path(store, tag.path()).is_dir():
        raise absent
    try:
        return _read(bentoml.models.get(tag, _model_store=models))
    except NotFound:
        raise absent from None
    except OSError:
        raise
    except Exception as error:
        # What stands in model.yaml goes through YAML's constructors and BentoML's converters, which
        # fail in any way: AttributeError for a number as a name, RecursionError for a deep list.
        raise StoreError(
            f"{tag} in the model store {store} cannot be read ({one_line(error)}); "
            "remove its folder, then import it again"
        ) from error


def _read(model: bentoml.Model) -> Entry:
    """Read what BentoML found in a folder.

    Raises:
        ValueError: it says that it is another one, or is none that an import wrote.
    """
    path = Path(model.path)
    if path.parts[-2:] != (model.tag.name, model.tag.version):
        raise ValueError("its tag is not that of its folder")
    if model.creation_time.tzinfo is None:
        raise ValueError("its creation time has no time zone")
    metadata = EntryMetadata.read(model.info.metadata)
    return Entry(model.tag, path, model.creation_time, metadata)


def verify(entry: Entry) -> None:
    """Hold every file of an entry against the digests of its import.

    Raises:
        StoreError: a file was changed, removed or added; the message names it.
    """
    expected = entry.metadata.files
    found = digest_files(entry.path)
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


def models_folder() -> Path:
    """Return the folder of the store in use: a Bento that carries its model has its own."""
    return Path(BentoMLContainer.model_store.get()._path)  # noqa: SLF001 (no public name)

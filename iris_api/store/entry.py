"""Entries of the BentoML model store: written beside it, read, updated and verified.

An entry is an ordinary one of BentoML, which `bentoml.mlflow.load_model` opens.
"""

import contextlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import bentoml
from bentoml._internal.models.model import ModelInfo, ModelOptions
from bentoml.models import ModelContext
from bentoml.types import ModelSignature

from iris_api.errors import IrisError, one_line
from iris_api.home import carried_model_store, model_store, staging
from iris_api.store.digests import digest_files
from iris_api.store.metadata import EntryMetadata, Example, ModelCard, Provenance

MODEL_FOLDER = "mlflow_model"
"""Where `bentoml.mlflow.load_model` looks for the model's files inside an entry."""

ONNX_FILE = "model.onnx"
SKOPS_FILE = "estimator.skops"
"""Files that the import makes: the compiled model, and the skops form of a pickled estimator."""

_INFO_FILE = "model.yaml"

ONE_NAME_EACH = "use another BENTOML_HOME for one of them, or rename it in the registry"
"""The fix where two registered models, such as IrisModel and irismodel, share a store name."""


class StoreError(IrisError):
    """An entry is not in the store, or is not what was imported."""

    transient = True


@dataclass(frozen=True)
class Entry:
    """One imported model version in a model store."""

    tag: bentoml.Tag
    path: Path
    created: datetime
    metadata: EntryMetadata


def store_name(name: str) -> str:
    """Turn a registered model's name into what a BentoML tag allows: IrisModel into irismodel."""
    return re.sub(r"[^a-z0-9_.-]+", "-", name.lower()).strip("_.-")[:63] or "model"


def tag_of(name: str, version: int, digest: str) -> bentoml.Tag:
    """Return the tag of an imported version."""
    return bentoml.Tag(store_name(name), f"v{version}-{digest[:8]}")


def stage(
    folder: Path, model: Path, derived: Mapping[str, bytes], card: ModelCard, example: Example
) -> bentoml.Tag:
    """Write a whole entry into a staging folder; `active_version.publish` moves it to the store.

    `model` is the directory as the registry served it, inside the folder, and is moved; `derived`
    has the name and content of each file that the import made from it.
    """
    tag = tag_of(card.name, card.version, card.digest)
    entry = folder / "models" / tag.path()
    entry.mkdir(parents=True)
    model.rename(entry / MODEL_FOLDER)
    for file, content in derived.items():
        (entry / file).write_bytes(content)
    metadata = EntryMetadata(**dict(card), files=digest_files(entry), example=example)
    # bentoml.models.create works in /tmp, copies from there, and leaves files behind when killed.
    info = ModelInfo(
        tag=tag,
        module="bentoml.mlflow",
        api_version="v1",
        signatures={"predict": ModelSignature(batchable=False)},
        labels={"model": tag.name, "version": str(card.version)},
        options=ModelOptions(),
        metadata=metadata.to_plain(),
        context=ModelContext(framework_name="mlflow", framework_versions={}),
    )
    _write(info, entry / _INFO_FILE)
    return tag


def update(entry: Entry, provenance: Provenance) -> bool:
    """Change the provenance of an entry where it differs, and return whether it did."""
    known = entry.metadata
    metadata = known.model_copy(update=dict(provenance) | {"as_of": known.as_of})
    if metadata == known:
        return False
    metadata = metadata.model_copy(update={"as_of": datetime.now(UTC).replace(microsecond=0)})
    info = _read(entry.path / _INFO_FILE)
    for key in Provenance.model_fields:  # what is absent now must not stay
        info.metadata.pop(key, None)
    info.metadata.update(metadata.to_plain())
    with staging() as folder:
        changed = folder / _INFO_FILE
        _write(info, changed)
        changed.replace(entry.path / _INFO_FILE)
    return True


def entries(name: str | None = None, store: Path | None = None) -> list[Entry]:
    """Return the imported versions of a registered model, or of all, the oldest import first.

    Entries that other programs put into the store, and ones that cannot be read, are left out.
    """
    found = []
    store = store or model_store()
    for path in sorted(store.glob(f"{store_name(name) if name else '*'}/*/{_INFO_FILE}")):
        with contextlib.suppress(StoreError):
            found.append(get(bentoml.Tag(path.parent.parent.name, path.parent.name), store))
    ours = [entry for entry in found if name in {None, entry.metadata.name}]
    return sorted(ours, key=lambda entry: entry.created)


def carried(name: str) -> Entry:
    """Return the entry of a registered model in the Bento that this code is in."""
    if store := carried_model_store():
        for entry in entries(name, store):
            return entry
    raise StoreError(f"there is no Bento with {name}")


def get(tag: bentoml.Tag, store: Path | None = None) -> Entry:
    """Return an entry of a model store, by default that of BENTOML_HOME.

    Raises:
        StoreError: It is not in the store, or its `model.yaml` is damaged.
        OSError: Its `model.yaml` cannot be read.
    """
    store = store or model_store()
    path = store / tag.path()
    if not path.is_dir():
        raise StoreError(f"{tag} is not in the model store {store}; run python import_model.py")
    try:
        info = _read(path / _INFO_FILE)
        if info.tag != tag:
            raise ValueError("its tag is not that of its folder")  # noqa: TRY301
        if info.creation_time.tzinfo is None:
            raise ValueError("its creation time has no time zone")  # noqa: TRY301
        return Entry(tag, path, info.creation_time, EntryMetadata.read(info.metadata))
    except OSError:
        raise
    except Exception as error:
        # The content goes through YAML's constructors and BentoML's converters, which fail in any
        # way: AttributeError for a number as a name, RecursionError for a deep list.
        raise StoreError(
            f"{tag} in the model store {store} cannot be read ({one_line(error)}); "
            f"run {removal(path)}, then import it again"
        ) from error


def verify(entry: Entry) -> None:
    """Compare every file of an entry with the digests of its import.

    Raises:
        StoreError: A file was changed, removed or added; the message names it.
    """
    expected = entry.metadata.files
    found = digest_files(entry.path)
    found.pop(_INFO_FILE, None)
    for file in sorted(expected.keys() | found.keys()):
        if file not in found:
            raise damaged(entry, f"{file} is missing")
        if file not in expected:
            raise damaged(entry, f"{file} was added after the import")
        if expected[file] != found[file]:
            raise damaged(entry, f"{file} was changed after the import")


def damaged(entry: Entry, problem: str) -> StoreError:
    """Return the error of an entry that cannot be used."""
    return StoreError(f"{entry.tag}: {problem}; run {removal(entry.path)}, then import it again")


def removal(path: Path) -> str:
    """Return the command that removes an entry; BentoML's own cannot if the entry is damaged."""
    return f"rm -r {shlex.quote(str(path))}"


def _read(path: Path) -> ModelInfo:
    with path.open(encoding="utf-8") as file:
        return ModelInfo.from_yaml_file(file)


def _write(info: ModelInfo, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        info.dump(file)

"""One import: from a model URI to the active entry of the model store."""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from iris_api import terminal
from iris_api.errors import IrisError, one_line
from iris_api.home import staging
from iris_api.importing.outcome import Done, Failed, Outcome, explain
from iris_api.importing.sources import Folder, Registry
from iris_api.model.self_check import record_example
from iris_api.model_uri import ModelURI
from iris_api.registry.versions import ModelVersion
from iris_api.schema import IncompatibleError, Schema, changes
from iris_api.store import active_version, registry_status
from iris_api.store import entry as store
from iris_api.store.digests import digest_directory
from iris_api.store.metadata import Example, ModelCard, NotCompiled, Proof, Provenance, Signature

logger = logging.getLogger(__name__)

IDENTITY = (
    *("name", "version", "tracking_uri", "registry_uri", "workspace"),
    *("run_id", "model_id"),
)
"""The metadata that says whether an entry is this version of this registry."""


SHOWN_CHANGES = 5
"""Most changes of a schema that an error names."""


@dataclass(frozen=True)
class Importer:
    """Imports models from one registry, or the one model of a folder.

    Attributes:
        source: Where the model comes from.
        engine: `onnx` fails if the model cannot be compiled, `auto` falls back to `sklearn`.
        trust_pickle: Convert a pickled model in a process of its own, instead of rejecting it.
        max_bytes: Limit of all files of a model together.
        allow_schema_change: Activate a version although requests or answers change their meaning.
    """

    source: Registry | Folder
    engine: Literal["auto", "onnx", "sklearn"]
    trust_pickle: bool
    max_bytes: int
    allow_schema_change: bool

    def run(self, uri: ModelURI) -> str:
        """Resolve, fetch, vet, compile, store and activate a model; return its tag."""
        version = self._resolve(uri)
        try:
            tag = self._activate(version)
        except IrisError as error:
            incompatible = isinstance(error, IncompatibleError)
            registry_status.record_rejection(uri.name, str(error), incompatible=incompatible)
            raise
        registry_status.record_activation(uri.name)
        return tag

    def _activate(self, version: ModelVersion) -> str:
        with staging() as folder:
            model = folder / "fetched"
            digest = self._fetch(version, model)
            if entry := self._find(version, digest):
                self.check_schema(version.name, entry.metadata.contract)
                active_version.activate(entry, provenance_of(version))
                logger.info("%s is in the store already, and active", entry.tag)
                return str(entry.tag)
            card, files, example = self._vet_and_compile(version, digest, model)
            tag = store.stage(folder, model, files, card, example)
            self.check_schema(version.name, card.contract)  # again: compiling may take minutes
            entry = active_version.publish(folder, tag)
        logger.info("%s is stored", entry.tag)
        return str(entry.tag)

    def dry_run(self, uri: ModelURI, folder: Path) -> dict[str, Any]:
        """Resolve, fetch, vet and compile a model below a folder; return what would be stored."""
        check_name(uri.name)
        version = self.source.resolve(uri)
        model = folder / "fetched"
        digest = self._fetch(version, model)
        sizes = [path.stat().st_size for path in model.rglob("*") if path.is_file()]
        known = self._find(version, digest) is not None
        card, _, _ = self._vet_and_compile(version, digest, model)
        tag = store.tag_of(version.name, version.version, digest)
        first = {"tag": str(tag), "in_store": known, "files": len(sizes), "bytes": sum(sizes)}
        excluded = {"metrics", "imported_at", "as_of"}
        return first | card.model_dump(mode="json", exclude=excluded, exclude_none=True)

    def check_schema(self, name: str, schema: Schema) -> None:
        """Reject a version that would change what requests or answers of the active one mean."""
        active = _answering(name)
        if active is None or not (found := changes(active.metadata.contract, schema)):
            return
        what = f"their meaning: {'; '.join(found[:SHOWN_CHANGES])}"
        if self.allow_schema_change:
            logger.warning("requests to %s change %s", active.tag, what)
            return
        raise IncompatibleError(
            f"requests to {active.tag} would change {what}; when all clients are ready for that, "
            "import it with --allow-schema-change"
        )

    def _resolve(self, uri: ModelURI) -> ModelVersion:
        """Find the version, and record for the service what the registry answered."""
        check_name(uri.name)  # before anything is recorded under it
        if isinstance(self.source, Folder):
            return self.source.resolve(uri)
        try:
            version = self.source.resolve(uri)
        except IrisError as error:
            record(uri.name, Failed(str(error), transient=error.transient), warn=logger.warning)
            raise
        record(uri.name, Done(version), warn=logger.warning)
        return version

    def _fetch(self, version: ModelVersion, model: Path) -> str:
        """Download the files of a version into a folder, and return their digest."""
        logger.info("%s is version %d, stage %s", version.model_uri, version.version, version.stage)
        self.source.fetch(version, model, self.max_bytes)
        return digest_directory(model)

    def _find(self, version: ModelVersion, digest: str) -> store.Entry | None:
        """Find this version in the store, and reject it if its content changed.

        Unlike in a watch, the location of the files does not count: they may have been moved, too.
        """
        for entry in store.entries(version.name):
            known = entry.metadata
            if (known.version, known.digest) == (version.version, digest):
                if self.engine not in {"auto", known.engine}:
                    raise IrisError(
                        f"{entry.tag} is in the store with the engine {known.engine}; to change "
                        f"it to {self.engine}, run {store.removal(entry.path)}, then import again"
                    )
                store.verify(entry)
                return entry
            if all(getattr(known, key) == getattr(version, key) for key in IDENTITY):
                raise IrisError(
                    f"version {version.version} of {version.name} changed in the registry "
                    f"since it was imported as {entry.tag}; if that is meant, "
                    f"run {store.removal(entry.path)}, then import again"
                )
        return None

    def _vet_and_compile(
        self, version: ModelVersion, digest: str, model: Path
    ) -> tuple[ModelCard, dict[str, bytes], Example]:
        """Return what a fetched model is, the files that were made from it, and its example."""
        logger.debug("opening the estimator", extra=terminal.STEP)
        # scikit-learn and its converter take seconds to import, and a known version needs neither.
        from iris_api.compiling.conversion import ask_scikit_learn, compile_model  # noqa: PLC0415
        from iris_api.compiling.proof import CompileError  # noqa: PLC0415
        from iris_api.vetting.estimator import vet  # noqa: PLC0415

        vetted = vet(model, trust_pickle=self.trust_pickle)
        self.check_schema(version.name, vetted.schema)
        files = {} if vetted.skops is None else {store.SKOPS_FILE: vetted.skops}
        proof: Proof | NotCompiled = NotCompiled()
        if self.engine == "sklearn":
            ask_scikit_learn(vetted)
        else:
            logger.debug("compiling and proving", extra=terminal.STEP)
            try:
                compiled = compile_model(vetted)
            except CompileError as error:
                if self.engine == "onnx":
                    raise
                logger.info("served by scikit-learn, which is slower: %s", error)
                proof = NotCompiled(reason=f"The model was not compiled: {error}.")
            else:
                files[store.ONNX_FILE], proof = compiled.model, compiled.proof
                logger.info("compiled to ONNX and proved on %d rows", proof.rows)
        now = datetime.now(UTC).replace(microsecond=0)
        card = ModelCard(
            **dict(provenance_of(version)) | {"as_of": now},
            digest=digest,
            features=list(vetted.features),
            classes=vetted.schema.labels or [],
            schema=vetted.schema,
            signature=Signature.model_validate(vetted.signature),
            sklearn_version=vetted.sklearn_version,
            estimator=type(vetted.estimator).__name__,
            engine="sklearn" if isinstance(proof, NotCompiled) else "onnx",
            proof=proof,
            metrics=self.source.metrics(version),
            imported_at=now,
        )
        return card, files, record_example(vetted.predictor, vetted.examples)


def _answering(name: str) -> store.Entry | None:
    """Return the active version, or what a service answers with in its place."""
    for find in (active_version.active, active_version.previous, store.carried):
        with contextlib.suppress(store.StoreError, OSError):
            return find(name)
    return None


def provenance_of(version: ModelVersion) -> Provenance:
    """Return where a version comes from, as an entry records it."""
    return Provenance.model_validate(version, from_attributes=True)


def record(name: str, found: Outcome[ModelVersion], *, warn: Callable[[str], None]) -> None:
    """Record for the service what the registry answered, or that it did not answer.

    A failure of that is a warning. It must not end an import, which reports a full disk itself.
    """
    try:
        if isinstance(found, Done):
            registry_status.record_answer(
                name, found.result.version, in_stage=found.result.in_stage
            )
        elif found.transient:
            registry_status.record_failure(name, found.error)
        else:
            registry_status.record_answer(name, None, found.error)
    except OSError as error:
        warn(f"the answer of the registry cannot be recorded: {explain(error)}")


def check_name(name: str) -> None:
    """Reject a registered model whose store name another one has: `latest` would be ambiguous."""
    shared = store.store_name(name)
    for entry in store.entries():
        other = entry.metadata.name
        if entry.tag.name == shared and other != name:
            raise IrisError(
                f"the store has {entry.tag} of the registered model {one_line(other)}, and "
                f"{name} would be {shared} there as well; {store.ONE_NAME_EACH}"
            )

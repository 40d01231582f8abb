"""One import: from a model URI to the active entry of the model store."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from iris_api.errors import IrisError, one_line
from iris_api.home import staging
from iris_api.importing.time_limit import explain
from iris_api.model.self_check import record_example
from iris_api.model_uri import ModelURI
from iris_api.registry import artifacts
from iris_api.registry.artifacts import RemoteFile
from iris_api.registry.client import TrackingServer
from iris_api.registry.error_messages import TrackingError
from iris_api.registry.versions import ModelVersion, Registry, RegistryError
from iris_api.store import active_version, registry_status
from iris_api.store import entry as store
from iris_api.store.digests import digest_directory
from iris_api.store.metadata import (
    Example,
    ModelCard,
    NotCompiled,
    Proof,
    Provenance,
    Signature,
)


class ImportRefusedError(IrisError):
    """A model that is too large, or not the one that was imported before under its name."""


@dataclass(frozen=True)
class Importer:
    """What is the same for each import.

    Attributes:
        server: where the registry is.
        engine: `onnx` fails where the model cannot be compiled, `auto` falls back to `sklearn`.
        trust_pickle: open a pickle once, in a process of its own.
        max_bytes: of all files of the model together.
        report: told each step, one line each.
        progress: told the bytes of each piece that arrived, less than nothing when a file begins
            again, and the bytes in all.
        finish: called when all is ready, just before the store changes: nothing may stop it now.
    """

    server: TrackingServer
    engine: Literal["auto", "onnx", "sklearn"]
    trust_pickle: bool
    max_bytes: int
    report: Callable[[str], None]
    progress: Callable[[int, int], None]
    finish: Callable[[], None]

    def run(self, uri: ModelURI) -> store.Entry:
        """Resolve, fetch, vet, compile, verify, store and activate.

        Raises:
            IrisError: what is wrong and how to mend it; the store is as it was.
        """
        version = look(self.server, uri, self.report)
        files = self._list(uri, version)
        with staging() as folder:
            model = folder / "fetched"
            digest = self._fetch(version, files, model)
            provenance = Provenance(**version.provenance(self.server, uri))
            if entry := self._known(provenance, digest):
                self.finish()
                store.update(entry, provenance)  # promoted since, or at another address
                active_version.activate(entry)
                self.report(f"{entry.tag} is in the store already, and active")
            else:
                derived, findings, example = self._examine(model)
                card = ModelCard(
                    **dict(provenance),
                    **findings,
                    digest=digest,
                    metrics=Registry(self.server).metrics(version),
                    imported_at=datetime.now(UTC).replace(microsecond=0),
                )
                tag = store.stage(folder, model, derived, card, example)
                self.finish()
                entry = active_version.publish(folder, tag, digest)
                self.report(f"{entry.tag} is stored")
        return entry

    def dry_run(self, uri: ModelURI) -> dict[str, Any]:
        """Resolve, fetch, vet and compile, outside of the store; return what would be stored.

        Raises:
            IrisError: what is wrong and how to mend it.
        """
        _refuse_shared_name(uri.name)
        version = Registry(self.server).resolve(uri)
        files = self._list(uri, version)
        with TemporaryDirectory(prefix="iris-import-") as folder:
            model = Path(folder) / "fetched"
            digest = self._fetch(version, files, model)
            provenance = Provenance(**version.provenance(self.server, uri))
            known = self._known(provenance, digest) is not None
            _, findings, _ = self._examine(model)
        card = ModelCard(**dict(provenance), **findings, digest=digest)
        tag = store.tag_of(version.name, version.version, digest)
        size = sum(file.size for file in files)
        first = {"tag": str(tag), "in_store": known, "files": len(files), "bytes": size}
        return first | card.model_dump(mode="json", exclude={"metrics"}, exclude_none=True)

    def _list(self, uri: ModelURI, version: ModelVersion) -> list[RemoteFile]:
        self.report(f"{uri.text} is version {version.version}, stage {version.stage}")
        files = artifacts.list_files(self.server, version.root)
        if not files:
            raise ImportRefusedError(
                f"the proxy lists no file for {version.name} version {version.version}; "
                "was its run or its artifact folder deleted? log and register the model again"
            )
        total = sum(file.size for file in files)
        if total > self.max_bytes:
            raise ImportRefusedError(
                f"the model has {total} bytes and IRIS_IMPORT_MAX_BYTES allows {self.max_bytes}; "
                "raise it if the model is meant to be this large"
            )
        return files

    def _fetch(self, version: ModelVersion, files: list[RemoteFile], model: Path) -> str:
        """Download a version into a new folder, and return the digest of its files."""
        model.mkdir()
        total = sum(file.size for file in files)
        self.report(f"fetching {len(files)} files, {total} bytes, through {self.server.address}")
        artifacts.fetch(
            self.server,
            version.root,
            files,
            model,
            progress=lambda arrived: self.progress(arrived, total),
        )
        return digest_directory(model)

    def _known(self, provenance: Provenance, digest: str) -> store.Entry | None:
        """Find this version in the store; another content under its number is an alarm.

        The location of the files does not count, as it does in the watch: whoever changes them may
        have moved them as well.
        """
        same = ("name", "version", "tracking_uri", "run_id", "model_id")
        for entry in store.entries(provenance.name):
            known = entry.metadata
            if (known.version, known.digest) == (provenance.version, digest):
                self._check_engine(entry)
                store.verify(entry)
                return entry
            if all(getattr(known, key) == getattr(provenance, key) for key in same):
                raise ImportRefusedError(
                    f"version {provenance.version} of {provenance.name} changed in the registry "
                    f"since it was imported as {entry.tag}; if that is meant, "
                    f"run bentoml models delete {entry.tag} and import again"
                )
        return None

    def _check_engine(self, entry: store.Entry) -> None:
        engine = entry.metadata.engine
        if self.engine not in {"auto", engine}:
            raise ImportRefusedError(
                f"{entry.tag} is in the store with the engine {engine}; to change it to "
                f"{self.engine}, run bentoml models delete {entry.tag} and import again"
            )

    def _examine(self, model: Path) -> tuple[dict[str, bytes], dict[str, Any], Example]:
        """Vet and compile a model; return the files made, what was found, and an example."""
        # scikit-learn and its converter take seconds to import, and a known version needs neither.
        from iris_api.compiling.conversion import ask_scikit_learn, compile_model  # noqa: PLC0415
        from iris_api.compiling.proof import CompileError  # noqa: PLC0415
        from iris_api.vetting.estimator import vet  # noqa: PLC0415

        vetted = vet(model, trust_pickle=self.trust_pickle)
        derived = {} if vetted.skops is None else {store.SKOPS_FILE: vetted.skops}
        engine = "sklearn"
        proof: Proof | NotCompiled = NotCompiled()
        if self.engine == "sklearn":
            ask_scikit_learn(vetted)
        else:
            try:
                compiled = compile_model(vetted)
            except CompileError as error:
                if self.engine == "onnx":
                    raise
                self.report(f"served by scikit-learn, which is slower: {error}")
                proof = NotCompiled(reason=str(error))
            else:
                engine, proof = "onnx", compiled.proof
                derived[store.ONNX_FILE] = compiled.model
                self.report(f"compiled to ONNX and proved on {compiled.proof.rows} rows")
        findings = {
            "features": list(vetted.features),
            "classes": vetted.estimator.classes_.tolist(),
            "signature": Signature.model_validate(vetted.signature),
            "sklearn_version": vetted.sklearn_version,
            "estimator": type(vetted.estimator).__name__,
            "engine": engine,
            "proof": proof,
        }
        return derived, findings, record_example(vetted.estimator, vetted.examples)


def look(server: TrackingServer, uri: ModelURI, report: Callable[[str], None]) -> ModelVersion:
    """Resolve a model URI, and write down for the service what the registry said.

    Raises:
        ImportRefusedError: the store has another registered model under the same store name.
        RegistryError: the registry has no such version, or one that cannot be fetched.
        TrackingError: it does not answer.
    """
    _refuse_shared_name(uri.name)  # before anything is written down under it

    def note(write: Callable[[str, Any], None], said: object) -> None:
        try:
            write(uri.name, said)
        except OSError as error:
            # Of no weight beside the import, which has its own word on a disk that is full.
            report(f"what the registry said is not written down: {explain(error)}")

    try:
        version = Registry(server).resolve(uri)
    except RegistryError:
        note(registry_status.record_answer, None)
        raise
    except TrackingError as error:
        note(registry_status.record_failure, error)
        raise
    note(registry_status.record_answer, version.version)
    return version


def _refuse_shared_name(name: str) -> None:
    """Keep two registered models apart: `latest` of one would be served as the other."""
    shared = store.store_name(name)
    for entry in store.entries():
        other = entry.metadata.name
        if entry.tag.name == shared and other != name:
            raise ImportRefusedError(
                f"the store has {entry.tag} of the registered model {one_line(other)}, and "
                f"{name} would be {shared} there as well; {store.ONE_NAME_EACH}"
            )

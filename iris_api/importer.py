"""One import: from a model URI to the active entry of the model store."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import bentoml
import numpy as np
from numpy.typing import NDArray

from iris_api import IrisError, store
from iris_api.classifier import SklearnEngine
from iris_api.contract import FEATURES, MAXIMUM_CM, MINIMUM_CM
from iris_api.model_uri import ModelURI
from iris_api.registry import ModelVersion, Registry, RemoteFile
from iris_api.tracking import TrackingServer
from iris_api.training_profile import TrainingProfile

EXAMPLE_FILE = "input_example.json"
EXAMPLE_ROWS = 100

UNPICKLE_SECONDS = 120
"""For the process that opens a trusted pickle; scikit-learn alone takes several to import."""


class ImportRefusedError(IrisError):
    """A model that is too large, or not the one that was imported before."""


@dataclass(frozen=True)
class Importer:
    """What is the same for each import.

    Attributes:
        server: where the registry is.
        engine: `onnx` fails where the model cannot be compiled, `auto` falls back to `sklearn`.
        trust_pickle: open a pickle once, in a process of its own.
        max_bytes: of all files of the model together.
        report: told each step, one line each.
        progress: told the bytes that arrived and the bytes in all.
    """

    server: TrackingServer
    engine: Literal["auto", "onnx", "sklearn"]
    trust_pickle: bool
    max_bytes: int
    report: Callable[[str], None]
    progress: Callable[[int, int], None]

    def run(self, uri: ModelURI) -> bentoml.Model:
        """Resolve, fetch, vet, compile, verify, store and activate.

        Raises:
            IrisError: what is wrong and how to mend it; the store is as it was.
        """
        registry = Registry(self.server)
        version = registry.resolve(uri)
        self.report(f"{uri.text} is version {version.version}, stage {version.stage}")
        files = registry.files(version)
        self._check_size(files)
        with store.staging() as folder:
            model = folder / "fetched"
            model.mkdir()
            self._fetch(registry, version, files, model)
            promotion = {"stage": version.stage, "aliases": version.aliases}
            metadata = promotion | {
                "name": version.name,
                "version": version.version,
                "run_id": version.run_id or "",
                "model_id": version.model_id or "",
                "source": version.source,
                "tracking_uri": self.server.address,
                "model_uri": uri.text,
                "digest": store.digest_directory(model),
            }
            entry = self._known(metadata)
            if entry is not None:
                store.verify(entry)
                store.update(entry, promotion)
                self.report(f"{entry.tag} is in the store already")
            else:
                derived, found = self._examine(model)
                metadata |= found | {
                    "metrics": registry.metrics(version),
                    "imported_at": datetime.now(UTC).isoformat(timespec="seconds"),
                }
                entry = store.save(folder, version.name, model, derived, metadata)
                self.report(f"{entry.tag} is stored")
        store.activate(entry)
        return entry

    def _check_size(self, files: list[RemoteFile]) -> None:
        total = sum(file.size for file in files)
        if total > self.max_bytes:
            raise ImportRefusedError(
                f"the model has {total} bytes and IRIS_IMPORT_MAX_BYTES allows {self.max_bytes}; "
                "raise it if the model is meant to be this large"
            )

    def _fetch(
        self, registry: Registry, version: ModelVersion, files: list[RemoteFile], model: Path
    ) -> None:
        total = sum(file.size for file in files)
        self.report(f"fetching {len(files)} files, {total} bytes, through {self.server.address}")
        registry.fetch(
            version, files, model, progress=lambda arrived: self.progress(arrived, total)
        )

    def _known(self, metadata: dict[str, Any]) -> bentoml.Model | None:
        """Find this version in the store; another content under its number is an alarm."""
        same = ("name", "version", "tracking_uri", "run_id", "model_id")
        for entry in store.entries(metadata["name"]):
            known = store.metadata_of(entry)
            if all(known.get(key) == metadata[key] for key in same):
                if known["digest"] == metadata["digest"]:
                    return entry
                raise ImportRefusedError(
                    f"version {metadata['version']} of {metadata['name']} changed in the registry "
                    f"since it was imported as {entry.tag}; if that is meant, "
                    f"run bentoml models delete {entry.tag} and import again"
                )
        return None

    def _examine(self, model: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
        """Vet and compile a fetched model; return what was made of it and what was found."""
        # scikit-learn and its converter take seconds to import, and a known version needs neither.
        from iris_api.compiler import CompileError, compile_classifier  # noqa: PLC0415
        from iris_api.flavor import read_flavor  # noqa: PLC0415
        from iris_api.unpickle import convert_pickle  # noqa: PLC0415
        from iris_api.vetting import open_estimator  # noqa: PLC0415

        derived: dict[str, bytes] = {}
        flavor = read_flavor(model)
        if self.trust_pickle and flavor.serialization_format != "skops":
            self.report(f"opening {flavor.model_file}, a {flavor.serialization_format}, once")
            skops = model.with_name(store.SKOPS_FILE)
            convert_pickle(model, flavor, skops, timeout=UNPICKLE_SECONDS)
            derived[store.SKOPS_FILE] = skops.read_bytes()
            flavor = replace(flavor, model_file=skops.name, serialization_format="skops")
            estimator = open_estimator(skops.parent, flavor)
        else:
            estimator = open_estimator(model, flavor)
        profile = TrainingProfile.read(model)
        examples = _read_examples(model / EXAMPLE_FILE, flavor.features)
        engine, proof = "sklearn", {}
        if self.engine != "sklearn":
            try:
                compiled = compile_classifier(
                    estimator, ranges=_ranges(profile, flavor.features), examples=examples
                )
            except CompileError as error:
                if self.engine == "onnx":
                    raise
                self.report(f"served by scikit-learn, which is slower: {error}")
                proof = {"reason": str(error)}
            else:
                engine, proof = "onnx", compiled.proof.to_metadata()
                derived[store.ONNX_FILE] = compiled.model
                self.report(f"compiled to ONNX and proved on {compiled.proof.rows} rows")
        return derived, {
            "features": list(flavor.features),
            "classes": estimator.classes_.tolist(),
            "signature": flavor.signature,
            "sklearn_version": flavor.sklearn_version,
            "estimator": type(estimator).__name__,
            "engine": engine,
            "proof": proof,
            "example": _answer_example(estimator, examples),
        }


def _ranges(profile: TrainingProfile | None, features: tuple[str, ...]) -> NDArray[np.float64]:
    """Return minimum and maximum of each feature, shape (4, 2), in the model's own order."""
    if profile is None:
        return np.tile([0.0, 10.0], (len(features), 1))
    found = [(profile.features[name].minimum, profile.features[name].maximum) for name in features]
    return np.clip(found, MINIMUM_CM, MAXIMUM_CM)


def _read_examples(path: Path, features: tuple[str, ...]) -> NDArray[np.float64]:
    """Read MLflow's input example in the model's own order; a typical flower where there is none.

    MLflow writes a data frame as `{"columns": […], "data": [[…], …]}`. It is only ever a
    question to the model, so that one in another form is passed over.
    """
    typical = dict(zip(FEATURES, (5.8, 3.1, 3.8, 1.2), strict=True))
    try:
        content = json.loads(path.read_bytes())
        order = [content["columns"].index(feature) for feature in features]
        rows = np.array(content["data"][:EXAMPLE_ROWS], dtype=np.float64)[:, order]
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        rows = np.empty((0, 0))
    if rows.size and ((rows >= MINIMUM_CM) & (rows <= MAXIMUM_CM)).all():
        return rows
    return np.array([[typical[feature] for feature in features]])


def _answer_example(estimator: Any, rows: NDArray[np.float64]) -> dict[str, Any]:
    """Keep what scikit-learn itself answers, rows in the model's own order."""
    engine = SklearnEngine(estimator)
    answer = {"rows": rows.tolist(), "labels": engine.labels(rows).tolist()}
    if engine.has_probabilities:
        answer["probabilities"] = engine.probabilities(rows).tolist()
    return answer

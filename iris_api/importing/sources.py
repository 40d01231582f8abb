"""The sources of an import: a registry, or a folder that another program has filled."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from iris_api import terminal
from iris_api.errors import IrisError
from iris_api.model_uri import ModelURI
from iris_api.registry import artifacts
from iris_api.registry.servers import Servers
from iris_api.registry.versions import ModelVersion, read_metrics, resolve

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registry:
    """A registry, whose files come through the artifact proxy of its tracking server."""

    servers: Servers

    def resolve(self, uri: ModelURI) -> ModelVersion:
        """Find the version that a URI means now."""
        return resolve(self.servers, uri)

    def metrics(self, version: ModelVersion) -> dict[str, float]:
        """Return the metrics of the version's run."""
        return read_metrics(self.servers.tracking, version)

    def fetch(self, version: ModelVersion, model: Path, max_bytes: int) -> None:
        """Download the files of a version into a new folder."""
        server = self.servers.with_files(version.host)
        files = artifacts.list_files(server, version.root)
        if not files:
            raise IrisError(
                f"the proxy lists no file for {version.name} version {version.version}; "
                "was its run or its artifact folder deleted? log and register the model again"
            )
        total = sum(file.size for file in files)
        check_size(total, max_bytes)
        fetching = "fetching %d files, %d bytes, through %s"
        logger.info(fetching, len(files), total, server.address, extra=terminal.STEP)
        model.mkdir()
        artifacts.fetch(server, version.root, files, model)


@dataclass(frozen=True)
class Folder:
    """A folder with an MLflow model, such as KServe's storage initializer mounts."""

    path: Path

    def resolve(self, uri: ModelURI) -> ModelVersion:
        """Return the version that the folder stands for: that of the URI, or else 1."""
        if not (self.path / "MLmodel").is_file():
            raise IrisError(
                f"IRIS_MODEL_FOLDER: {self.path} has no file MLmodel; "
                "set it to a folder that mlflow.sklearn.save_model has written"
            )
        return ModelVersion(
            name=uri.name,
            version=uri.version or 1,
            stage="None",
            in_stage=[],
            aliases=[],
            run_id=None,
            model_id=None,
            source=self.path.resolve().as_uri(),
            tracking_uri="",
            registry_uri=None,
            workspace=None,
            model_uri=uri.text,
            host="",
            root="",
        )

    def metrics(self, _version: ModelVersion) -> dict[str, float]:
        """Return no metrics: the folder does not have those of the run."""
        return {}

    def fetch(self, _version: ModelVersion, model: Path, max_bytes: int) -> None:
        """Copy the files of the folder into a new one; links could lead out of it."""
        paths = list(self.path.rglob("*"))
        if len(paths) > artifacts.MAXIMUM_FILES:
            raise IrisError(f"the model has more than {artifacts.MAXIMUM_FILES} files; is it one?")
        for path in paths:
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise IrisError(f"{path} is neither a file nor a folder; leave it out")
        check_size(sum(path.stat().st_size for path in paths if path.is_file()), max_bytes)
        model.mkdir()
        for path in paths:
            target = model / path.relative_to(self.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                shutil.copyfile(path, target)


def check_size(total: int, max_bytes: int) -> None:
    """Reject a model that is larger than allowed."""
    if total > max_bytes:
        raise IrisError(
            f"the model has {total} bytes and IRIS_IMPORT_MAX_BYTES allows {max_bytes}; "
            "raise it if the model is meant to be this large"
        )

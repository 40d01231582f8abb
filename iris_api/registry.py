"""The MLflow registry: a model URI becomes one immutable version, and its files a folder."""

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from iris_api import IrisError, one_line
from iris_api.model_uri import ModelURI
from iris_api.tracking import RETRIES, NotFoundError, TrackingServer

API = "/api/2.0/mlflow"
PROXY = "/api/2.0/mlflow-artifacts/artifacts"

MAXIMUM_FILES = 1000
MAXIMUM_DEPTH = 8


class RegistryError(IrisError):
    """The registry has no such version, or one that cannot be fetched through the proxy."""


@dataclass(frozen=True)
class ModelVersion:
    """One immutable version of a registered model, as the registry told it."""

    name: str
    version: int
    stage: str
    aliases: list[str]
    run_id: str | None
    model_id: str | None
    source: str
    root: str = field(repr=False)
    """Path of the model's directory below the artifact proxy."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a model: its path below the model's directory and its size in bytes."""

    path: str
    size: int


class Registry:
    """What an import asks of a tracking server."""

    def __init__(self, server: TrackingServer) -> None:
        self._server = server

    def resolve(self, uri: ModelURI) -> ModelVersion:
        """Find the one version that a URI means now.

        Raises:
            RegistryError: there is none, it is not ready, or its files are out of reach.
            TrackingError: the server does not answer.
        """
        try:
            found = self._find(uri)
            location = self._server.get_json(
                f"{API}/model-versions/get-download-uri",
                {"name": uri.name, "version": found["version"]},
            )["artifact_uri"]
        except NotFoundError as error:
            raise RegistryError(
                f"{uri.text} is not in the registry of {self._server.address}: {error}"
            ) from None
        if (status := found.get("status", "READY")) != "READY":
            raise RegistryError(
                f"version {found['version']} of {uri.name} is {one_line(status)}, not READY; "
                "wait for its registration to finish, or register it again"
            )
        logged_model = re.fullmatch(r"models:/(m-[0-9a-f]+)", found.get("source", ""))
        return ModelVersion(
            name=uri.name,
            version=int(found["version"]),
            stage=found.get("current_stage") or "None",
            aliases=sorted(found.get("aliases", [])),
            run_id=found.get("run_id") or None,
            model_id=logged_model and logged_model[1],
            source=location,
            root=self._proxy_path(location),
        )

    def _find(self, uri: ModelURI) -> dict[str, Any]:
        if uri.version is not None:
            query = {"name": uri.name, "version": uri.version}
            return self._get_version("model-versions/get", query)
        if uri.alias is not None:
            query = {"name": uri.name, "alias": uri.alias}
            return self._get_version("registered-models/alias", query)
        # The same endpoint answers for the stages, which MLflow calls deprecated and keeps.
        found = self._server.get_json(
            f"{API}/registered-models/get-latest-versions",
            {"name": uri.name} | ({"stages": uri.stage} if uri.stage else {}),
        )
        if not (versions := found.get("model_versions")):
            place = f"in stage {uri.stage}" if uri.stage else "at all"
            raise RegistryError(
                f"{uri.name} has no version {place} on {self._server.address}; promote one, "
                f"or name a version: models:/{uri.name}/1"
            )
        # The version by its number, because the newest of each stage comes in any order.
        latest: dict[str, Any] = max(versions, key=lambda version: int(version["version"]))
        # This endpoint leaves out the aliases on some servers.
        query = {"name": uri.name, "version": latest["version"]}
        return self._get_version("model-versions/get", query)

    def _get_version(self, endpoint: str, query: dict[str, Any]) -> dict[str, Any]:
        version: dict[str, Any] = self._server.get_json(f"{API}/{endpoint}", query)["model_version"]
        return version

    def _proxy_path(self, location: str) -> str:
        """Accept what this server's own proxy serves, and send no login anywhere else."""
        parts = urlsplit(location)
        if parts.scheme != "mlflow-artifacts":
            raise RegistryError(
                f"the version's files are at {one_line(location)!r}, which the artifact proxy "
                "does not serve, because its experiment was made without --serve-artifacts; "
                "log the model again in a new experiment"
            )
        if parts.netloc not in {"", self._server.netloc}:
            raise RegistryError(
                f"the version's files are at another host, {one_line(parts.netloc)!r}, which gets "
                "no login of this server; set MLFLOW_TRACKING_URI to that server, "
                "or log the model again in a new experiment"
            )
        path = parts.path.strip("/")
        if not path or any(not _is_plain(step) for step in path.split("/")):
            raise RegistryError(
                f"the version's location {one_line(location)!r} is not a plain path"
            )
        return path

    def files(self, version: ModelVersion) -> list[RemoteFile]:
        """List all files of a version, through the proxy, in the order of their paths.

        Raises:
            RegistryError: no file, too many, too deep, or a name that is not a plain one.
            TrackingError: the server does not answer.
        """
        found: list[RemoteFile] = []
        for file in self._walk(version.root, ""):
            found.append(file)
            if len(found) > MAXIMUM_FILES:
                raise RegistryError(
                    f"the model has more than {MAXIMUM_FILES} files; is it a model?"
                )
        if not found:
            raise RegistryError(
                f"the proxy lists no file for {version.name} version {version.version}; "
                "was its run or its artifact folder deleted? log and register the model again"
            )
        return sorted(found, key=lambda file: file.path)

    def _walk(self, root: str, below: str) -> Iterator[RemoteFile]:
        if below.count("/") >= MAXIMUM_DEPTH:
            raise RegistryError(
                f"the model's folders are deeper than {MAXIMUM_DEPTH}; is it a model?"
            )
        listing = self._server.get_json(PROXY, {"path": posixpath.join(root, below).rstrip("/")})
        for entry in listing.get("files", []):
            name, size = entry.get("path"), entry.get("file_size")
            if not isinstance(name, str) or not _is_plain(name):
                raise RegistryError(f"the proxy lists a file named {one_line(name)!r}; refused")
            if entry.get("is_dir"):
                yield from self._walk(root, f"{below}{name}/")
            else:
                # MLflow writes 64-bit numbers as text in some versions.
                yield RemoteFile(f"{below}{name}", int(size or 0))

    def fetch(
        self,
        version: ModelVersion,
        files: list[RemoteFile],
        directory: Path,
        *,
        progress: Callable[[int], None],
    ) -> None:
        """Download the files into an empty directory.

        Args:
            version: whose files they are.
            files: what `files()` returned.
            directory: exists and is empty.
            progress: told the number of bytes of each piece that arrived.

        Raises:
            RegistryError: a file is not as long as the listing says.
            TrackingError: the server does not answer.
        """
        for file in files:
            for tries_left in reversed(range(RETRIES + 1)):
                try:
                    self._download(version, file, directory / file.path, progress)
                    break
                except RegistryError as error:
                    if not tries_left:
                        raise
                    self._server.report(f"{error}; trying again")

    def _download(
        self, version: ModelVersion, file: RemoteFile, target: Path, progress: Callable[[int], None]
    ) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        arrived = 0
        path = quote(posixpath.join(version.root, file.path))
        with self._server.get(f"{PROXY}/{path}") as response, target.open("wb") as out:
            try:
                for chunk in response.iter_content(256 * 1024):
                    arrived += len(chunk)
                    if arrived > file.size:
                        break
                    out.write(chunk)
                    progress(len(chunk))
            except requests.RequestException:
                raise RegistryError(
                    f"the download of {file.path} broke after {arrived} of {file.size} bytes"
                ) from None
        if arrived != file.size:
            count = "more than" if arrived > file.size else f"{arrived} of"
            raise RegistryError(
                f"{file.path} arrived with {count} the {file.size} bytes that the proxy lists; "
                "was the model changed? log it again"
            )

    def metrics(self, version: ModelVersion) -> dict[str, float]:
        """Return the run's metrics; none where the run is gone or was never there."""
        if version.run_id is None:
            return {}
        try:
            run = self._server.get_json(f"{API}/runs/get", {"run_id": version.run_id})
        except NotFoundError:
            return {}
        metrics = run.get("run", {}).get("data", {}).get("metrics", [])
        return {metric["key"]: float(metric["value"]) for metric in metrics}


def _is_plain(name: str) -> bool:
    """Tell a plain file name from one that could lead elsewhere."""
    return (
        name not in {"", ".", ".."}
        and name.isprintable()
        and not any(char in name for char in '/\\:%*?"<>|')
    )

"""A model's files, listed and fetched through the artifact proxy of its tracking server."""

import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from iris_api.errors import IrisError, one_line
from iris_api.registry.client import BrokenAnswerError, TrackingServer

PROXY = "/api/2.0/mlflow-artifacts/artifacts"

MAXIMUM_FILES = 1000
"""Files and folders together; a model of scikit-learn has about ten."""

MAXIMUM_DEPTH = 8

MAXIMUM_NAME_BYTES = 255
"""Of one step of a path; what file systems take."""


class ArtifactError(IrisError):
    """The proxy lists or sends what is no model."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a model: its path below the model's directory and its size in bytes."""

    path: str
    size: int


def list_files(server: TrackingServer, root: str) -> list[RemoteFile]:
    """List all files below a path of the proxy, in the order of their paths.

    Raises:
        ArtifactError: too many, too deep, twice the same, or a name that is not a plain one.
        TrackingError: the server does not answer.
    """
    found: dict[str, RemoteFile | None] = {}
    for path, file in _walk(server, root, ""):
        if path in found:
            raise ArtifactError(f"the proxy lists {one_line(path)!r} twice; refused")
        found[path] = file
        if len(found) > MAXIMUM_FILES:
            raise ArtifactError(f"the model has more than {MAXIMUM_FILES} files; is it a model?")
    return [file for _, file in sorted(found.items()) if file]


def _walk(server: TrackingServer, root: str, below: str) -> Iterator[tuple[str, RemoteFile | None]]:
    """Yield each path with its file, or with None for a folder."""
    if below.count("/") >= MAXIMUM_DEPTH:
        raise ArtifactError(f"the model's folders are deeper than {MAXIMUM_DEPTH}; is it a model?")
    listing = server.get_json(PROXY, {"path": posixpath.join(root, below).rstrip("/")})
    entries = listing.get("files", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise server.unlike_mlflow()
    for entry in entries:
        name = entry.get("path")
        if not isinstance(name, str) or not is_plain(name):
            raise ArtifactError(f"the proxy lists a file named {one_line(name)!r}; refused")
        path = f"{below}{name}"
        if entry.get("is_dir"):
            yield path, None
            yield from _walk(server, root, f"{path}/")
        else:
            yield path, RemoteFile(path, _size(server, entry.get("file_size", 0)))


def _size(server: TrackingServer, value: Any) -> int:
    # MLflow writes 64-bit numbers as text in some versions.
    text = str(value)
    if isinstance(value, int | str) and text.isascii() and text.isdecimal() and len(text) < 20:
        return int(text)
    raise server.unlike_mlflow()


def fetch(
    server: TrackingServer,
    root: str,
    files: list[RemoteFile],
    directory: Path,
    *,
    progress: Callable[[int], None],
) -> None:
    """Download files into an empty directory.

    Args:
        server: whose proxy has them.
        root: the path of the proxy that they are below.
        files: what `list_files()` returned.
        directory: exists and is empty.
        progress: told the number of bytes of each piece that arrived; less than nothing when a
            download begins again.

    Raises:
        ArtifactError: a file is longer than the listing says.
        TrackingError: the server does not answer, or never with the whole file.
    """
    for file in files:
        target = directory / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        server.get(
            f"{PROXY}/{quote(posixpath.join(root, file.path))}",
            receive=partial(_write, file=file, target=target, progress=progress),
        )


def _write(
    response: requests.Response, file: RemoteFile, target: Path, progress: Callable[[int], None]
) -> None:
    arrived = 0
    try:
        with target.open("wb") as out:
            for chunk in response.iter_content(256 * 1024):
                if arrived + len(chunk) > file.size:
                    raise ArtifactError(
                        f"{file.path} is longer than the {file.size} bytes that the proxy lists; "
                        "was the model changed just now? import again, or log it again"
                    )
                out.write(chunk)
                arrived += len(chunk)
                progress(len(chunk))
    except requests.RequestException:
        pass  # told below, with the sizes
    if arrived < file.size:
        progress(-arrived)
        raise BrokenAnswerError(
            f"the download of {file.path} broke after {arrived} of {file.size} bytes; "
            "import again, or look into the server's log"
        )


def is_plain(name: str) -> bool:
    """Tell a plain file name from one that could lead elsewhere."""
    return (
        name not in {"", ".", ".."}
        and name.isprintable()
        and len(name.encode()) <= MAXIMUM_NAME_BYTES
        and not any(char in name for char in '/\\:%*?"<>|')
    )

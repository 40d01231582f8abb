"""The files of a model, listed and downloaded through the artifact proxy."""

import posixpath
import re
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, unquote, urlparse, urlunparse

import requests
from pydantic import BaseModel, BeforeValidator

from iris_api.errors import IrisError, one_line
from iris_api.registry.client import BrokenAnswerError, TrackingServer

PROXY = "/api/2.0/mlflow-artifacts/artifacts"

MAXIMUM_FILES = 1000
"""Most files and folders together; a scikit-learn model has about ten."""

MAXIMUM_NAME_BYTES = 255
"""Longest name of a file or folder; the limit of common file systems."""


Whole = Annotated[
    int,
    BeforeValidator(lambda value: int(value) if re.fullmatch("[0-9]{1,18}", str(value)) else None),
]
"""A number from 0 on; some versions of MLflow write 64-bit numbers as text."""


class _Entry(BaseModel):
    path: Any = None
    is_dir: bool = False
    file_size: Whole | None = 0


@dataclass(frozen=True)
class RemoteFile:
    """A file of a model: its path below the model's folder, and its size in bytes."""

    path: str
    size: int


def list_files(server: TrackingServer, root: str) -> list[RemoteFile]:
    """List all files below a path of the proxy, sorted by path.

    Raises:
        IrisError: There are too many, one is there twice, or a name is not plain.
        TrackingError: The server does not answer.
    """
    found: dict[str, RemoteFile | None] = {}  # a folder is None
    folders = [""]
    for below in folders:
        query = {"path": posixpath.join(root, below).rstrip("/")}
        for entry in server.get_json(PROXY, query, "files", list[_Entry]):
            if not isinstance(entry.path, str) or not is_plain(entry.path):
                raise IrisError(
                    f"the proxy lists a file named {one_line(entry.path)!r}, which is not a plain "
                    "name; log the model again without it"
                )
            path = f"{below}{entry.path}"
            if not is_served(posixpath.join(root, path)):
                raise IrisError(
                    f"the proxy cannot serve the file {one_line(path)!r}, because it decodes its "
                    "name like a URL; rename the file and log the model again"
                )
            if path in found:
                raise IrisError(f"the proxy lists {one_line(path)!r} twice; log the model again")
            found[path] = None if entry.is_dir else RemoteFile(path, entry.file_size or 0)
            if entry.is_dir:
                folders.append(f"{path}/")
            if len(found) > MAXIMUM_FILES:
                raise IrisError(f"the model has more than {MAXIMUM_FILES} files; is it a model?")
    return [file for _, file in sorted(found.items()) if file]


def fetch(server: TrackingServer, root: str, files: list[RemoteFile], directory: Path) -> None:
    """Download the listed files below a path of the proxy into an empty directory.

    Raises:
        IrisError: A file is longer than listed.
        TrackingError: The server does not answer, or not with the whole file.
    """
    arrived, total = 0, sum(file.size for file in files)
    for file in files:
        target = directory / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        write = partial(_write, file, target, partial(_show_progress, arrived, total))
        server.get(f"{PROXY}/{quote(posixpath.join(root, file.path))}", {}, write)
        arrived += file.size


def _show_progress(before: int, total: int, size: int) -> None:
    """Show on a terminal, and not in a log, how many bytes of all files have arrived."""
    if sys.stderr.isatty():
        end = "\n" if before + size == total else "\r"
        print(f"{(before + size) / total:4.0%} of {total} bytes", end=end, file=sys.stderr)


def _write(
    file: RemoteFile, target: Path, show: Callable[[int], None], response: requests.Response
) -> None:
    arrived = 0
    try:
        with target.open("wb") as out:
            for chunk in response.iter_content(256 * 1024):
                if arrived + len(chunk) > file.size:
                    raise IrisError(
                        f"{file.path} is longer than the {file.size} bytes that the proxy lists; "
                        "was the model changed just now? import again, or log it again"
                    )
                out.write(chunk)
                arrived += len(chunk)
                show(arrived)
    except requests.RequestException:
        pass  # reported below, with the sizes
    if arrived < file.size:
        raise BrokenAnswerError(
            f"the download of {file.path} broke after {arrived} of {file.size} bytes; "
            "import again, or read the server's log"
        )


def is_plain(name: str) -> bool:
    """Return whether a file name has no unprintable character, and cannot lead to another folder.

    All kinds of spaces are taken: macOS has unusual ones in the names of screenshots.
    """
    return (
        name not in {"", ".", ".."}
        and not {"/", "\\"} & set(name)
        and all(char.isprintable() or unicodedata.category(char) == "Zs" for char in name)
        and len(name.encode()) <= MAXIMUM_NAME_BYTES
    )


def is_served(path: str) -> bool:
    """Return whether MLflow's proxy finds a path, which it first decodes like a URL."""
    return "#" not in path and urlunparse(urlparse(unquote(path))) == path

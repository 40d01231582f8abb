"""The files of a model, listed and downloaded through the artifact proxy."""

import contextlib
import logging
import posixpath
import re
import threading
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, unquote, urlparse, urlunparse

import requests
from pydantic import BaseModel, BeforeValidator

from iris_api import terminal
from iris_api.errors import IrisError, one_line
from iris_api.registry.client import FILE_SECONDS, MlflowServer
from iris_api.registry.error_messages import BrokenAnswerError, DeniedError, TrackingError

logger = logging.getLogger(__name__)

PROXY = "/api/2.0/mlflow-artifacts/artifacts"

MAXIMUM_FILES = 1000
"""Most files and folders together; a scikit-learn model has about ten."""

MAXIMUM_NAME_BYTES = 255
"""Longest name of a file or folder; the limit of common file systems."""

SLOW_SECONDS = 10
"""Time after which a log line says which file is still on its way."""

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


def list_files(server: MlflowServer, root: str) -> list[RemoteFile]:
    """List all files below a path of the proxy, sorted by path.

    Raises:
        IrisError: There are too many, one is there twice, or a name is not plain.
        TrackingError: The server does not answer.
    """
    found: dict[str, RemoteFile | None] = {}  # a folder is None
    folders = [""]
    for below in folders:
        for entry in _list_folder(server, posixpath.join(root, below).rstrip("/")):
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


def _list_folder(server: MlflowServer, path: str) -> list[_Entry]:
    try:
        return server.get_json(PROXY, {"path": path}, "files", list[_Entry])
    except DeniedError:
        # MLflow finds the experiment of a location in its path, and the permission with it.
        found = re.match(r"(?:workspaces/[^/]+/)?([0-9]+)/", path)
        fix = (
            f"ask for READ permission on experiment {found[1]}"
            if found
            else "its path names no experiment, so only the server's default permission or an "
            "administrator opens it; log and register the model again in an experiment without "
            "an artifact location of its own"
        )
        raise DeniedError(
            f"{server.address} denies this login the files in {one_line(path)} (HTTP 403), "
            f"and not the registered model; {fix}"
        ) from None


def fetch(server: MlflowServer, root: str, files: list[RemoteFile], directory: Path) -> None:
    """Download the listed files below a path of the proxy into an empty directory.

    Raises:
        IrisError: A file is longer than listed, or the server cannot send it.
        TrackingError: The server does not answer, or not with the whole file.
    """
    arrived, total = 0, sum(file.size for file in files)
    for file in files:
        target = directory / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        write = partial(_write, file, target, partial(_show_progress, arrived, total))
        path = posixpath.join(root, file.path)
        ask = partial(server.get, f"{PROXY}/{quote(path)}", {}, write, FILE_SECONDS)
        with _said_when_slow(file):
            try:
                ask()
            except BrokenAnswerError:
                _blame(server, path, ask, file)
            except TrackingError as error:
                raise TrackingError(f"the download of {file.path} failed: {error}") from None
        arrived += file.size


@contextlib.contextmanager
def _said_when_slow(file: RemoteFile) -> Iterator[None]:
    timer = threading.Timer(SLOW_SECONDS, logger.info, [f"still waiting for {file.path}"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _blame(server: MlflowServer, path: str, ask: Callable[[], None], file: RemoteFile) -> None:
    """Ask once more for a file that failed, if the server can list its folder meanwhile.

    Raises:
        IrisError: The file fails again, so a later import would not fetch it either.
    """
    folder = posixpath.dirname(path)
    _list_folder(server, folder)
    try:
        ask()
    except BrokenAnswerError as error:
        reason = str(error).rpartition("; ")[0]
        mark = file.size == 0 and posixpath.basename(path) == posixpath.basename(folder)
        fix = (
            "if it marks a folder in a bucket, delete it there"
            if mark
            else "log and register the model again without it, or read the server's log"
        )
        raise IrisError(
            f"the server lists the file {file.path} and cannot send it ({reason}); {fix}"
        ) from None


def _show_progress(before: int, total: int, size: int) -> None:
    """Show on a terminal, and not in a log, how many bytes of all files have arrived."""
    logger.debug("%.0f %%", 100 * (before + size) / total, extra=terminal.PROGRESS)


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

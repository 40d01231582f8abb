"""API keys: who may ask for predictions."""

import codecs
import hashlib
import hmac
import logging
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from iris_api.errors import IrisError

LOOK_SECONDS = 1
"""Between two looks whether the file was changed."""

Stamp = tuple[int, int, int] | None
"""What tells one state of the file from another; None when there is no file."""

_UNREAD: Stamp = (0, 0, 0)
"""Of no file."""

logger = logging.getLogger("bentoml.service")


class KeysError(IrisError):
    """There are no keys, so nobody could be let in."""


class ApiKeys:
    """The keys of a file, one a line, read again when it was changed.

    Lines that are empty or begin with # are no keys. While the file cannot be read, or has none,
    nobody is let in.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digests: list[bytes] = []
        self._stamp = _UNREAD
        self._told = ""  # why nobody is let in, so that it is said once
        self._looked = -float(LOOK_SECONDS)

    def allow(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Tell whether a request has one of the keys, as `Authorization: Bearer KEY`."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._look()
        scheme, _, key = dict(headers).get(b"authorization", b"").partition(b" ")
        digest = _digest(key.strip())
        # Each is compared, in a time that depends on neither key.
        found = sum(hmac.compare_digest(digest, known) for known in self._digests)
        return found > 0 and scheme.lower() == b"bearer"

    def _look(self) -> None:
        self._looked = time.monotonic()
        if (stamp := _stamp(self._path)) == self._stamp:
            return
        try:
            self._digests = read_keys(self._path)
        except KeysError as error:
            self._digests = []
            # It is tried again at each look, because what was wrong may pass without a change.
            self._stamp = _UNREAD
            if str(error) != self._told:
                self._told = str(error)
                logger.error("nobody is let in: %s", error)  # noqa: TRY400 (one line says it)
        else:
            self._stamp, self._told = stamp, ""
            logger.info("%s has %d API keys", self._path, len(self._digests))


def read_keys(path: Path) -> list[bytes]:
    """Read the keys of a file, and return their digests.

    Raises:
        KeysError: it cannot be read, is not a plain file, or has no key.
    """
    # Some editors begin a file with a byte order mark, which is no part of the first key.
    content = _read(path).removeprefix(codecs.BOM_UTF8)
    lines = [line.strip() for line in content.splitlines()]
    digests = [_digest(line) for line in lines if line and not line.startswith(b"#")]
    if not digests:
        raise KeysError(f"IRIS_API_KEYS_FILE: {path} has no key; write one a line")
    return digests


def _read(path: Path) -> bytes:
    try:
        # A worker does not wait for the writer of a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise KeysError(f"IRIS_API_KEYS_FILE: {path} is not a plain file")
            with open(descriptor, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KeysError(f"IRIS_API_KEYS_FILE: {path}: {error.strerror}") from None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ctime_ns, status.st_size, status.st_ino

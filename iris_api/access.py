"""API keys: who may ask for predictions."""

import hashlib
import hmac
import logging
import time
from collections.abc import Iterable
from pathlib import Path

from iris_api import IrisError

LOOK_SECONDS = 1
"""Between two looks whether the file was changed."""

Stamp = tuple[int, int, int] | None
"""What tells one state of the file from another; None when there is no file."""

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
        self._stamp: Stamp = (0, 0, 0)
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
        self._stamp = stamp
        try:
            self._digests = read_keys(self._path)
        except KeysError as error:
            self._digests = []
            logger.error("nobody is let in: %s", error)  # noqa: TRY400 (one line says it)
        else:
            logger.info("%s has %d API keys", self._path, len(self._digests))


def read_keys(path: Path) -> list[bytes]:
    """Read the keys of a file, and return their digests.

    Raises:
        KeysError: it cannot be read, or has no key.
    """
    try:
        lines = [line.strip() for line in path.read_bytes().splitlines()]
    except OSError as error:
        raise KeysError(f"IRIS_API_KEYS_FILE: {path}: {error.strerror}") from None
    digests = [_digest(line) for line in lines if line and not line.startswith(b"#")]
    if not digests:
        raise KeysError(f"IRIS_API_KEYS_FILE: {path} has no key; write one a line")
    return digests


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ctime_ns, status.st_size, status.st_ino

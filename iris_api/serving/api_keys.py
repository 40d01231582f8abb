"""API keys: which requests may ask for predictions."""

import codecs
import hashlib
import hmac
import logging
import math
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from iris_api.errors import IrisError

logger = logging.getLogger("bentoml.service")


class ApiKeys:
    """The keys of a file, one a line, which is read again each second while requests come.

    Empty lines and lines that begin with # are ignored. While the file cannot be read or has no
    key, every request is rejected.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digests: list[bytes] = []
        self._error = ""
        self._read_at = -math.inf

    def allow(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Return whether a request has one of the keys, as `Authorization: Bearer KEY`."""
        if time.monotonic() - self._read_at >= 1:
            self._read()
        scheme, _, key = dict(headers).get(b"authorization", b"").partition(b" ")
        digest = hashlib.sha256(key.strip()).digest()
        # All digests are compared, in a time that depends on none of them.
        found = sum(hmac.compare_digest(digest, known) for known in self._digests)
        return found > 0 and scheme.lower() == b"bearer"

    def _read(self) -> None:
        """Read the file, and log each change once."""
        self._read_at = time.monotonic()
        former = self._digests, self._error
        try:
            self._digests, self._error = read_keys(self._path), ""
        except IrisError as error:
            self._digests, self._error = [], str(error)
        if self._error and self._error != former[1]:
            logger.error("every request is rejected: %s", self._error)
        elif self._digests != former[0]:
            logger.info("%s has %d API keys", self._path, len(self._digests))


def read_keys(path: Path) -> list[bytes]:
    """Read a file of keys, and return their digests.

    Raises:
        IrisError: The file cannot be read, is not a regular file, or has no key.
    """
    try:
        # Reading a pipe would wait for its writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise IrisError(f"IRIS_API_KEYS_FILE: {path} is not a regular file")
        content = path.read_bytes()
    except OSError as error:
        raise IrisError(f"IRIS_API_KEYS_FILE: {path}: {error.strerror}") from None
    # Some editors begin a file with a byte order mark, which is not part of the first key.
    lines = [line.strip() for line in content.removeprefix(codecs.BOM_UTF8).splitlines()]
    keys = [line for line in lines if line and not line.startswith(b"#")]
    if not keys:
        raise IrisError(f"IRIS_API_KEYS_FILE: {path} has no key; write one a line")
    return [hashlib.sha256(key).digest() for key in keys]

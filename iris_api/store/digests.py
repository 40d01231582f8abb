"""SHA-256 digests of a folder's files: of each, and of all together."""

import hashlib
from pathlib import Path


def digest_directory(directory: Path) -> str:
    """Return the SHA-256 over the sorted file names and contents of a directory, as 64 hex digits.

    For each file, in the order of the POSIX paths: the path, a zero byte, the SHA-256 of the
    content. Both parts have a known end, so no two directories share an input.
    """
    total = hashlib.sha256()
    for path, digest in digest_files(directory).items():
        total.update(path.encode() + b"\0" + bytes.fromhex(digest))
    return total.hexdigest()


def digest_files(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a directory by its POSIX path, sorted by path."""
    digests = {}
    for path in directory.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            digests[path.relative_to(directory).as_posix()] = digest
    return dict(sorted(digests.items()))

"""Removal of old versions from the model store."""

import bentoml

from iris_api.home import bento_files, lock, staging
from iris_api.store.active_version import is_needed
from iris_api.store.entry import entries


def prune(name: str, keep: int) -> list[bentoml.Tag]:
    """Remove the oldest entries of a registered model, and return their tags.

    The `keep` entries imported last stay. So do the active one, the one before it, which a service
    falls back to, and those that a Bento of the same home names: `bentoml build` does not copy its
    model. A service that is loading an entry at that moment finds all of it or nothing.
    """
    old = entries(name)[:-keep]
    if not old:
        return []
    # Only tags are searched for, so that a file that is no text need not stop a watch.
    bentos = "\n".join(path.read_text("utf-8", errors="replace") for path in bento_files())
    removed = []
    with staging() as folder:
        for entry in old:
            with lock(entry.path.parent):
                if is_needed(entry) or str(entry.tag) in bentos or not entry.path.is_dir():
                    continue
                entry.path.rename(folder / entry.path.name)
            removed.append(entry.tag)
    return removed

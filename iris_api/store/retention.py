"""Which entries of the model store a watch removes: the oldest that nobody needs."""

from pathlib import Path

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer

from iris_api.home import lock, staging
from iris_api.store import active_version
from iris_api.store import entry as store


def prune(name: str, keep: int) -> list[bentoml.Tag]:
    """Remove the oldest entries of a registered model, and return their tags.

    A service that loads an entry meanwhile finds the whole of it or nothing.

    Args:
        name: of the registered model; entries of others, and ones not imported, are left alone.
        keep: how many of the entries imported last stay. Beyond them stay the active one, the one
            before it, which a service falls back to, and those that a Bento of the same home
            names: `bentoml build` does not copy its model.
    """
    old = store.entries(name)[:-keep]
    if not old:
        return []
    bentos = _bentos()
    removed = []
    with staging() as folder:
        for entry in old:
            path = entry.path
            with lock(path.parent):
                if active_version.is_needed(entry) or str(entry.tag) in bentos or not path.is_dir():
                    continue
                path.rename(folder / path.name)
            removed.append(entry.tag)
    return removed


def _bentos() -> str:
    """Return what the Bentos of the store say of themselves, their models' tags among it."""
    bentos = Path(BentoMLContainer.bentoml_home.get(), "bentos")
    # Only tags are looked for, so that a file that is no text need not stop a watch.
    texts = (path.read_text("utf-8", errors="replace") for path in bentos.glob("*/*/bento.yaml"))
    return "\n".join(texts)

"""Where the workers of one service keep their metrics, apart from those of other services.

BentoML has one folder for all services with the same BENTOML_HOME, and empties it at each start:
also of a service that then finds its port in use. What a running one counted would be gone.
"""

from pathlib import Path

from bentoml._internal.configuration.containers import BentoMLContainer

from iris_api.home import new_folder

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Of prometheus_client: where each worker finds the folder."""

PREFIX = "iris-service-"
"""Of the folders of services; what else is beside them is somebody else's."""


def ready_file(pid: int) -> str:
    """Return the name in that folder by which a worker tells that it became ready."""
    return f"ready_{pid}.txt"


def new_metrics_folder() -> Path:
    """Make a folder for the workers that this process starts, and clear those of ended services.

    It is locked until this process ends, however it ends, and stays until the next start: whoever
    wants to can read what was counted in the end.

    Raises:
        OSError: it cannot be made or locked, such as in a read-only home.
    """
    base = Path(BentoMLContainer.bentoml_home.get()) / "metrics"
    # Its handle is never closed, for the lock to end with this process and not before.
    held, _ = new_folder(base, PREFIX)
    # One below: the workers lock their folder themselves, for each page.
    folder = held / "workers"
    folder.mkdir()
    return folder

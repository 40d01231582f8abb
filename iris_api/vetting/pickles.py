"""A pickle becomes a skops file, once, in a process of its own.

Opening a pickle runs whatever it says. The person who asks for it trusts its author; the process
only limits what an accident or a lie can do. It gets no environment, no input, a folder of its own
and limits of memory, time and file size, and it and its children are killed at the end. It is no
jail: it runs as the same user, with that user's files and network.
"""

import logging
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from iris_api.errors import one_line
from iris_api.vetting.mlmodel import (
    LOG_AS_SKOPS,
    MAXIMUM_BYTES,
    Flavor,
    VettingError,
    check_version,
    read_model,
)

logger = logging.getLogger(__name__)

CHILD = Path(__file__).with_name("pickle_child.py")

MEMORY_BYTES = 4 * 1024**3
"""Address space of the process, in bytes; scikit-learn with its libraries takes about 1 GiB."""


TIMEOUT_SECONDS = 120
"""Limit of the wall time, and of the processor time; scikit-learn takes several s to import."""


def convert_pickle(directory: Path, flavor: Flavor, *, timeout: float = TIMEOUT_SECONDS) -> bytes:
    """Open a pickled estimator in a separate process, and return it as a skops file.

    The file is no more trusted than any other: open it with `estimator.open_estimator`.

    Args:
        directory: the model directory.
        flavor: from its `MLmodel`, of any format but skops.
        timeout: limit of the wall time, and of the processor time, in seconds.

    Raises:
        VettingError: the pickle could not be converted within the limits.
    """
    check_version(flavor.sklearn_version)
    data = read_model(directory, flavor.model_file)
    logger.info("opening %s, a %s, once", flavor.model_file, flavor.serialization_format)
    with tempfile.TemporaryDirectory(prefix="iris-unpickle-") as name:
        folder = Path(name)
        (folder / "model").write_bytes(data)
        if problem := _run(folder, flavor.serialization_format, timeout):
            raise VettingError(f"the pickle was not converted: {problem}; {LOG_AS_SKOPS}")
        return read_model(folder, "model.skops")


def _run(folder: Path, serialization_format: str, timeout: float) -> str:
    """Run the child to its end, and return what went wrong, or nothing."""
    limits = [str(n) for n in (MEMORY_BYTES, MAXIMUM_BYTES, max(1, round(timeout + 0.5)))]
    with (folder / "stderr").open("w+b") as stderr:
        child = subprocess.Popen(
            [sys.executable, "-I", str(CHILD), serialization_format, *limits],
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # A file and not a pipe: nobody waits for a grandchild that keeps it open.
            stderr=stderr,
            start_new_session=True,
        )
        try:
            status = child.wait(timeout)
        except subprocess.TimeoutExpired:
            return f"it took longer than {timeout:g} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if status < 0:
            return f"its process was killed by signal {-status}"
        return _last_line(stderr.fileno()) if status else ""


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of this process's environment, which holds the registry's credentials."""
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        # Each thread of the numeric libraries reserves address space, which is limited.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _last_line(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    text = os.pread(descriptor, 4096, max(0, size - 4096)).decode(errors="replace").strip()
    return one_line(text.splitlines()[-1]) if text else "its process failed and said nothing"

"""The conversion of a pickle that `--trust-pickle` allows to skops, in a separate process.

Without it, `estimator.open_estimator` rejects a pickle.

Opening a pickle runs the code in it, which is why `--trust-pickle` is for models whose author is
trusted. The process limits the damage of accidents: it gets no environment variables, no input and
a folder of its own, its memory, time and file size are limited, and it is killed with its children
at the end. It is not a sandbox: it runs as the same user, with that user's files and network.
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
from iris_api.vetting import pickle_child
from iris_api.vetting.mlmodel import (
    LOG_AS_SKOPS,
    MAXIMUM_BYTES,
    Flavor,
    VettingError,
    read_file,
)

logger = logging.getLogger(__name__)

MEMORY_BYTES = 1024**3
"""Memory of the process, in bytes; scikit-learn with its libraries takes about 200 MiB."""

TIMEOUT_SECONDS = 120
"""Limit of the wall time and of the processor time; the imports alone take several seconds."""


def convert_pickle(directory: Path, flavor: Flavor) -> bytes:
    """Open a pickled estimator in a separate process, and return it as a skops file.

    The result is no more trusted than any other skops file.
    """
    data = read_file(directory, flavor.model_file)
    logger.info("opening %s, a %s, once", flavor.model_file, flavor.serialization_format)
    # Beside the model, where it is cleared away if this process is killed.
    with tempfile.TemporaryDirectory(prefix="iris-unpickle-", dir=directory.parent) as name:
        folder = Path(name)
        (folder / "model").write_bytes(data)
        if problem := _run(folder, flavor.serialization_format):
            raise VettingError(f"the pickle was not converted: {problem}; {LOG_AS_SKOPS}")
        return read_file(folder, "model.skops")


def _run(folder: Path, serialization_format: str) -> str:
    """Run the process to its end, and return what went wrong, or an empty string."""
    limits = [str(limit) for limit in (MEMORY_BYTES, MAXIMUM_BYTES, TIMEOUT_SECONDS + 1)]
    with (folder / "stderr").open("w+b") as stderr:
        child = subprocess.Popen(
            [sys.executable, "-I", pickle_child.__file__, serialization_format, *limits],
            cwd=folder,
            # Nothing of this process's environment, which contains the registry's credentials.
            env={
                "PATH": os.defpath,
                "LANG": "C.UTF-8",
                "HOME": str(folder),
                "TMPDIR": str(folder),
                # Each thread of the numeric libraries reserves memory, which is limited.
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,  # a file: a grandchild would keep the end of a pipe open
            start_new_session=True,
        )
        try:
            status = child.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            return f"it took longer than {TIMEOUT_SECONDS} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if status < 0:
            return f"its process was killed by signal {-status}"
        if not status:
            return ""
        stderr.seek(-min(stderr.seek(0, os.SEEK_END), 4096), os.SEEK_END)
        text = stderr.read().decode(errors="replace").strip()
        return one_line(text.splitlines()[-1]) if text else "its process failed without a message"

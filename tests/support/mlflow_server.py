"""The command mlflow, with the tracking server in the process of the command.

The command starts uvicorn in a process of its own, which imports all of MLflow again.
"""

import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import mlflow.server
from mlflow.cli import cli


def _run_here(command: Sequence[str], extra_env: Mapping[str, str], **_: Any) -> None:
    os.environ.update(extra_env)
    sys.argv[:] = command[2:]  # without `python -m`
    runpy.run_module("uvicorn", run_name="__main__", alter_sys=True)


mlflow.server._exec_cmd = _run_here  # type: ignore[attr-defined,assignment]  # noqa: SLF001
cli()

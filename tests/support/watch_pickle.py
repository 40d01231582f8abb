"""A recorder of unpickling, to be written as sitecustomize.py into a service's environment.

Each line of the log is `process kind what functions`, with tabs. The process is `worker` or
`other`. The kind is `load` for a call of an unpickler, `name` for a global that one looks up,
`open` for a file that is named like a pickle, and `canary` for the proof that this works. The
functions are those on the stack from the outermost in, without pickle's and pathlib's.
"""

import os
import pathlib
import pickle
import sys
from typing import Any

_log = os.open(os.environ["WATCH_PICKLE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_loads = pickle.loads
_module: Any = pickle
_Unpickler: Any = pickle.Unpickler


def _write(kind: str, what: object) -> None:
    frame = sys._getframe(2)  # noqa: SLF001
    callers: list[str] = []
    while frame and len(callers) < 12:
        if frame.f_code.co_filename not in {__file__, pickle.__file__, pathlib.__file__}:
            module = frame.f_globals.get("__name__", "?")
            callers.append(f"{module}.{frame.f_code.co_name}")
        frame = frame.f_back  # type: ignore[assignment]
    process = "worker" if any("worker" in part for part in sys.orig_argv) else "other"
    os.write(_log, f"{process}\t{kind}\t{what}\t{' '.join(reversed(callers))}\n".encode())


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class":
        _write("name", f"{arguments[0]}.{arguments[1]}")
    elif event == "open" and str(arguments[0]).endswith((".pkl", ".pickle", ".joblib")):
        _write("open", os.path.basename(arguments[0]))  # noqa: PTH119


class _WatchedUnpickler(_Unpickler):  # type: ignore[misc]
    def load(self) -> Any:
        _write("load", "Unpickler")
        return super().load()


def _watched(name: str, function: Any) -> Any:
    def load(*arguments: Any, **options: Any) -> Any:
        _write("load", name)
        return function(*arguments, **options)

    return load


sys.addaudithook(_hook)
# By name too, because a pickle without a global looks nothing up.
_module.load = _watched("load", _module.load)
_module.loads = _watched("loads", _module.loads)
_module.Unpickler = _WatchedUnpickler
_pure = _module._Unpickler  # noqa: SLF001 (what joblib's is made of)
_pure.load = _watched("_Unpickler.load", _pure.load)
_write("canary", _loads(pickle.dumps(os.getcwd)).__name__)

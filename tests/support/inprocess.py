"""The import's command line in this process, which spares the seconds that mlflow takes to load."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from bentoml._internal.configuration.containers import BentoMLContainer
from simple_di import sentinel

import import_model
from iris_api.registry import client
from iris_api.settings import settings

SINGLETONS = ("bentoml_home", "model_store_dir", "model_store")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


@dataclass(frozen=True)
class Done:
    """What a command line left behind."""

    status: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """Return the last line of standard error."""
        return self.err.splitlines()[-1]


Run = Callable[..., Done]
Fails = Callable[..., Done]
"""A `Run` that takes the `status` to fail with, too."""


def runner(
    env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Return a function that runs import_model.py with its arguments and more variables."""
    monkeypatch.setattr(client, "BACKOFF_SECONDS", 0.01)

    def run(*arguments: str, **more: str) -> Done:
        with monkeypatch.context() as patch, _kept():
            for name in set(os.environ) - env.keys():
                patch.delenv(name)
            for name, value in (*env.items(), *more.items()):
                patch.setenv(name, value)
            capsys.readouterr()
            try:
                status = import_model.main(arguments)
            except SystemExit as error:
                status = int(error.code or 0)
            return Done(status, *capsys.readouterr())

    return run


def failing(run: Run, store: Path) -> Fails:
    """Return a function that runs what must fail, with one line, and leave the store as it was."""

    def fail(*arguments: str, status: int = 1, **env: str) -> Done:
        before = snapshot(store)
        done = run(*arguments, **env)
        assert done.status == status, done.err
        assert done.out == ""
        assert "Traceback" not in done.err
        assert snapshot(store) == before
        assert staged(store) == []
        return done

    return fail


@contextlib.contextmanager
def _kept() -> Iterator[None]:
    """Put back what belongs to the whole process, and have the environment read anew."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    hook, level = sys.unraisablehook, logging.root.manager.disable
    providers = [getattr(BentoMLContainer, name) for name in SINGLETONS]
    caches = [provider._cache for provider in providers]  # noqa: SLF001 (no public name)
    settings.cache_clear()
    for provider in providers:
        provider._cache = sentinel  # noqa: SLF001
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
        logging.disable(level)
        settings.cache_clear()
        for provider, cache in zip(providers, caches, strict=True):
            provider._cache = cache  # noqa: SLF001


def snapshot(home: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a BENTOML_HOME, but of what the registry said last."""
    return {
        path.relative_to(home).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(home.rglob("*"))
        if path.is_file() and path.parent != home / "registry"
    }


def staged(home: Path) -> list[Path]:
    """Return what is left of imports that are over."""
    return list((home / "staging").glob("*"))

"""The outcome of a piece of work: its result, or one line that says why there is none."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from iris_api import errors
from iris_api.errors import IrisError
from iris_api.model_uri import ModelURIError
from iris_api.schema import IncompatibleError
from iris_api.settings import SettingsError

T = TypeVar("T")


@dataclass(frozen=True)
class Done(Generic[T]):
    """The work succeeded."""

    result: T


@dataclass(frozen=True)
class Failed:
    """The work failed.

    Attributes:
        error: One line that says what is wrong and how to fix it.
        status: The exit status of a command that fails like this.
        transient: Whether the same work may succeed later although nothing was changed.
        incompatible: Whether the model has another contract than the active version.
    """

    error: str
    status: int = 1
    transient: bool = False
    incompatible: bool = False


Outcome: TypeAlias = Done[T] | Failed


def attempt(work: Callable[[], T]) -> Outcome[T]:
    """Do the work in this process, and turn its known errors into an outcome."""
    try:
        return Done(work())
    except (ModelURIError, SettingsError) as error:
        return Failed(str(error), status=2)
    except IncompatibleError as error:
        return Failed(str(error), incompatible=True)
    except IrisError as error:
        return Failed(str(error), transient=error.transient)
    except MemoryError:
        return Failed("the import needs more memory than there is; register a smaller model")
    except OSError as error:
        return Failed(explain(error), transient=True)


def explain(error: OSError) -> str:
    """Return what the operating system denied, where, and how to fix it."""
    from iris_api.home import bentoml_home  # noqa: PLC0415 (BentoML, which a command can spare)

    return errors.explain(error, bentoml_home())

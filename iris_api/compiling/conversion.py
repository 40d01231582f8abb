"""The conversion of a scikit-learn estimator to ONNX, with a proof that both answer the same."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from iris_api.compiling.converters.lookup import convert
from iris_api.compiling.proof import CompileError, Reference, UnansweredError, ask, prove
from iris_api.compiling.reasons import NoConverterError, why_not
from iris_api.compiling.sampling.domain import Domain
from iris_api.compiling.sampling.rows import sample_rows
from iris_api.errors import IrisError, one_line
from iris_api.model.engines import open_session
from iris_api.schema import Column
from iris_api.store.metadata import Proof
from iris_api.vetting.estimator import Vetted
from iris_api.vetting.training_profile import TrainingProfile

logger = logging.getLogger(__name__)

MESSAGE_LENGTH = 160
"""Characters of another library's message, which can be pages: the first sentence or two."""

USUAL = (0.0, 10.0)
"""The usual range of a column of a model without a training profile."""

FAR = 1000.0
"""Widths of the usual range up to which numbers are proved where any number is accepted."""

SEED = 0
"""Seed of the random rows, fixed so that the same model has the same proof."""


@dataclass(frozen=True)
class Compiled:
    """An estimator as ONNX, with the proof that it answers as scikit-learn does.

    Attributes:
        model: serialized ONNX without external data. Input "rows": float64 (n, columns) in the
            estimator's order of features. Outputs as `convert` makes them.
        proof: what was compared with scikit-learn.
    """

    model: bytes
    proof: Proof


def compile_model(vetted: Vetted) -> Compiled:
    """Convert an estimator to ONNX, and prove that both answer the same.

    The same estimator and package versions give the same bytes. The estimator is not changed.

    Raises:
        CompileError: it does not convert, does not run, or does not agree with scikit-learn.
        UnansweredError: as `ask_scikit_learn` does.
    """
    estimator, reference = vetted.numeric, ask_scikit_learn(vetted)
    try:
        return convert_and_prove(estimator, reference)
    except NoConverterError as error:
        raise CompileError(str(error)) from error
    except CompileError as error:
        raise CompileError(f"{why_not(estimator)}: {error}") from error


def ask_scikit_learn(vetted: Vetted) -> Reference:
    """Return what scikit-learn answers to each row of the proof.

    Raises:
        UnansweredError: it fails for a row, or returns no finite probabilities for it. Such a model
            cannot be served, compiled or not.
    """
    numeric = vetted.numeric
    # An estimator for data frames, or for rows near its own, can raise anything.
    # Threads cost small batches more than they save, and the service has none either.
    with _errors_as(UnansweredError), threadpool_limits(1):
        sample = sample_rows(numeric, _domain(vetted), vetted.examples, SEED)
        return replace(ask(vetted.predictor, sample), estimator=numeric)


def _domain(vetted: Vetted) -> Domain:
    """Return the ranges of the training data, which are usual, and those that are accepted."""
    columns = vetted.schema.in_order(vetted.features)
    accepted = np.array([column.domain for column in columns])
    usual = np.clip(np.tile(USUAL, (len(accepted), 1)), accepted[:, :1], accepted[:, 1:])
    if vetted.profile is not None:
        limits = [_limits(column, vetted.profile) for column in columns]
        usual = np.clip(limits, *accepted.T[..., None])
    far = FAR * np.maximum(np.ptp(usual, axis=1), 1.0)[:, np.newaxis] * [-1.0, 1.0]
    missing = np.array([not column.required for column in columns])
    whole = np.array([column.type != "number" for column in columns])
    return Domain(usual, np.where(np.isfinite(accepted), accepted, usual + far), missing, whole)


def _limits(column: Column, profile: TrainingProfile) -> tuple[float, float]:
    """Return the smallest and the largest usual cell of a column; no unknown text is usual."""
    if (found := profile.features.get(column.plain_name)) is not None:
        return found.minimum, found.maximum
    return 0.0, column.domain[1]


def convert_and_prove(estimator: Any, reference: Reference) -> Compiled:
    """Convert, load and prove, or raise a CompileError or NoConverterError."""
    try:
        with _errors_as(CompileError):
            model = convert(estimator).SerializeToString(deterministic=True)
            return Compiled(model, prove(open_session(model), reference))
    except CompileError as error:
        # onnx and onnxruntime share no base class of errors, and their messages are for authors of
        # graphs. The estimator itself can still be served.
        if error.__cause__ is None:
            raise
        logger.info("the compiled form does not run: %s", error)
        raise CompileError("ONNX Runtime does not run it") from error


@contextlib.contextmanager
def _errors_as(kind: type[IrisError]) -> Iterator[None]:
    """Raise other errors as one of ours, and suppress warnings and standard output."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            # Overflows far from the training data, missing feature names.
            warnings.simplefilter("ignore")
            yield
    except IrisError:
        raise
    except Exception as error:
        raise kind(f"{type(error).__name__}: {one_line(error, MESSAGE_LENGTH)}") from error

"""The domain of the rows that a model may be given, and the rows that are drawn from it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Domain:
    """The rows that a model may be given.

    Attributes:
        usual: float64 (n, 2), minimum and maximum of each column in the training rows.
        accepted: float64 (n, 2), minimum and maximum that the service accepts; finite.
        missing: bool (n,), the columns that may be missing.
        whole: bool (n,), the columns of whole numbers, such as integers and codes of texts.
    """

    usual: Rows
    accepted: Rows
    missing: NDArray[np.bool_]
    whole: NDArray[np.bool_]

    def clip(self, rows: Rows) -> Rows:
        """Bring rows into the accepted range, in place; zeros keep their sign, and NaN remains."""
        self.round(rows)
        for limit, beyond in zip(self.accepted.T, (np.less, np.greater), strict=True):
            np.copyto(rows, limit, where=beyond(rows, limit))
        return rows

    def round(self, rows: Rows) -> Rows:
        """Round the columns of whole numbers, in place."""
        if self.whole.any():
            rows[:, self.whole] = np.rint(rows[:, self.whole])
        return rows


@dataclass(frozen=True)
class Sample:
    """The rows of a proof.

    Attributes:
        rows: float64 (m, n).
        lines: The number of pairs of neighbours at the end of the rows: first one row of each pair,
            then the other ones.
    """

    rows: Rows
    lines: int

    @property
    def pairs(self) -> tuple[slice, slice]:
        """The places of the one and of the other rows of the pairs."""
        middle = len(self.rows) - self.lines
        return slice(middle - self.lines, middle), slice(middle, len(self.rows))

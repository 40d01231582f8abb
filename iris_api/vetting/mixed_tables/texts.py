"""Columns of texts, and what the parts of an estimator know of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from iris_api.errors import one_line
from iris_api.schema import MAXIMUM_NAME
from iris_api.vetting.mixed_tables.encoded_cells import accepts_unknown, is_missing
from iris_api.vetting.mlmodel import SIGN_AGAIN, VettingError


@dataclass
class Text:
    """A column of texts, and what the parts that it reaches know of it.

    Attributes:
        name: The column's name.
        known: The texts that an encoder knows, in its order.
        accepted: The texts known to every encoder that rejects others; None if none rejects any.
        fills: The texts that imputers fill in.
        nullable: Whether a missing text is accepted.
        missing: What stands for a missing text, NaN or None.
    """

    name: str
    known: list[str] = field(default_factory=list)
    accepted: set[str] | None = None
    fills: list[str] = field(default_factory=list)
    nullable: bool = True
    missing: float | None = math.nan

    @property
    def categories(self) -> list[str]:
        """The texts of requests that an encoder knows."""
        known = dict.fromkeys(self.known)
        return [text for text in known if self.accepted is None or text in self.accepted]

    @property
    def codes(self) -> dict[str, float]:
        """The code of each text; those that no request has come last."""
        texts = dict.fromkeys([*self.categories, *self.known, *self.fills])
        return {text: float(code) for code, text in enumerate(texts)}


@dataclass(frozen=True)
class Flow:
    """The cells of one text column, as a part is given them."""

    text: Text
    may_miss: bool = True


Flows = Mapping[int, Flow]
"""The text columns among those that a part is given or returns, by their places."""


def check_texts(text: Text) -> None:
    """Reject texts that cannot be categories of requests, or of which none is accepted."""
    for each in text.codes:
        if not (each.isprintable() and len(each) <= MAXIMUM_NAME):
            raise VettingError(
                f"the column {text.name} has the category {one_line(each, 40)!r}, which is not a "
                f"text of up to {MAXIMUM_NAME} printable characters; rename it"
            )
    if text.accepted == set():
        raise VettingError(
            f"no text is known to each encoder of the column {text.name}; "
            'train them with handle_unknown="ignore"'
        )


def note_categories(flow: Flow, encoder: Any, categories: list[Any]) -> None:
    """Note in a text column what an encoder of it knows and accepts."""
    text, known = flow.text, [each for each in categories if not is_missing(each)]
    if not all(isinstance(each, str) for each in known):
        raise VettingError(
            f"the column {text.name} is a text in the signature, and its "
            f"{type(encoder).__name__} knows other values; {SIGN_AGAIN}"
        )
    missing = categories[len(known) :]  # scikit-learn sorts them to the end
    if missing == [None]:
        text.missing = None
    text.known += known
    if not accepts_unknown(encoder):
        text.accepted = {*known} if text.accepted is None else text.accepted & {*known}
        text.nullable &= bool(missing) or not flow.may_miss

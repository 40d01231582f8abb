"""What an entry of the store records about its model."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Proof(BaseModel):
    """What a compiled model was compared with scikit-learn on, and how closely both agreed.

    Attributes:
        precision: dtype of the rows that the compiled model takes.
        rows: number of rows compared.
        ties: number of rows with another label, where scikit-learn's own scores of the two labels
            differ by no more than float32 can tell.
        largest_difference: largest absolute difference of a probability; 0.0 for a model without
            probabilities, where the labels alone are compared.
        versions: version of each package that had a part in it.
    """

    model_config = ConfigDict(frozen=True)

    precision: Literal["float64", "float32"]
    rows: int
    ties: int
    largest_difference: float
    versions: dict[str, str]

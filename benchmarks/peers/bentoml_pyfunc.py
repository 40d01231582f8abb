"""BentoML with the MLflow pyfunc, as in its tutorials."""

from typing import Any

import bentoml
import numpy as np
import pandas as pd
from numpy.typing import NDArray


@bentoml.service
class PyFunc:
    """Answers with the latest model of the store."""

    def __init__(self) -> None:
        self.model = bentoml.mlflow.load_model("irismodel:latest")
        self._names = self.model.metadata.get_input_schema().input_names()

    @bentoml.api
    def predict(self, input_data: pd.DataFrame) -> NDArray[Any]:
        """Predict the label of each row, given as an object."""
        return np.asarray(self.model.predict(input_data))

    @bentoml.api
    def predict_array(self, input_data: NDArray[np.float64]) -> NDArray[Any]:
        """Predict the label of each row, given as an array; the signature asks for names."""
        return np.asarray(self.model.predict(pd.DataFrame(input_data, columns=self._names)))

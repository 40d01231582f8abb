"""FastAPI with scikit-learn, and the same contract in pydantic."""

import os
import warnings
from pathlib import Path
from typing import Annotated

import numpy as np
import skops.io
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

Centimetres = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]


class Flower(BaseModel):
    """One flower, in centimetres."""

    model_config = ConfigDict(extra="forbid")

    sepal_length: Centimetres
    sepal_width: Centimetres
    petal_length: Centimetres
    petal_width: Centimetres


class Instances(BaseModel):
    """Many flowers, the columns in the order of `Flower`."""

    model_config = ConfigDict(extra="forbid")

    instances: Annotated[
        list[tuple[Centimetres, Centimetres, Centimetres, Centimetres]], Field(min_length=1)
    ]


class Predictions(BaseModel):
    """The label of each flower."""

    predictions: list[str | int]


# Trained on a data frame and asked with arrays, which are faster.
warnings.filterwarnings("ignore", message="X does not have valid feature names")
file = next(Path(os.environ["BENCH_ENTRY"], "mlflow_model").glob("model.*"))
model = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
app = FastAPI()


@app.post("/predict")
async def predict(body: Flower | Instances) -> Predictions:
    """Predict on the event loop, because a change to a thread costs more than it gains."""
    rows = body.instances if isinstance(body, Instances) else [tuple(body.model_dump().values())]
    return Predictions(predictions=model.predict(np.array(rows)).tolist())

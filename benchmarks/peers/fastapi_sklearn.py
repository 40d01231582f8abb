"""FastAPI with scikit-learn, and the same contract in pydantic."""

import os
import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import skops.io
import yaml
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, create_model

TYPES: dict[str, Any] = {"number": float, "integer": int, "boolean": bool, "string": str}

entry = Path(os.environ["BENCH_ENTRY"])
metadata = yaml.safe_load((entry / "model.yaml").read_bytes())["metadata"]
columns = metadata["schema"]["columns"]
names = [column["plain_name"] for column in columns]
is_mixed = any(column["type"] == "string" for column in columns)


def cell(column: dict[str, Any]) -> Any:
    """Return the type of a cell of a column."""
    limits: dict[str, Any] = {"strict": True}
    if column["type"] == "number":
        limits |= {"ge": column.get("minimum"), "le": column.get("maximum"), "allow_inf_nan": False}
    kind: Any = Annotated[TYPES[column["type"]], Field(**limits)]
    return kind if column["required"] else kind | None


cells: Any = tuple(cell(column) for column in columns)
FORBID = ConfigDict(extra="forbid")
fields: dict[str, Any] = {name: (kind, ...) for name, kind in zip(names, cells, strict=True)}
Row: Any = create_model("Row", __config__=FORBID, **fields)
EitherRow: Any = Annotated[tuple[cells] | Row, Field(union_mode="left_to_right")]
Instances: Any = create_model(
    "Instances", __config__=FORBID, instances=(Annotated[list[EitherRow], Field(min_length=1)], ...)
)


class Predictions(BaseModel):
    """The label of each row."""

    predictions: list[str | int]


# Trained on a data frame and asked with arrays, which are faster.
warnings.filterwarnings("ignore", message="X does not have valid feature names")
file = next((entry / "mlflow_model").glob("model.*"))
model = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
app = FastAPI()


def to_table(rows: list[Any]) -> Any:
    """Return the rows as the model takes them: a data frame where some columns are texts."""
    found = [row if isinstance(row, tuple) else tuple(vars(row).values()) for row in rows]
    if not is_mixed:
        return np.array(found)
    import pandas as pd  # noqa: PLC0415 (0.5 s)

    return pd.DataFrame(found, columns=metadata["features"])


@app.post("/predict")
async def predict(body: Row | Instances) -> Predictions:
    """Predict on the event loop, because a change to a thread costs more than it gains."""
    rows = body.instances if isinstance(body, Instances) else [body]
    return Predictions(predictions=model.predict(to_table(rows)).tolist())

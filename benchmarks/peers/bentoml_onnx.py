"""BentoML as it comes, with the same compiled model."""

import os
from pathlib import Path

import bentoml
import numpy as np
import onnxruntime as ort
import yaml

entry = Path(os.environ["BENCH_ENTRY"])


@bentoml.service(workers=1)
class Onnx:
    """Answers with the compiled model of an entry of the store."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(
            (entry / "model.onnx").read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        metadata = yaml.safe_load((entry / "model.yaml").read_bytes())["metadata"]
        self._classes = np.array(metadata["classes"], dtype=object)

    @bentoml.api
    async def predict(self, instances: list[list[float]]) -> dict[str, list[str]]:
        """Predict the label of each row."""
        rows = np.array(instances, dtype=np.float64)
        (labels,) = self._session.run(["label"], {"rows": rows})
        return {"predictions": self._classes[labels].tolist()}

"""The limit: HTTP, JSON and onnxruntime, without validation, limits or error messages."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import orjson
import yaml

entry = Path(os.environ["BENCH_ENTRY"])
metadata = yaml.safe_load((entry / "model.yaml").read_bytes())["metadata"]
classes = np.array(metadata["classes"], dtype=object)
options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(
    (entry / "model.onnx").read_bytes(), options, providers=["CPUExecutionProvider"]
)
dtype = np.float32 if session.get_inputs()[0].type == "tensor(float)" else np.float64


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer a body with the labels of its rows, whatever the path."""
    if scope["type"] != "http":
        return
    parts = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    rows = np.array(orjson.loads(b"".join(parts))["instances"], dtype=dtype)
    (labels,) = session.run(["label"], {"rows": rows})
    answer = orjson.dumps({"predictions": classes[labels].tolist()})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(answer)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})

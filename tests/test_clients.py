"""The clients of other servers get the labels of every iris; some have their own environment."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_iris
from support import servers
from support.environments import environment

from iris_api.schema import FEATURES

pytestmark = [pytest.mark.compat, pytest.mark.timeout(900)]

IRISES = load_iris().data

TRITON = """
import asyncio, json, sys
import numpy as np
import tritonclient.http as http
import tritonclient.http.aio as aio

address, rows = sys.argv[1], np.array(json.load(sys.stdin))
found = []

def of(answer):
    return [getattr(label, "decode", label.__str__)() for label in answer.as_numpy("predict")]

client = http.InferenceServerClient(address)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("IrisModel")
assert not client.is_model_ready("IrisModel", "7") and not client.is_model_ready("Other")
assert client.get_model_metadata("IrisModel")["versions"] == ["1"]
for binary in (True, False):
    for packing in (None, "gzip"):
        tensor = http.InferInput("rows", list(rows.shape), "FP64")
        tensor.set_data_from_numpy(rows, binary_data=binary)
        outputs = [http.InferRequestedOutput("predict", binary_data=binary)]
        for wanted in (None, outputs):
            answer = client.infer(
                "IrisModel", [tensor], outputs=wanted, request_id="a7",
                request_compression_algorithm=packing, response_compression_algorithm=packing,
            )
            assert answer.get_response()["id"] == "a7"
            found.append(of(answer))

async def infer():
    client = aio.InferenceServerClient(address)
    tensor = http.InferInput("rows", list(rows.shape), "FP64")
    tensor.set_data_from_numpy(rows)
    found.append(of(await client.infer("IrisModel", [tensor])))
    await client.close()

asyncio.run(infer())
print(json.dumps(found))
"""

KSERVE = """
import asyncio, json, sys
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

address, rows = sys.argv[1], json.load(sys.stdin)
found = []

async def infer():
    client = InferenceRESTClient(RESTConfig(protocol="v1"))
    answer = await client.infer(f"http://{address}", {"instances": rows}, model_name="IrisModel")
    found.append(answer["predictions"])
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_ready(f"http://{address}")
    assert await client.is_model_ready(f"http://{address}", "IrisModel")
    tensor = InferInput("rows", [len(rows), len(rows[0])], "FP64", rows)
    request = InferRequest("IrisModel", [tensor])
    answer = await client.infer(f"http://{address}", request, model_name="IrisModel")
    found.append(answer.outputs[0].data)

asyncio.run(infer())
print(json.dumps(found))
"""

MLFLOW = """
import json, sys
import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

address, rows = sys.argv[1], json.load(sys.stdin)
host, port = address.split(":")
client = ScoringServerClient(host, int(port))
client.ping()
assert client.get_version()
frame = pd.DataFrame(rows, columns=sys.argv[2:])
answers = [client.invoke(data) for data in (frame, frame[frame.columns[::-1]], frame.to_numpy())]
print(json.dumps([answer.get_predictions()[0].tolist() for answer in answers]))
"""


def _run(python: Path | str, script: str, server: servers.Server, *options: str) -> Any:
    address = server.url.removeprefix("http://")
    done = subprocess.run(
        [python, "-W", "ignore", "-c", script, address, *options],
        input=json.dumps(IRISES.tolist()),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("requirements", "script", "options"),
    [
        (("tritonclient[http]==2.73.0",), TRITON, ()),
        (("kserve==0.21.0",), KSERVE, ()),
        ((), MLFLOW, FEATURES),
    ],
    ids=["triton", "kserve", "mlflow"],
)
def test_client(
    service: servers.Server,
    estimator: Any,
    requirements: tuple[str, ...],
    script: str,
    options: tuple[str, ...],
) -> None:
    """Each way of a client to ask gets scikit-learn's labels."""
    expected = estimator.predict(IRISES).tolist()

    python = environment(*requirements) if requirements else sys.executable
    found = _run(python, script, service, *options)

    assert len(found) > 1
    assert found == [expected] * len(found)

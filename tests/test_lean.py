"""The modules and threads of a worker, its work for each request, and the start."""

import ast
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from support import servers
from support.scrape import growth, scrape

from iris_api.bentoml_server.compat import NAMES
from iris_api.model.engines import open_session
from iris_api.schema import FEATURES

thorough = pytest.mark.thorough

ROW = {"instances": [[5.1, 3.5, 1.4, 0.2]]}

DUMP_MODULES = """
import os, pathlib, signal, sys
def dump(*_):
    names = sorted({name.partition(".")[0] for name in sys.modules})
    path = pathlib.Path(__file__).with_name(f"{os.getpid()}.modules")
    path.with_suffix(".part").write_text("\\n".join(names))
    path.with_suffix(".part").rename(path)
signal.signal(signal.SIGUSR1, dump)
"""


def test_modules_of_the_processes(serve: servers.Serve, tmp_path: Path) -> None:
    """A worker that serves ONNX loads no heavy library, and its parent not even numpy."""
    (tmp_path / "sitecustomize.py").write_text(DUMP_MODULES)
    with serve(PYTHONPATH=str(tmp_path)) as server:
        for call in ("predict", "predict_proba"):
            assert httpx.post(f"{server.url}/{call}", json=ROW).status_code == 200
        (worker,) = servers.workers(server)
        paths = [tmp_path / f"{process.pid}.modules" for process in (worker, server.process)]
        worker.send_signal(signal.SIGUSR1)
        server.process.send_signal(signal.SIGUSR1)
        servers.wait_for(lambda: all(path.exists() for path in paths))

    modules, of_parent = (set(path.read_text().split()) for path in paths)
    assert not modules & {"mlflow", "pandas", "scipy", "sklearn", "skl2onnx", "skops"}
    assert modules >= {"uvloop", "httptools", "onnxruntime"}
    assert not of_parent & {"numpy", "onnxruntime", "sklearn"}
    assert "/predict" not in server.log.read_text()  # there is no access log by default


def test_one_thread_for_inference(home: Path) -> None:
    """Inference starts no threads, which would compete with the other workers."""
    (path,) = home.glob("models/irismodel/*/model.onnx")
    before = psutil.Process().num_threads()
    session = open_session(path.read_bytes())
    session.run(None, {"rows": np.ones((1000, 4))})
    after = psutil.Process().num_threads()

    assert after == before
    assert session.get_session_options().intra_op_num_threads == 1
    assert session.get_session_options().inter_op_num_threads == 1


def test_health_beside_a_long_batch(client: httpx.Client, service: servers.Server) -> None:
    """While a worker computes a long batch, it answers other requests."""
    with ThreadPoolExecutor(1) as pool:
        batch = pool.submit(_predict_long, service)
        answers = 0
        while not batch.done():
            assert client.get("/health").status_code == 200
            answers += 1

    assert batch.result().status_code == 200
    assert len(batch.result().json()["predictions"]) == 100_000
    assert answers > 5  # one or two where the batch is computed on the event loop


def test_long_batch_is_in_progress(service: servers.Server) -> None:
    """A long batch is in the gauge of requests in progress while it is computed, and not after."""
    gauge = "bentoml_service_request_in_progress"
    with ThreadPoolExecutor(1) as pool:
        batch = pool.submit(_predict_long, service)
        most = 0.0
        while not batch.done():
            most = most or scrape(service.url).value(gauge, endpoint="/predict")
    after = scrape(service.url)

    assert batch.result().status_code == 200
    assert most == 1
    assert after.value(gauge, endpoint="/predict") == 0


def _predict_long(service: servers.Server) -> httpx.Response:
    rows = [dict.fromkeys(FEATURES, 1)] * 100_000
    return httpx.post(f"{service.url}/predict", json={"instances": rows}, timeout=60)


def test_requests_are_counted_and_timed(client: httpx.Client, service: servers.Server) -> None:
    """BentoML's metrics have each request by its path and status, and the time of the last one."""
    name = "bentoml_service_request"
    start = time.time()
    with growth(service.url) as grown:
        for row in (5.1, 5.1, 5.1, "5.1"):
            client.post("/predict", json={"instances": [[row, 3.5, 1.4, 0.2]]})
    client.get("/livez")
    probed = scrape(service.url)

    for status, count in (("200", 3), ("400", 1)):
        of = {"endpoint": "/predict", "http_response_code": status}
        bucket = f"{name}_duration_seconds_bucket"
        assert grown(f"{name}_total", **of) == count
        assert grown(f"{name}_duration_seconds_count", **of) == count
        assert grown(bucket, le="+Inf", **of) == count
        assert grown(bucket, le="0.005", **of) <= grown(bucket, le="0.01", **of)
        assert 0 < grown(f"{name}_duration_seconds_sum", **of) < count
    last = "bentoml_service_last_request_timestamp_seconds"
    assert start < grown.after.value(last) < time.time()
    assert probed.value(last) == grown.after.value(last)
    assert probed.value(f"{name}_total", endpoint="/livez") > 0


def test_an_answer_comes_at_once(service: servers.Server) -> None:
    """The head and the body of an answer are one packet, also on a kept connection."""
    with servers.connect(service) as connection:
        received = []
        for _ in range(50):
            connection.sendall(servers.post(b'{"instances":[[5.1,3.5,1.4,0.2]]}'))
            received.append(connection.recv(65536))

    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in received)
    assert all(answer.endswith(b'\r\n\r\n{"predictions":["setosa"]}') for answer in received)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("IRIS_WORKERS", "many", "Input should be a valid integer"),
        pytest.param("IRIS_WORKERS", "9" * 11, "less than or equal to 1024", marks=thorough),
        pytest.param("IRIS_PORT", "abc", "valid integer", marks=thorough),
    ],
)
def test_wrong_setting(plain_env: dict[str, str], variable: str, value: str, said: str) -> None:
    """An invalid setting ends the service with one line that names it."""
    done = servers.run(
        *("-m", "bentoml", "serve", "service:IrisClassifier"),
        env=plain_env | {variable: value},
        timeout=30,
    )

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: [serve] `serve` failed: {variable}: ")
    assert said in line
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("module", "name", "said"),
    [
        (
            "uvicorn.protocols.http.httptools_impl",
            "HttpToolsProtocol._start_asgi_task",
            f"uvicorn {version('uvicorn')} has no ",
        ),
        pytest.param(
            *("circus.watcher", "Watcher._stop", f"kantoku {version('kantoku')} has no "),
            marks=thorough,
        ),
    ],
)
def test_missing_name(
    plain_env: dict[str, str], tmp_path: Path, module: str, name: str, said: str
) -> None:
    """If a package lacks a name that the service relies on, the start ends with one line."""
    take_away = f"import {module} as module; del module.{name}"
    (tmp_path / "sitecustomize.py").write_text(take_away)
    env = plain_env | {"PYTHONPATH": str(tmp_path), "BENTOML_HOME": str(tmp_path / "home")}
    line = servers.fails_to_start(env=env).splitlines()[-1]

    assert line.endswith(f"{said}{module}.{name}; install the version in requirements.txt")


def test_checked_names() -> None:
    """The start checks each internal name that is imported, and no attribute that is not used."""
    internal = re.compile(r"(bentoml\._internal|_bentoml_sdk|uvicorn|circus)\b")
    imported, used = set(), set()
    for path in (servers.ROOT / "service.py", *(servers.ROOT / "iris_api").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and internal.match(node.module or ""):
                imported |= {f"{node.module}:{each.name}" for each in node.names}
            elif isinstance(node, ast.Attribute):
                used.add(node.attr)
                module, _, name = ast.unparse(node).rpartition(".")
                if internal.match(module) and name[0].isupper():
                    imported.add(f"{module}:{name}")
            elif isinstance(node, ast.ClassDef):
                used |= {each.name for each in node.body if hasattr(each, "name")}
    checked = {path: names.split() for owners in NAMES.values() for path, names in owners.items()}

    assert imported - checked.keys() == set()
    assert {name for names in checked.values() for name in names} - used == set()


@pytest.mark.parametrize("path", ["/predict/", "/predict_proba/", "/health/", "/model/", "/no/no"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_redirect(client: httpx.Client, method: str, path: str) -> None:
    """An unknown path, also with a trailing slash, gives 404 and no redirect to another host."""
    answer = client.request(method, path, json=ROW, headers={"Host": "elsewhere.example"})

    assert answer.status_code == 404
    assert answer.json() == {
        "error": "there is nothing at this path; GET /docs.json lists what there is"
    }


def test_wrong_model_uri(plain_env: dict[str, str], tmp_path: Path) -> None:
    """An invalid model URI ends the service before any worker starts, with one line."""
    env = plain_env | {"BENTOML_HOME": str(tmp_path), "IRIS_MODEL_URI": "IrisModel"}
    reason = "IRIS_MODEL_URI: 'IrisModel' is not a model URI; write models:/NAME/VERSION"

    assert reason in servers.fails_to_start(env=env)

"""The service opens no pickle, whichever engine computes and whatever lies in its store."""

import pickle
from pathlib import Path

import httpx
import pytest
import skops.io
import yaml
from support import servers, warm
from support.fake_registry import fake_registry

pytestmark = pytest.mark.thorough

ROWS = {"instances": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5]]}


def _as_pickle(files: dict[str, bytes]) -> dict[str, bytes]:
    """Make the same model as mlflow writes it with cloudpickle."""
    document = yaml.safe_load(files["MLmodel"])
    document["flavors"]["sklearn"].update(
        pickled_model="model.pkl", serialization_format="cloudpickle"
    )
    document["flavors"]["python_function"].update(model_path="model.pkl")
    kept = {name: content for name, content in files.items() if name != "model.skops"}
    return kept | {
        "MLmodel": yaml.safe_dump(document).encode(),
        "model.pkl": pickle.dumps(skops.io.loads(files["model.skops"], trusted=[])),
    }


@pytest.mark.parametrize(
    ("engine", "pickled"), [("onnx", False), ("sklearn", False), ("sklearn", True)]
)
def test_service_opens_no_pickle(
    tmp_path: Path,
    model_files: dict[str, bytes],
    plain_env: dict[str, str],
    engine: str,
    pickled: bool,
) -> None:
    """From its start through its answers, no process of the service unpickles anything.

    Shown for BentoML's own processes and the worker that loads the model, by a sitecustomize: no
    call of pickle's functions and classes (which cloudpickle, joblib, numpy and multiprocessing
    go through) and no look-up of a global by an unpickler, the compiled one included, which is an
    audit event that no code can avoid. Each process unpickles one canary, so that the watch is
    known to see. A model.pkl in the entry is read as bytes, to compare its digest and to find it
    there, and not opened as a pickle.
    """
    env = plain_env | {"BENTOML_HOME": str(tmp_path / "home")}
    options = ["--engine", engine, *(["--trust-pickle"] if pickled else [])]
    with fake_registry(_as_pickle(model_files) if pickled else model_files) as registry:
        importing = env | {"MLFLOW_TRACKING_URI": registry.url}
        done = warm.run(tmp_path, "models:/IrisModel/1", *options, env=importing)
    assert done.status == 0, done.stderr
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        Path(__file__).with_name("support").joinpath("watch_pickle.py").read_text()
    )
    log = tmp_path / "watched"
    env |= {"PYTHONPATH": str(tmp_path / "site"), "WATCH_PICKLE": str(log)}
    with servers.bentoml_service(tmp_path / "service.log", env=env) as server:
        answers = [
            httpx.post(f"{server.url}/{call}", json=ROWS) for call in ("predict", "predict_proba")
        ]
        told = httpx.get(f"{server.url}/model").json()
    seen = [line.split("\t") for line in log.read_text().splitlines()]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert told["engine"] == engine
    assert {tuple(line[:3]) for line in seen if line[1] != "open"} == {
        (process, *what)
        for process in ("worker", "other")
        for what in (("name", "posix.getcwd"), ("canary", "getcwd"))
    }
    readers = {line[3].split()[-1] for line in seen if line[1] == "open"}
    assert readers == ({"iris_api.store.entry.digest_files"} if pickled else set())

"""The service opens no pickle, with either engine and with a pickle in its store."""

from pathlib import Path

import httpx
import pytest
from support import servers, warm
from support.fake_registry import fake_registry

pytestmark = pytest.mark.thorough

ROWS = {"instances": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5]]}


@pytest.mark.parametrize(
    ("engine", "pickled"), [("onnx", False), ("sklearn", False), ("sklearn", True)]
)
def test_service_opens_no_pickle(
    tmp_path: Path, saved: Path, plain_env: dict[str, str], engine: str, pickled: bool
) -> None:
    """No process of the service unpickles anything, from its start through its answers.

    A sitecustomize records it in BentoML's own processes and in the worker that loads the model: no
    call of pickle's functions and classes, which cloudpickle, joblib, numpy and multiprocessing
    use, and no global that an unpickler looks up, which is an audit event of the compiled one too.
    Each process unpickles one canary, which shows that the recording works. A model.pkl in the
    entry is only read as bytes, to compare its digest.
    """
    env = plain_env | {"BENTOML_HOME": str(tmp_path / "home")}
    options = ["--engine", engine, *(["--trust-pickle"] if pickled else [])]
    folder = saved / ("cloudpickle" if pickled else "skops")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with fake_registry(files) as registry:
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
        card = httpx.get(f"{server.url}/model").json()
    seen = [line.split("\t") for line in log.read_text().splitlines()]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert card["engine"] == engine
    assert {tuple(line[:3]) for line in seen if line[1] != "open"} == {
        (process, *what)
        for process in ("worker", "other")
        for what in (("name", "posix.getcwd"), ("canary", "getcwd"))
    }
    readers = {line[3].split()[-1] for line in seen if line[1] == "open"}
    assert readers == ({"iris_api.store.digests.digest_files"} if pickled else set())

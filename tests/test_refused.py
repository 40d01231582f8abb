"""A version that is refused for what the registry says of it, or for what it is."""

import socket
import sqlite3
from collections.abc import Callable

import mlflow
import pytest
import sklearn
from conftest import Tracking
from sklearn.linear_model import LinearRegression, LogisticRegression
from support import registered
from support.inprocess import Fails

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def registry(tracking: Tracking) -> Callable[..., str]:
    """Give a function that registers one more version of a name, as old registries have them."""
    client = registered.use(tracking.url)

    def register(name: str, **columns: str) -> str:
        sound = client.get_model_version_download_uri("IrisModel", "1")
        columns = {"source": sound, "storage_location": sound, **columns}
        client.create_registered_model(name)
        client.create_model_version(name, "s3://bucket/model")
        with sqlite3.connect(tracking.folder / "mlflow.db", timeout=30) as database:
            for column, value in columns.items():
                database.execute(
                    f"UPDATE model_versions SET {column} = ? WHERE name = ?",  # noqa: S608
                    (value, name),
                )
        database.close()
        return f"models:/{name}/1"

    return register


def test_not_ready(fails: Fails, registry: Callable[..., str]) -> None:
    """A version whose registration did not finish."""
    uri = registry("Pending", status="PENDING_REGISTRATION")
    done = fails(uri)

    assert done.last == (
        "error: version 1 of Pending is PENDING_REGISTRATION, not READY; "
        "wait for its registration to finish, or register it again"
    )


AGAIN = "log the model again in a new experiment"
BUCKET = (
    "storage that its proxy does not serve, because the experiment was made without "
    f"--serve-artifacts; {AGAIN}"
)
FOLDER = f"a folder on some machine, which its proxy does not serve; {AGAIN}"
ELSEWHERE = f"another server, which gets no login of this one; {AGAIN}"
RUN = (
    "a path of a run, which this registry did not resolve; "
    "register the model again with mlflow.register_model"
)


@pytest.mark.parametrize(
    ("name", "location", "shown", "what"),
    [
        ("S3", "s3://bucket/model", "s3://bucket/model", BUCKET),
        ("Google", "gs://bucket/model", "gs://bucket/model", BUCKET),
        ("File", "file:///srv/model", "file:///srv/model", FOLDER),
        ("Folder", "/srv/model", "/srv/model", FOLDER),
        ("Http", "http://me:hidden@files.example/model", "http://files.example/model", ELSEWHERE),
        (
            "Https",
            "https://files.example/model?key=hidden",
            "https://files.example/model",
            ELSEWHERE,
        ),
        ("Runs", "runs:/abc/model", "runs:/abc/model", RUN),
    ],
)
def test_out_of_reach(
    fails: Fails,
    registry: Callable[..., str],
    name: str,
    location: str,
    shown: str,
    what: str,
) -> None:
    """A location that the proxy does not serve is refused with its own reason and mend."""
    uri = registry(name, source=location, storage_location=location)
    done = fails(uri)

    assert done.last == f"error: the registry says that the files are at {shown!r}, {what}"


def test_another_host(fails: Fails, registry: Callable[..., str]) -> None:
    """The other host of a location gets neither a request nor a login."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0)
        host = f"127.0.0.1:{other.getsockname()[1]}"
        location = f"mlflow-artifacts://{host}/1/model"
        uri = registry("Elsewhere", source=location, storage_location=location)
        done = fails(uri, MLFLOW_TRACKING_TOKEN="hidden-token")
        with pytest.raises(BlockingIOError):
            other.accept()

    assert done.last == (
        f"error: the version's files are at another host, {host!r}, which gets no login of this "
        f"server; set MLFLOW_TRACKING_URI to that server, or {AGAIN}"
    )


def test_empty_listing(fails: Fails, registry: Callable[..., str]) -> None:
    """The artifacts are gone, and MLflow lists nothing in their place."""
    location = "mlflow-artifacts:/1/gone"
    uri = registry("Gone", source=location, storage_location=location)
    done = fails(uri)

    assert done.last == (
        "error: the proxy lists no file for Gone version 1; was its run or its artifact folder "
        "deleted? log and register the model again"
    )


@pytest.mark.usefixtures("registry")
def test_not_scikit_learn(fails: Fails) -> None:
    """A model of another flavor."""
    with mlflow.start_run():
        mlflow.pyfunc.log_model(
            name="model", loader_module="json", registered_model_name="Other", pip_requirements=[]
        )
    done = fails("models:/Other/1")

    assert done.last == (
        "error: the model has no sklearn flavor (it has: python_function); "
        "log the model again with mlflow.sklearn.log_model"
    )


@pytest.mark.usefixtures("registry")
def test_regressor(fails: Fails) -> None:
    """A model that predicts numbers, not classes."""
    registered.log("Regressor", LinearRegression(), labels=registered.IRIS.target)
    done = fails("models:/Regressor/1")

    assert done.last == (
        "error: the model is a LinearRegression, not a classifier; register a classifier"
    )


@pytest.mark.usefixtures("registry")
def test_wrong_features(fails: Fails) -> None:
    """A model of other columns."""
    foreign = registered.ROWS.rename(columns={"sepal_length": "a", "sepal_width": "b"})
    registered.log("Flowers", LogisticRegression(max_iter=1000), foreign)
    done = fails("models:/Flowers/1")

    assert done.last == (
        "error: the signature's columns are not the four features (missing: sepal_length, "
        "sepal_width; foreign: a, b); rename the columns to sepal_length, sepal_width, "
        "petal_length, petal_width, fit again, and log the model with infer_signature of those rows"
    )


@pytest.mark.usefixtures("registry")
def test_another_scikit_learn(fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model as scikit-learn 1.4 leaves it: its version in MLmodel and in the estimator."""
    with monkeypatch.context() as patch:
        patch.setattr(sklearn, "__version__", "1.4.2")
        patch.setattr("sklearn.base.__version__", "1.4.2")
        registered.log("Old", LogisticRegression(max_iter=1000))
    done = fails("models:/Old/1")

    here = sklearn.__version__
    assert done.last == (
        f"error: the model was made by scikit-learn 1.4.2 and this is {here}, which may read it "
        f"wrongly; train and register it again with {here}"
    )

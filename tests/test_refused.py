"""Versions that are rejected, on a real server: for their state, their place or their model."""

import sqlite3
from collections.abc import Callable

import mlflow
import pytest
import sklearn
from conftest import Tracking
from sklearn.linear_model import LinearRegression
from support import registered
from support.warm import Fails

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

    assert done.error == (
        "version 1 of Pending is PENDING_REGISTRATION, not READY; "
        "wait for its registration to finish, or register it again"
    )


def test_out_of_reach(fails: Fails, registry: Callable[..., str]) -> None:
    """A location that the proxy does not serve; test_hostile.py has the other kinds of them."""
    location = "s3://bucket/model"
    done = fails(registry("S3", source=location, storage_location=location))

    assert done.error == (
        "the registry says that the files are at 's3://bucket/model', which its proxy does "
        "not serve, because the experiment was made without --serve-artifacts; "
        "log the model again in a new experiment"
    )


def test_empty_listing(fails: Fails, registry: Callable[..., str]) -> None:
    """The artifacts are gone, and MLflow lists nothing in their place."""
    location = "mlflow-artifacts:/1/gone"
    uri = registry("Gone", source=location, storage_location=location)
    done = fails(uri)

    assert done.error == (
        "the proxy lists no file for Gone version 1; was its run or its artifact folder "
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

    assert done.error == (
        "the model has no sklearn flavor (it has: python_function); "
        "log the model again with mlflow.sklearn.log_model"
    )


@pytest.mark.usefixtures("registry")
def test_regressor(fails: Fails) -> None:
    """A model that predicts numbers, not classes."""
    registered.log("Regressor", LinearRegression(), labels=registered.IRIS.target)
    done = fails("models:/Regressor/1")

    assert done.error == (
        "the model is a LinearRegression, not a classifier; register a classifier"
    )


@pytest.mark.usefixtures("registry")
def test_wrong_features(fails: Fails) -> None:
    """A model of other columns."""
    foreign = registered.ROWS.rename(columns={"sepal_length": "a", "sepal_width": "b"})
    registered.log("Flowers", rows=foreign)
    done = fails("models:/Flowers/1")

    assert done.error == (
        "the signature's columns are not the four features (missing: sepal_length, "
        "sepal_width; foreign: a, b); rename the columns to sepal_length, sepal_width, "
        "petal_length, petal_width, fit again, and log the model with infer_signature of those rows"
    )


@pytest.mark.usefixtures("registry")
def test_another_scikit_learn(fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model as scikit-learn 1.4 leaves it: its version in MLmodel and in the estimator."""
    with monkeypatch.context() as patch:
        patch.setattr(sklearn, "__version__", "1.4.2")
        patch.setattr("sklearn.base.__version__", "1.4.2")
        registered.log("Old")
    done = fails("models:/Old/1")

    here = sklearn.__version__
    assert done.error == (
        f"the model was made by scikit-learn 1.4.2 and this is {here}, which may read it "
        f"wrongly; train and register it again with {here}"
    )

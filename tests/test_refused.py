"""Versions that are rejected, on a real server, for their state or the place of their files."""

import sqlite3

import pytest
from conftest import Tracking
from support import registered
from support.warm import Fails

pytestmark = pytest.mark.thorough

BUCKET = {"source": "s3://bucket/model", "storage_location": "s3://bucket/model"}
GONE = {"source": "mlflow-artifacts:/1/gone", "storage_location": "mlflow-artifacts:/1/gone"}


@pytest.mark.parametrize(
    ("name", "columns", "line"),
    [
        (
            "Pending",
            {"status": "PENDING_REGISTRATION"},
            (
                "version 1 of Pending is PENDING_REGISTRATION, not READY; "
                "wait for its registration to finish, or register it again"
            ),
        ),
        (
            "S3",
            BUCKET,
            (
                "the registry says that the files are at 's3://bucket/model', which its proxy does "
                "not serve, because the experiment was made without --serve-artifacts; "
                "log the model again in a new experiment"
            ),
        ),
        (
            "Gone",
            GONE,
            (
                "the proxy lists no file for Gone version 1; was its run or its artifact folder "
                "deleted? log and register the model again"
            ),
        ),
    ],
)
def test_version(
    fails: Fails, tracking: Tracking, name: str, columns: dict[str, str], line: str
) -> None:
    """A version as old registries have them: not ready, in a bucket, or without its files."""
    client = registered.use(tracking.url)
    sound = client.get_model_version_download_uri("IrisModel", "1")
    client.create_registered_model(name)
    client.create_model_version(name, "s3://bucket/model")
    with sqlite3.connect(tracking.folder / "mlflow.db", timeout=30) as database:
        for column, value in ({"source": sound, "storage_location": sound} | columns).items():
            query = f"UPDATE model_versions SET {column} = ? WHERE name = ?"  # noqa: S608
            database.execute(query, (value, name))
    database.close()

    assert fails(f"models:/{name}/1").error == line

"""A version with another schema is activated only where that is asked for, also under load."""

import asyncio
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Tracking
from support import registered, servers, warm
from support.scrape import scrape

from benchmarks.traffic import Ask, asking
from iris_api import home
from iris_api.importing.pipeline import _answering

NAME = "Narrowed"
URI = f"models:/{NAME}@champion"
ROW = registered.ROWS.iloc[0].tolist()
LABELS = {"1": ["setosa"], "2": ["setosa"]}


def test_model_of_the_bento_is_a_baseline(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a new container whose store is empty, the model of its Bento is what the others follow."""
    bento = tmp_path / "bento"
    bento.mkdir()
    (store / "models").rename(bento / "models")
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr(home, "__file__", str(bento / "src/iris_api/home.py"))
    outside = _answering("IrisModel")
    (bento / "bento.yaml").touch()
    inside = _answering("IrisModel")

    assert outside is None
    assert inside
    assert inside.path.is_relative_to(bento)


@pytest.mark.thorough
def test_promotion_that_drops_a_column(
    tracking: Tracking, plain_env: dict[str, str], tmp_path: Path
) -> None:
    """The watch does not activate it and says so once; when allowed, no answer mixes two schemas.

    Without the active version there is no fallback to the former schema.
    """
    client = registered.use(tracking.url)
    for columns in (4, 3):
        rows = registered.ROWS.iloc[:, :columns]
        registered.log(NAME, rows=rows, serialization_format="skops")
    client.set_registered_model_alias(NAME, "champion", "1")
    store = {"BENTOML_HOME": str(tmp_path / "home"), "IRIS_MODEL_URI": URI}
    env = tracking.env | store
    tag = warm.run(tmp_path / "import", env=env).stdout.strip()
    watch = warm.start(tmp_path / "import", "--watch", "0.2", env=env)
    log = tmp_path / "import" / "stderr"
    more = {"IRIS_RELOAD_SECONDS": "0.2", "IRIS_WORKERS": "2"}

    async def promote(server: servers.Server) -> Any:
        def registry() -> Any:
            return httpx.get(f"{server.url}/model").json()["registry"]

        wide, narrow = (Ask(server.url, [ROW[:columns]], LABELS) for columns in (4, 3))
        async with asking(wide, clients=4) as former, asking(narrow, clients=4) as new:
            client.set_registered_model_alias(NAME, "champion", "2")
            await asyncio.to_thread(servers.wait_for, lambda: bool(registry()["rejected"]))
            checked = registry()["checked_at"]
            await asyncio.to_thread(servers.wait_for, lambda: registry()["checked_at"] > checked)
            rejected, page = registry()["rejected"], await asyncio.to_thread(scrape, server.url)
            unchanged = dict(new.statuses)
            done = await asyncio.to_thread(
                warm.run, tmp_path / "allowed", "--allow-schema-change", env=env
            )
            await asyncio.to_thread(servers.wait_for, lambda: new.statuses[200] > 1000)
        return former, new, rejected, page, unchanged, done

    with servers.bentoml_service(tmp_path / "log", env=plain_env | store | more) as server:
        former, new, rejected, page, unchanged, done = asyncio.run(promote(server))
        servers.wait_for(lambda: "again, which is active" in log.read_text())
        known = httpx.get(f"{server.url}/model").json()
        (model,) = (tmp_path / "home/models/narrowed").glob("v2-*/model.onnx")
        model.write_bytes(b"damaged")
        for worker in servers.workers(server):
            worker.kill()
        servers.wait_for(lambda: "is no fallback for" in server.log.read_text())
        health = httpx.get(f"{server.url}/health")
    os.kill(watch.pid or 0, 15)
    watch.join()

    reason = (
        f"requests to {tag} would change their meaning: the column petal_width is gone; "
        "when all clients are ready for that, import it with --allow-schema-change"
    )
    assert rejected == {"version": 2, "reason": reason, "incompatible": True}
    assert page.value("iris_registry_incompatible_version") == 2
    assert page.labels("iris_model_info", "model_version") == {"1"}
    assert [line for line in log.read_text().splitlines() if "not activated" in line] == [
        f"error: version 2 is not activated: {reason}; {tag} stays active"
    ]
    assert set(unchanged) == {400}
    assert done.status == 0, done.stderr
    assert f"requests to {tag} change their meaning: the column petal_width is gone" in done.stderr
    for traffic, version in ((former, "1"), (new, "2")):
        assert traffic.versions == {version}
        assert set(traffic.statuses) == {200, 400}
        assert traffic.wrong == traffic.unanswered == []
    assert (known["version"], known["registry"]["rejected"]) == (2, None)
    assert health.status_code == 503
    assert "model.onnx was changed after the import" in health.json()["reason"]

"""A real Prometheus that scrapes the service: its series, rules, alerts and dashboard."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import Tracking
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from support import dashboard, registered, servers, warm
from support.programs import program

from iris_api.schema import FEATURES
from iris_api.telemetry.counting import Bins
from iris_api.vetting.training_profile import FILE_NAME, TrainingProfile

pytestmark = pytest.mark.thorough

NAME = "Observed"
FLOWERS: NDArray[np.float64] = registered.IRIS.data
SOURCE = servers.ROOT / "prometheus"
WINDOW = "1m"
"""Replaces every window of the rules; Prometheus scrapes and evaluates each second."""

PSI = "job_model_version_feature:iris_feature_rows:psi_increase1h"
SHARES = "job_model_version_feature_bin:iris_feature_rows:ratio_increase1h"


@dataclass(frozen=True)
class Watched:
    """The service, with two workers, and the Prometheus that scrapes it.

    Attributes:
        promote: imports a version, which activates it.
    """

    service: httpx.Client
    prometheus: httpx.Client
    promote: Callable[[int], None]

    def get(self, path: str, **params: str) -> Any:
        """Ask Prometheus."""
        answer = self.prometheus.get(f"/api/v1/{path}", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return the labels and the value of each series."""
        found = self.get("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def value(self, expression: str) -> float:
        """Return the only value, 0 where there is none yet."""
        found = self.query(expression)
        assert len(found) <= 1
        return found[0][1] if found else 0

    def choices(self, variable: str) -> list[str]:
        """Return what Grafana offers for a variable of the dashboard."""
        (definition,) = (
            of["definition"]
            for of in dashboard.load()["templating"]["list"]
            if of["name"] == variable
        )
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", definition)
        assert found
        selector, label = found.groups()
        match = {"match[]": selector.replace("$job", "iris-api")}
        values: list[str] = self.get(f"label/{label}/values", **match)
        return values

    def firing(self) -> set[tuple[str, str]]:
        """Return the name and the feature, if any, of each alert that fires."""
        return {
            (alert["labels"]["alertname"], alert["labels"].get("feature", ""))
            for alert in self.get("alerts")["alerts"]
            if alert["state"] == "firing"
        }

    def predicted(self) -> Counter[tuple[str, str]]:
        """Return the rows that were answered, by version and label."""
        found = self.query("sum by (model_version, label) (iris_predictions_total)")
        return Counter({(of["model_version"], of["label"]): int(rows) for of, rows in found})

    def send(self, rows: NDArray[np.float64], times: int = 1) -> Counter[tuple[str, str]]:
        """Ask for rows, some times over, and count the answers as `predicted` does."""
        answered: Counter[tuple[str, str]] = Counter()
        for _ in range(times):
            answer = self.service.post("/predict", json={"instances": rows.tolist()})
            assert answer.status_code == 200, answer.text
            version = answer.headers["X-Model-Version"]
            answered.update((version, label) for label in answer.json()["predictions"])
        return answered

    def evaluated(self) -> None:
        """Wait until the drift has been evaluated on all that was counted until now."""
        total = sum(self.predicted().values())
        rows = "sum(iris_predictions_total)"
        servers.wait_for(lambda: self.value(rows) >= total)
        now = time.time() + 1  # the evaluation after the scrape
        servers.wait_for(lambda: self.value(f"min(timestamp({PSI}))") > now)


def _shortened(rules: str) -> str:
    """Replace all windows by the test's, and evaluate rules and alerts without delay."""
    rules = re.sub(r"    interval: .*\n", "", rules)
    return re.sub(r"for: \d+m", "for: 0s", re.sub(r"\[\d+[mhd]\]", f"[{WINDOW}]", rules))


def _register(url: str, folder: Path) -> None:
    """Register two versions with a training profile."""
    registered.use(url)
    profile = folder / FILE_NAME
    trained = TrainingProfile.of(registered.ROWS, registered.SPECIES)
    profile.write_text(trained.model_dump_json())
    for strength in (1.0, 0.01):
        estimator = LogisticRegression(C=strength, max_iter=1000)
        registered.log(NAME, estimator, extra_files=[str(profile)])


@pytest.fixture(scope="module")
def watched(
    tracking: Tracking, plain_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    """Run the service and a Prometheus with the project's own configuration, only faster."""
    command = program("prometheus", package="prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    _register(tracking.url, folder)

    def promote(version: int) -> None:
        done = warm.run(folder / "output", f"models:/{NAME}/{version}", env=tracking.env | home)
        assert done.status == 0, done.stderr

    home = {"BENTOML_HOME": str(folder / "home")}
    promote(1)
    env = plain_env | {
        **home,
        "IRIS_MODEL_URI": f"models:/{NAME}/1",
        "IRIS_RELOAD_SECONDS": "0.2",
        "IRIS_WORKERS": "2",
    }
    for name in ("recording.yml", "alerts.yml"):
        (folder / name).write_text(_shortened((SOURCE / name).read_text("utf-8")))
    url = f"http://127.0.0.1:{servers.free_port()}"
    with servers.bentoml_service(folder / "service.log", env=env) as service:
        config = (SOURCE / "prometheus.yml").read_text("utf-8").replace("15s", "1s")
        target = service.url.removeprefix("http://")
        (folder / "prometheus.yml").write_text(config.replace("localhost:8000", target))
        options = [
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={url.removeprefix('http://')}",
        ]
        with (
            servers.running(
                [command, *options],
                url=url,
                ready="/-/ready",
                log=folder / "prometheus.log",
                env=plain_env,
            ),
            httpx.Client(base_url=service.url, timeout=30) as client,
            httpx.Client(base_url=url, timeout=30) as prometheus,
        ):
            found = Watched(client, prometheus, promote)
            # From here on Prometheus has seen all counters at 0.
            servers.wait_for(lambda: found.value("sum(iris_workers)") == 2)
            yield found


def test_target_is_up(watched: Watched) -> None:
    """The service is scraped under the job name of the rules and the dashboard."""
    assert watched.value('up{job="iris-api"}') == 1


def test_drift(watched: Watched) -> None:
    """The alert of a feature fires when its values shift, and not before; numpy agrees."""
    profile = TrainingProfile.of(dict(zip(FEATURES, FLOWERS.T, strict=True)), ["any"] * 150)
    trained = {
        (feature, name): share
        for feature in FEATURES
        for bins in [Bins.of_feature(profile.features[feature])]
        for name, share in zip(bins.names, bins.expected, strict=True)
    }

    def indexes() -> dict[str, float]:
        """Compare the shares that Prometheus recorded with those of training."""
        found = {(of["feature"], of["bin"]): share for of, share in watched.query(SHARES)}
        assert found.keys() == trained.keys()
        return {
            feature: sum(
                (q - p) * np.log(q / p)
                for key in trained
                if key[0] == feature
                for p, q in [(max(trained[key], 0.001), max(found[key], 0.001))]
            )
            for feature in FEATURES
        }

    watched.send(FLOWERS, 10)
    watched.evaluated()
    quiet = {of["feature"]: value for of, value in watched.query(PSI)}
    assert not {name for name, _ in watched.firing()} & {"IrisApiFeatureDrift", "IrisApiLabelDrift"}

    watched.send(FLOWERS + np.array([0, 0, 1.5, 0]), 300)
    servers.wait_for(lambda: ("IrisApiFeatureDrift", "petal_length") in watched.firing())
    # The evaluation is under way each second: all numbers of one are read once.
    drifted: dict[str, float] = {}

    def is_recorded() -> bool:
        drifted.update(indexes())
        recorded = {of["feature"]: value for of, value in watched.query(PSI)}
        return recorded["petal_length"] > 0.2 and recorded == pytest.approx(drifted, rel=1e-6)

    servers.wait_for(is_recorded)

    assert max(quiet.values()) < 0.1
    assert drifted["petal_length"] > 0.2
    assert max(drifted[feature] for feature in FEATURES if feature != "petal_length") < 0.1
    assert {feature for name, feature in watched.firing() if name == "IrisApiFeatureDrift"} == {
        "petal_length"
    }


def test_dashboard(watched: Watched) -> None:
    """Each expression and variable of the dashboard has data."""
    rows = {"instances": FLOWERS.tolist()}
    for _ in range(2):  # the first samples of a counter have no rate
        for _ in range(20):
            assert watched.service.post("/predict", json={}).status_code == 400
        assert watched.service.post("/predict_proba", json=rows).status_code == 200
        watched.send(FLOWERS, 10)
        watched.evaluated()

    found = {
        expression: watched.query(f"max_over_time(({expression})[20s:1s])")
        for expression in dashboard.expressions(WINDOW)
    }

    assert watched.choices("job") == ["iris-api"]
    assert watched.choices("version") == ["1"]
    assert [
        expression
        for expression, series in found.items()
        if all(np.isnan(value) for _, value in series)
    ] == []


def test_names(watched: Watched) -> None:
    """The rules and the dashboard use only metrics of the service and of the rules."""
    texts = [(SOURCE / name).read_text("utf-8") for name in ("recording.yml", "alerts.yml")]
    used = {
        name
        for text in [*texts, dashboard.FILE.read_text("utf-8")]
        for name in re.findall(r"(?<![\w-])(?:(?:iris|bentoml|process|job)_|job:)[\w:]+", text)
    }

    known = {of["__name__"] for of, _ in watched.query('{job="iris-api"}')}
    known |= set(re.findall(r"- record: (\S+)", texts[0]))
    # Of a model URI with a stage; the one here names a version.
    assert used - known == {"iris_registry_stage_versions"}


def test_versions(watched: Watched) -> None:
    """The rows of each version are counted separately, by label."""
    before = watched.predicted()

    answered = watched.send(FLOWERS)
    watched.promote(2)
    reloads = 'sum(iris_model_reloads_total{result="success"})'
    servers.wait_for(lambda: watched.value(reloads) == 2)  # of each worker
    answered += watched.send(FLOWERS[:120], 2)

    assert {version for version, _ in answered} == {"1", "2"}
    assert len(answered) == 6
    servers.wait_for(lambda: watched.predicted() - before == answered)
    assert watched.value('iris_model_info{model_version="2"}') == 1
    assert watched.query('iris_model_info{model_version="1"}') == []

"""compose.yaml holds together, and all of it that can run without images runs together."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from support import composed, dashboard, documentation, servers
from support.composed import SERVICES, SPEC, Image, Stack, Translation
from support.programs import program

from iris_api import __version__
from iris_api.bentoml_server.supervision import SPARE_SECONDS
from iris_api.settings import Settings

GRAFANA = composed.FILE.parent / "grafana"
BODY = {"instances": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5]]}


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize("name", SERVICES)
def test_image_is_pinned(name: str) -> None:
    """Each image has a version, ours this one, and that of MLflow is the locked one."""
    image, _, version = SERVICES[name]["image"].partition(":")
    locked = (servers.ROOT / "requirements-dev.txt").read_text("utf-8")

    assert re.match(r"v?\d", version)
    if image.startswith("iris-"):
        assert version == __version__
    if image.endswith("/mlflow"):
        assert f"\nmlflow=={version.removeprefix('v')}\n" in locked


@pytest.mark.parametrize("name", SERVICES)
def test_sources_exist(name: str) -> None:
    """What is mounted or built from the project is there, and what else is used is declared."""
    for source, _ in composed.mounts(name):
        if source.startswith("."):
            assert (composed.FILE.parent / source).exists(), source
        else:
            assert source in SPEC["volumes"]
    assert set(SERVICES[name].get("secrets", [])) <= set(SPEC["secrets"])
    if build := SERVICES[name].get("build"):
        context = composed.FILE.parent / build["context"]
        copied = re.findall(
            r"^COPY (\S+)", (context / build["dockerfile"]).read_text(), re.MULTILINE
        )
        assert copied
        assert all((context / source).exists() for source in copied)


def test_health() -> None:
    """What others wait for, and what serves for long, is checked by its health."""
    awaited = {other for service in SERVICES.values() for other in service.get("depends_on", {})}

    for name in awaited:
        assert "healthcheck" in SERVICES[name], name
    for service in SERVICES.values():
        conditions = [of["condition"] for of in service.get("depends_on", {}).values()]
        assert set(conditions) <= {"service_healthy"}
        assert ("ports" in service) == ("healthcheck" in service)


def test_ours() -> None:
    """Both containers of the image know variables that there are, and it has time to drain."""
    ours = {name: SERVICES[name] for name in ("iris-api", "registry")}
    known = {str(of.alias) for of in Settings.model_fields.values()}

    for service in ours.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        names = service["environment"].keys()
        assert {name for name in names if name.startswith("IRIS_")} <= known
    assert composed.port("iris-api") == str(Settings().port)
    grace = composed.seconds(ours["iris-api"]["stop_grace_period"])
    assert grace > Settings().drain_seconds + SPARE_SECONDS


def test_bento_files() -> None:
    """The Bento without a model is the other one but for the model."""
    options = _yaml(servers.ROOT / "bentofile.yaml")
    del options["models"]

    assert _yaml(servers.ROOT / "deploy" / "bentofile.yaml") == options


def test_prometheus() -> None:
    """Prometheus differs from that of prometheus/ in the addresses of its rules and target only."""
    ours = _yaml(composed.FILE.parent / "prometheus.yml")
    theirs = _yaml(servers.ROOT / "prometheus" / "prometheus.yml")

    targets = ours["scrape_configs"][0]["static_configs"]
    assert targets == [{"targets": [f"iris-api:{composed.port('iris-api')}"]}]
    assert [path.removeprefix("rules/") for path in ours["rule_files"]] == theirs["rule_files"]
    for config in (ours, theirs):
        del config["rule_files"], config["scrape_configs"][0]["static_configs"]
    assert ours == theirs


def test_grafana() -> None:
    """Grafana finds the dashboard, and in it the source that it asks is this Prometheus."""
    (source,) = _yaml(GRAFANA / "datasource.yaml")["datasources"]
    (provider,) = _yaml(GRAFANA / "dashboards.yaml")["providers"]
    mounted = {target: source for source, target in composed.mounts("grafana")}
    variables = {of["name"]: of for of in dashboard.load()["templating"]["list"]}
    scraped = _yaml(composed.FILE.parent / "prometheus.yml")["global"]["scrape_interval"]

    assert source["url"] == f"http://prometheus:{composed.port('prometheus')}"
    # The dashboard asks the source that is chosen: of this type, and the default one at first.
    assert source["type"] == variables["datasource"]["query"]
    assert source["isDefault"]
    assert source["uid"] not in {dashboard.load()["uid"], ""}
    assert source["jsonData"]["timeInterval"] == scraped
    assert provider["type"] == "file"
    (provided,) = [name for name in mounted if name.startswith(provider["options"]["path"])]
    assert (composed.FILE.parent / mounted[provided]).resolve() == dashboard.FILE
    folders = {name.rsplit("/", 1)[0] for name in mounted if "/provisioning/" in name}
    assert folders == {f"/etc/grafana/provisioning/{of}" for of in ("datasources", "dashboards")}


def test_documentation() -> None:
    """The commands make the image, the password and the training that the file needs."""
    section = documentation.section("docs/deployment.md", "Compose")

    assert f" IMAGE={SERVICES['iris-api']['image']}\n" in section
    assert f"> {SPEC['secrets']['grafana_password']['file']}\n" in section
    assert "docker compose run --rm trainer\n" in section
    for name in ("mlflow", "prometheus", "grafana"):
        assert composed.port(name) in section
        assert SERVICES[name]["ports"][0].startswith("127.0.0.1:")


def test_runbook() -> None:
    """The commands of the runbooks name services that exist."""
    named = re.findall(
        r"`docker compose (?:logs --tail 50|exec|restart) ([a-z -]+?)(?: python|`)",
        documentation.PAGES["docs/runbooks.md"],
    )

    assert len(named) >= 4
    assert {name for names in named for name in names.split()} == {"iris-api", "registry"}
    assert SERVICES.keys() >= {"iris-api", "registry"}


@pytest.mark.parametrize(
    ("env", "status", "said"),
    [({}, 0, "SKIPPED"), ({"CI": "true"}, 1, "error:")],
    ids=["by hand", "in CI"],
)
def test_without_docker(env: dict[str, str], status: int, said: str, tmp_path: Path) -> None:
    """Where there is no docker compose, make check says so and goes on; CI does not go on."""
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(program(name, name))
    done = subprocess.run(
        [servers.ROOT / ".ci" / "compose-config"],
        env={"PATH": str(tmp_path), **env},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == status
    assert said in done.stdout + done.stderr
    assert "there is no docker compose" in done.stdout + done.stderr


@pytest.fixture
def bento(plain_env: dict[str, str], tmp_path: Path) -> Path:
    """Give the folder of a Bento without a model, which is what an image starts in."""
    home = tmp_path / "built"
    done = servers.run(
        *("-m", "bentoml", "build", "--bentofile", "deploy/bentofile.yaml"),
        env=plain_env | {"BENTOML_HOME": str(home)},
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (path.parent for path in home.glob("bentos/iris_api/*/bento.yaml"))
    return folder


@pytest.fixture
def stack(bento: Path, plain_env: dict[str, str], tmp_path: Path) -> Iterator[Stack]:
    """Give the stack, of which nothing runs yet, and end what runs of it."""
    translation = Translation(tmp_path / "stack")
    translation.folder.mkdir()
    images = {
        "ghcr.io/mlflow/mlflow": Image(tmp_path),
        "iris-trainer": Image(servers.ROOT),
        "iris-api": Image(
            bento, command=("bentoml", "serve", "--host=0.0.0.0", "--port=8000", ".")
        ),
        "prom/prometheus": Image(
            tmp_path,
            entrypoint=(
                program("prometheus", "prometheus"),
                "--web.listen-address=127.0.0.1:9090",
            ),
        ),
    }
    program("wget", "wget")  # for the health check of Prometheus
    stack = Stack(translation, {"IRIS_WORKERS": "1", **plain_env}, images)
    try:
        yield stack
    finally:
        for name in list(stack.running):
            stack.stop(name)


def _promote_again(registry: str) -> None:
    """Register the files of version 1 as version 2, and move it to the stage that is followed."""
    api = f"{registry}/api/2.0/mlflow/model-versions"
    first = httpx.get(f"{api}/get", params={"name": "IrisModel", "version": "1"}).json()
    of = {key: first["model_version"][key] for key in ("name", "source", "run_id")}
    of["model_id"] = of["source"].removeprefix("models:/")
    second = httpx.post(f"{api}/create", json=of)
    moved = httpx.post(
        f"{api}/transition-stage",
        json={"name": "IrisModel", "version": "2", "stage": "Production"},
    )
    assert (second.status_code, moved.status_code) == (200, 200), second.text + moved.text


@pytest.mark.thorough
@pytest.mark.timeout(600)  # it takes a minute and a half
def test_together(stack: Stack) -> None:
    """Registry, training, service, the watch and Prometheus find each other as the file says."""
    registry, service, prometheus = (
        stack.translation.url(name) for name in ("mlflow", "iris-api", "prometheus")
    )

    def known(path: str) -> Any:
        return httpx.get(f"{prometheus}/api/v1/{path}").json()["data"]

    for name in composed.order():
        if name == "grafana":  # of which there is no package
            continue
        process = stack.start(name)
        if "profiles" in SERVICES[name]:
            assert process.wait(120) == 0, stack.log(name).read_text("utf-8")
        elif "healthcheck" in SERVICES[name]:
            stack.wait_until_healthy(name)

    # The name that others ask it by is one that the tracking server accepts.
    for host, status in (("mlflow:5000", 200), ("mlflow.example:5000", 403)):
        experiment = httpx.get(
            f"{registry}/api/2.0/mlflow/experiments/get-by-name?experiment_name=iris",
            headers={"Host": host},
        )
        assert experiment.status_code == status, experiment.text

    predicted = httpx.post(f"{service}/predict", json=BODY)
    assert predicted.status_code == 200, predicted.text
    assert predicted.json() == {"predictions": ["setosa", "versicolor"]}
    assert predicted.headers["X-Model-Version"] == "1"

    # The watch brings what is promoted into the volume, and the service takes it up.
    _promote_again(registry)
    servers.wait_for(lambda: httpx.get(f"{service}/model").json()["version"] == 2, 120)

    servers.wait_for(lambda: [of["health"] for of in known("targets")["activeTargets"]] == ["up"])
    (target,) = known("targets")["activeTargets"]
    assert target["labels"] == {"instance": service.removeprefix("http://"), "job": "iris-api"}
    rules = [rule for group in known("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {
        rule.get("record") or rule["alert"]
        for file in ("recording.yml", "alerts.yml")
        for group in _yaml(servers.ROOT / "prometheus" / file)["groups"]
        for rule in group["rules"]
    }
    assert "err" not in {rule["health"] for rule in rules}

    assert [stack.stop(name) for name in ("registry", "iris-api")] == [0, 0]

"""compose.yaml is consistent, and everything in it that can run without images runs together."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from support import composed, dashboard, documentation, servers
from support.composed import SERVICES, SPEC, Image, Stack
from support.programs import program

from iris_api import __version__
from iris_api.bentoml_server.supervision import SPARE_SECONDS
from iris_api.settings import Settings

FOLDER = composed.FILE.parent
BODY = {"instances": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5]]}


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize("name", SERVICES)
def test_image_is_pinned(name: str) -> None:
    """Each image has a version: ours is this one, and that of MLflow the locked one."""
    image, _, version = SERVICES[name]["image"].partition(":")
    locked = (servers.ROOT / "requirements-dev.txt").read_text("utf-8")

    assert re.match(r"v?\d", version)
    if image.startswith("iris-"):
        assert version == __version__
    if image.endswith("/mlflow"):
        assert f"\nmlflow=={version.removeprefix('v')}\n" in locked


@pytest.mark.parametrize("name", SERVICES)
def test_sources_exist(name: str) -> None:
    """Mounted and copied files exist, and volumes and secrets are declared."""
    for source in composed.mounts(name).values():
        assert (FOLDER / source).exists() if source.startswith(".") else source in SPEC["volumes"]
    assert set(SERVICES[name].get("secrets", [])) <= set(SPEC["secrets"])
    if build := SERVICES[name].get("build"):
        context = FOLDER / build["context"]
        file = (context / build["dockerfile"]).read_text("utf-8")
        copied = re.findall(r"^COPY (\S+)", file, re.MULTILINE)
        assert copied
        assert all((context / source).exists() for source in copied)


def test_health() -> None:
    """A service with ports or with dependants has a health check, for which the others wait."""
    for service in SERVICES.values():
        for name, of in service.get("depends_on", {}).items():
            assert of["condition"] == "service_healthy"
            assert "healthcheck" in SERVICES[name], name
        assert ("ports" in service) == ("healthcheck" in service)


def test_ours() -> None:
    """Both containers of the image set known variables, and the service has time to drain."""
    ours = [SERVICES[name] for name in ("iris-api", "registry")]
    known = {str(of.alias) for of in Settings.model_fields.values()}

    for service in ours:
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert {name for name in service["environment"] if name.startswith("IRIS_")} <= known
    assert composed.port("iris-api") == str(Settings().port)
    grace = composed.seconds(ours[0]["stop_grace_period"])
    assert grace > Settings().drain_seconds + SPARE_SECONDS


def test_bento_files() -> None:
    """The two files of a Bento differ in the model alone."""
    options = _yaml(servers.ROOT / "bentofile.yaml")
    del options["models"]

    assert _yaml(servers.ROOT / "deploy" / "bentofile.yaml") == options


def test_prometheus() -> None:
    """Its configuration differs from that of prometheus/ in the paths and the target alone."""
    ours = _yaml(FOLDER / "prometheus.yml")
    theirs = _yaml(servers.ROOT / "prometheus" / "prometheus.yml")

    targets = ours["scrape_configs"][0]["static_configs"]
    assert targets == [{"targets": [f"iris-api:{composed.port('iris-api')}"]}]
    assert [path.removeprefix("rules/") for path in ours["rule_files"]] == theirs["rule_files"]
    for config in (ours, theirs):
        del config["rule_files"], config["scrape_configs"][0]["static_configs"]
    assert ours == theirs


def test_grafana() -> None:
    """Grafana finds the dashboard, and in it the source that it asks is this Prometheus."""
    (source,) = _yaml(FOLDER / "grafana" / "datasource.yaml")["datasources"]
    (provider,) = _yaml(FOLDER / "grafana" / "dashboards.yaml")["providers"]
    mounted = composed.mounts("grafana")
    variables = {of["name"]: of for of in dashboard.load()["templating"]["list"]}
    scraped = _yaml(FOLDER / "prometheus.yml")["global"]["scrape_interval"]

    assert source["url"] == f"http://prometheus:{composed.port('prometheus')}"
    # The dashboard asks the source that is chosen: of this type, and the default one at first.
    assert source["type"] == variables["datasource"]["query"]
    assert source["isDefault"]
    assert source["uid"] not in {dashboard.load()["uid"], ""}
    assert source["jsonData"]["timeInterval"] == scraped
    assert provider["type"] == "file"
    (provided,) = [name for name in mounted if name.startswith(provider["options"]["path"])]
    assert (FOLDER / mounted[provided]).resolve() == dashboard.FILE
    folders = {name.rsplit("/", 1)[0] for name in mounted if "/provisioning/" in name}
    assert folders == {f"/etc/grafana/provisioning/{of}" for of in ("datasources", "dashboards")}


def test_documentation() -> None:
    """The commands make the image, the password and the training that the file needs."""
    section = documentation.section("docs/deployment.md", "Compose")
    commands = documentation.shell_commands(section)

    assert f"IMAGE={SERVICES['iris-api']['image']}" in commands[0]
    assert commands[2].endswith(f"> {SPEC['secrets']['grafana_password']['file']}")
    assert "docker compose run --rm trainer" in commands
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
    assert {name for names in named for name in names.split()} <= SERVICES.keys()


@pytest.mark.parametrize(
    ("env", "status", "said"),
    [({}, 0, "SKIPPED"), ({"CI": "true"}, 1, "error:")],
    ids=["by hand", "in CI"],
)
def test_without_docker(env: dict[str, str], status: int, said: str, tmp_path: Path) -> None:
    """Where there is no docker compose, make check says so and continues; CI fails."""
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
def stack(plain_env: dict[str, str], tmp_path: Path) -> Iterator[Stack]:
    """Give the stack, none of which runs yet, with a Bento without a model; end what runs of it."""
    done = servers.run(
        *("-m", "bentoml", "build", "--bentofile", "deploy/bentofile.yaml"),
        env=plain_env | {"BENTOML_HOME": str(tmp_path / "built")},
    )
    assert done.returncode == 0, done.stderr
    (bento,) = (path.parent for path in tmp_path.glob("built/bentos/iris_api/*/bento.yaml"))
    served = ("bentoml", "serve", "--host=0.0.0.0", "--port=8000", ".")
    prometheus = program("prometheus", "prometheus"), "--web.listen-address=127.0.0.1:9090"
    program("wget", "wget")  # for the health check of Prometheus
    images = {
        "ghcr.io/mlflow/mlflow": Image(tmp_path),
        "iris-trainer": Image(servers.ROOT),
        "iris-api": Image(bento, command=served),
        "prom/prometheus": Image(tmp_path, entrypoint=prometheus),
    }
    folder = tmp_path / "stack"
    folder.mkdir()
    stack = Stack(folder, {"IRIS_WORKERS": "1", **plain_env}, images)
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
    """Registry, training, service, watch and Prometheus find each other as the file says."""
    registry, service, prometheus = (
        stack.url(name) for name in ("mlflow", "iris-api", "prometheus")
    )

    def known(path: str) -> Any:
        return httpx.get(f"{prometheus}/api/v1/{path}").json()["data"]

    for name in composed.order():
        if name == "grafana":  # which no package provides
            continue
        process = stack.start(name)
        if "profiles" in SERVICES[name]:
            assert process.wait(120) == 0, stack.log(name).read_text("utf-8")
        elif "healthcheck" in SERVICES[name]:
            stack.wait_until_healthy(name)

    # The tracking server accepts the name that the other containers use.
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

    # The watch imports a promoted version into the volume, and the service loads it.
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

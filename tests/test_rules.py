"""The rules hold in promtool, and rules, dashboard and README belong together."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import servers
from support.programs import program

from prometheus import picture

FOLDER = servers.ROOT / "prometheus"
README = (servers.ROOT / "README.md").read_text("utf-8")


def _rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / name).read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in _rules("alerts.yml")}


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("test", "rules", "rules_test.yml")],
    ids=["check", "test"],
)
def test_promtool(arguments: tuple[str, ...]) -> None:
    """Configuration and rules are valid, and each alert fires and stays quiet when it should."""
    command = program("promtool", package="prometheus")

    done = subprocess.run(
        [command, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_each_alert_is_tested() -> None:
    """Each alert has a case in which it fires, and one in which it does not."""
    cases = [
        case
        for test in yaml.safe_load((FOLDER / "rules_test.yml").read_text("utf-8"))["tests"]
        for case in test["alert_rule_test"]
    ]

    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == set(ALERTS)
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_alert_is_whole(name: str) -> None:
    """An alert says how bad it is, what is wrong, and where to read what to do."""
    alert = ALERTS[name]

    assert name.startswith("IrisApi")
    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"README.md#{name.lower()}"


def test_alerts_are_in_the_readme() -> None:
    """The README's table has the alerts with their severities, and a section for each."""
    rows = re.findall(r"^\| \[`(IrisApi\w+)`\]\(#(\w+)\) \| (\w+) \|", README, re.MULTILINE)
    sections = re.findall(r"^### (IrisApi\w+)$", README, re.MULTILINE)

    assert rows == [
        (name, name.lower(), alert["labels"]["severity"]) for name, alert in ALERTS.items()
    ]
    assert sections == list(ALERTS)


def test_metrics_are_in_the_readme() -> None:
    """What the rules and the dashboard ask for is explained."""
    texts = [path.read_text("utf-8") for path in (FOLDER / "recording.yml", picture.DASHBOARD)]
    texts.append("\n".join(alert["expr"] for alert in ALERTS.values()))
    used = re.findall(r"(?<![\w:-])(?:iris|bentoml|process)_\w+(?=[{\[ )])", "\n".join(texts))

    names = {re.sub("_(bucket|sum|count)$", "", name) for name in used}
    assert {name for name in names if f"`{name}" not in README} == set()


def test_dashboard_is_whole() -> None:
    """Each panel is described, has its unit and its thresholds, and asks the chosen source."""
    dashboard = picture.load()

    assert dashboard["uid"] == "iris-api"
    assert {of["name"] for of in dashboard["templating"]["list"]} == {
        *("datasource", "job", "version")
    }
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert sorted(set(numbers)) == sorted(numbers)
    for panel in picture.panels():
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["description"].endswith("."), panel["title"]
        assert defaults["unit"], panel["title"]
        assert defaults["thresholds"]["steps"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]


def test_picture_of_no_prometheus(service: servers.Server, tmp_path: Path) -> None:
    """An address that does not answer as Prometheus is one line, and no picture."""
    for url in (f"http://127.0.0.1:{servers.free_port()}", service.url, "nowhere"):
        target = tmp_path / "dashboard.png"
        done = servers.run("-m", "prometheus.picture", url, str(target), env={})

        assert done.returncode == 1
        assert done.stderr.startswith(f"error: is {url} a Prometheus? ")
        assert done.stderr.count("\n") == 1
        assert not target.exists()


def test_panels_do_not_overlap() -> None:
    """Each square of the dashboard's grid belongs to one panel."""
    squares = [
        (x, y)
        for panel in picture.load()["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert max(x for x, _ in squares) < picture.COLUMNS
    assert len(set(squares)) == len(squares)

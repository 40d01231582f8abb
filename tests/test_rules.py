"""The rules hold in promtool, and rules, dashboard and documentation belong together."""

import re
import subprocess
from typing import Any

import pytest
import yaml
from support import dashboard, documentation, servers
from support.programs import program

FOLDER = servers.ROOT / "prometheus"


def _rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / name).read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in _rules("alerts.yml")}


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        pytest.param(("test", "rules", "rules_test.yml"), marks=pytest.mark.thorough),
    ],
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
def test_alert_is_complete(name: str) -> None:
    """An alert has a severity, says what is wrong, and where to read what to do."""
    alert = ALERTS[name]

    assert name.startswith("IrisApi")
    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks.md#{name.lower()}"


def test_alerts_are_documented() -> None:
    """The table has the alerts with their severities, and each has a runbook."""
    rows = documentation.table(documentation.PAGES["docs/metrics.md"], "alert")
    runbooks = re.findall(r"^## (\w+)$", documentation.PAGES["docs/runbooks.md"], re.MULTILINE)

    assert [(link, severity) for link, severity, _ in rows] == [
        (f"[`{name}`](runbooks.md#{name.lower()})", alert["labels"]["severity"])
        for name, alert in ALERTS.items()
    ]
    assert runbooks == list(ALERTS)


def test_used_metrics_are_documented() -> None:
    """All metrics that the rules and the dashboard query are on the page of metrics."""
    texts = [path.read_text("utf-8") for path in (FOLDER / "recording.yml", dashboard.FILE)]
    texts.append("\n".join(alert["expr"] for alert in ALERTS.values()))
    used = re.findall(r"(?<![\w:-])(?:iris|bentoml|process)_\w+(?=[{\[ )])", "\n".join(texts))

    names = {re.sub("_(bucket|sum|count)$", "", name) for name in used}
    page = documentation.PAGES["docs/metrics.md"]
    assert {name for name in names if f"`{name}" not in page} == set()


def test_panels_of_the_runbooks() -> None:
    """Each panel that a runbook names is one of the dashboard."""
    named = re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", documentation.PAGES["docs/runbooks.md"])

    assert len(named) > 5
    assert set(named) <= {panel["title"] for panel in dashboard.panels()}


def test_dashboard_is_complete() -> None:
    """Each panel is described, has its unit and its thresholds, and asks the chosen source."""
    loaded = dashboard.load()

    assert loaded["uid"] == "iris-api"
    assert {of["name"] for of in loaded["templating"]["list"]} == {"datasource", "job", "version"}
    numbers = [panel["id"] for panel in loaded["panels"]]
    assert sorted(set(numbers)) == sorted(numbers)
    for panel in dashboard.panels():
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["description"].endswith("."), panel["title"]
        assert defaults["unit"], panel["title"]
        assert defaults["thresholds"]["steps"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]


def test_panels_do_not_overlap() -> None:
    """Each square of the dashboard's grid belongs to one panel."""
    squares = [
        (x, y)
        for panel in dashboard.load()["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert max(x for x, _ in squares) < dashboard.COLUMNS
    assert len(set(squares)) == len(squares)

"""The Grafana dashboard of prometheus/dashboard.json, as the tests read it."""

import json
from string import Template
from typing import Any

from support import servers

FILE = servers.ROOT / "prometheus" / "dashboard.json"
COLUMNS = 24
"""Columns of Grafana's grid."""


def load() -> dict[str, Any]:
    """Read the dashboard."""
    dashboard: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return dashboard


def panels() -> list[dict[str, Any]]:
    """Return the panels that show data, without the titles of the rows."""
    return [panel for panel in load()["panels"] if panel["type"] != "row"]


def expressions(rate_interval: str) -> list[str]:
    """Return every expression of the dashboard, with values in place of its variables."""
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    found += [annotation["expr"] for annotation in load()["annotations"]["list"]]
    values = {"job": "iris-api", "version": ".*", "__rate_interval": rate_interval, "__range": "1h"}
    return [Template(expression).substitute(values) for expression in found]

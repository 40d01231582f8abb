"""Print the rules of prometheus/ as PrometheusRules for the Prometheus operator.

    .venv/bin/python deploy/prometheus_rules.py | kubectl apply --filename -

There is one for each file: names of groups must be unique within a PrometheusRule.
"""

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent.parent / "prometheus"
NAMESPACE = "iris-api"
"""The namespace of overlays/production."""


def manifests() -> list[dict[str, Any]]:
    """Return a manifest for each file of rules."""
    return [
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {
                "name": f"iris-api-{name}",
                "namespace": NAMESPACE,
                "labels": {"app.kubernetes.io/name": "iris-api"},
            },
            "spec": yaml.safe_load((FOLDER / f"{name}.yml").read_text("utf-8")),
        }
        for name in ("recording", "alerts")
    ]


if __name__ == "__main__":
    print(yaml.safe_dump_all(manifests(), sort_keys=False), end="")

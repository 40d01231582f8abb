"""The page of `GET /metrics`, read as Prometheus reads it."""

from dataclasses import dataclass

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Page:
    """One scrape."""

    families: list[Metric]

    def value(self, name: str, **labels: str) -> float:
        """Add up the samples of that name that have these labels."""
        return sum(self.series(name, **labels).values())

    def series(self, name: str, **labels: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Return the samples of that name that have these labels, by their other labels."""
        return {
            tuple(sorted(sample.labels.items() - labels.items())): sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        }

    def labels(self, name: str, label: str) -> set[str]:
        """Return the values of a label."""
        return {dict(key)[label] for key in self.series(name)}


def scrape(url: str) -> Page:
    """Read the page on a new connection, which any worker may take."""
    answer = httpx.get(f"{url}/metrics", timeout=30)
    assert answer.status_code == 200
    return Page(list(text_string_to_metric_families(answer.text)))

"""The page of `GET /metrics`, parsed as Prometheus parses it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Page:
    """One scrape."""

    families: list[Metric]

    def value(self, name: str, **labels: str) -> float:
        """Add up the samples of a name that have these labels."""
        return sum(self.series(name, **labels).values())

    def series(self, name: str, **labels: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Return the samples of a name that have these labels, by their other labels."""
        return {
            tuple(sorted(sample.labels.items() - labels.items())): sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        }

    def labels(self, name: str, label: str) -> set[str]:
        """Return the values of a label."""
        return {dict(key)[label] for key in self.series(name)}


@dataclass
class Growth:
    """The difference between two scrapes."""

    before: Page
    after: Page

    def __call__(self, name: str, **labels: str) -> float:
        """Return the growth of what `Page.value` returns."""
        return self.after.value(name, **labels) - self.before.value(name, **labels)


def scrape(url: str) -> Page:
    """Read the page on a new connection, which any worker may accept."""
    answer = httpx.get(f"{url}/metrics", timeout=30)
    assert answer.status_code == 200
    return Page(list(text_string_to_metric_families(answer.text)))


@contextlib.contextmanager
def growth(url: str) -> Iterator[Growth]:
    """Scrape a service before and after the block."""
    before = scrape(url)
    found = Growth(before, before)
    yield found
    found.after = scrape(url)

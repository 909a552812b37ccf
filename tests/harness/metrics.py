"""What a process's ``/metrics`` says, read by Prometheus' own parsers."""

import urllib.request
from dataclasses import dataclass
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_plain

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
PLAIN = "text/plain"


@dataclass
class Metrics:
    text: str
    families: dict[str, Metric]

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels, and perhaps others."""
        return sum(
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def exemplars(self) -> dict[str, dict[str, str]]:
        """The labels of an exemplar, by sample."""
        return {
            sample.name: sample.exemplar.labels
            for family in self.families.values()
            for sample in family.samples
            if sample.exemplar
        }


def scrape(url: str, accept: str = PLAIN, **headers: str) -> Metrics:
    request = urllib.request.Request(f"{url}/metrics", headers={"accept": accept, **headers})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["content-type"].startswith(accept.partition(";")[0])
        text = answer.read().decode()
    read: Any = read_openmetrics if accept == OPENMETRICS else read_plain
    return Metrics(text, {family.name: family for family in read(text)})

"""What ``/metrics`` answers: the metrics of the catalogue that this process has, in Prometheus' text formats."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from fleet.metrics import catalogue
from fleet.process.turns import Steps, Turns

OPENMETRICS = "application/openmetrics-text"

END = b"# EOF\n"
"""The last line of OpenMetrics."""

FRESH = 0.2
"""Seconds for which a text is given again: many scrapes at once cost and hold no more than one."""

STEP = 200
"""Samples that are written in one step, which takes a few milliseconds."""

Values = Iterable[tuple[tuple[str, ...], float]]
"""Label values, in the catalogue's order, each with the value of their series."""


class Exposition:
    """The metrics of one process. Make each counter and histogram once, and add what reads a state at each scrape."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they would be a tenth of all lines
        self.registry = CollectorRegistry(auto_describe=False)
        self._turns = Turns()
        self._lock = asyncio.Lock()
        self._texts: dict[bool, tuple[float, bytes]] = {}

    def counter(self, name: str) -> Counter:
        metric = catalogue.named(name)
        return _Counter(metric.family, metric.help, metric.labels, registry=self.registry)

    def histogram(self, name: str) -> Histogram:
        metric = catalogue.named(name)
        return _Histogram(metric.name, metric.help, metric.labels, registry=self.registry, buckets=metric.buckets)

    def add(self, collector: Collector) -> None:
        """``collector`` is asked for its families at each scrape."""
        self.registry.register(collector)

    async def render(self, accept: str) -> tuple[bytes, str]:
        """The text and its media type: OpenMetrics, which has exemplars, where ``accept`` names it."""
        is_open = OPENMETRICS in accept
        async with self._lock:
            at, text = self._texts.get(is_open, (float("-inf"), b""))
            if time.monotonic() - at >= FRESH:
                text = await self._text(is_open)
                self._texts[is_open] = (time.monotonic(), text)
        return text, openmetrics.CONTENT_TYPE_LATEST if is_open else CONTENT_TYPE_PLAIN_0_0_4

    async def _text(self, is_open: bool) -> bytes:
        async with self._turns.turn() as turn:
            return await turn.run(self._written(is_open))

    def _written(self, is_open: bool) -> Steps[bytes]:
        write = openmetrics.generate_latest if is_open else generate_latest
        text, before = bytearray(), ""
        for family in self.registry.collect():
            yield
            for start in range(0, max(1, len(family.samples)), STEP):
                part = _Part(family.name, family.documentation, family.type)
                part.samples = family.samples[start : start + STEP]
                lines = write(part).removesuffix(END)
                text += lines.split(b"\n", 2)[2] if family.name == before else lines  # HELP and TYPE stand once
                before = family.name
                yield
        return bytes(text + END if is_open else text)


class _InParts(MetricWrapperBase):
    """Is collected in parts of a family, each a step: one of a thousand keys may have 50,000 samples."""

    def collect(self) -> Iterator[Family]:
        part: Family = self._get_metric()  # type: ignore[no-untyped-call]
        for suffix, labels, value, timestamp, exemplar, *_ in self._samples():
            part.add_sample(self._name + suffix, labels, value, timestamp, exemplar)
            if len(part.samples) == STEP:
                yield part
                part = self._get_metric()  # type: ignore[no-untyped-call]
        yield part


class _Counter(_InParts, Counter):
    pass


class _Histogram(_InParts, Histogram):
    pass


class _Part(Family):
    """A part of a family, as a registry that has nothing else."""

    def collect(self) -> Iterator[Family]:
        yield self


def gauge(name: str, values: Values) -> Family:
    metric = catalogue.named(name)
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def counter(name: str, values: Values) -> Family:
    metric = catalogue.named(name)
    family = CounterMetricFamily(metric.family, metric.help, labels=metric.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def plain(value: float) -> Values:
    """The value of a metric without labels."""
    return [((), value)]


def by_label(values: Mapping[str, float]) -> Values:
    """The values of a metric with one label."""
    return [((label,), value) for label, value in values.items()]

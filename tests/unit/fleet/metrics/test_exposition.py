"""The text of ``/metrics`` is what Prometheus' own parsers read, however large it is."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from fleet.metrics import exposition
from fleet.metrics.exposition import OPENMETRICS, Exposition, by_label, gauge
from tests.harness.waiting import SOON

parse_openmetrics: Any = openmetrics.text_string_to_metric_families
MODELS = 2 * exposition.STEP


class Many:
    """More series than one step writes."""

    def __init__(self) -> None:
        self.asked = 0

    def collect(self) -> Iterator[Family]:
        self.asked += 1
        yield gauge("chatfleet_model_workers", by_label({f"m{number}": number for number in range(MODELS + 1)}))
        yield gauge("chatfleet_model_active", by_label({}))


async def text(metrics: Exposition, accept: str = "") -> str:
    return (await metrics.render(accept))[0].decode()


async def test_a_large_family_is_written_in_steps_and_reads_as_one() -> None:
    metrics = Exposition()
    metrics.add(Many())
    for parser, accept in ((parse, ""), (parse_openmetrics, OPENMETRICS)):
        families = {family.name: family for family in parser(await text(metrics, accept))}
        samples = families["chatfleet_model_workers"].samples
        assert [sample.value for sample in samples] == list(range(MODELS + 1))
        assert families["chatfleet_model_active"].samples == []
    assert (await text(metrics)).count("# TYPE chatfleet_model_workers gauge") == 1


async def test_a_trace_can_be_found_from_a_bucket_where_openmetrics_are_wanted() -> None:
    metrics = Exposition()
    metrics.histogram("chatfleet_time_to_first_token_seconds").labels("m").observe(0.3, {"trace_id": "4bf92f"})
    shown, media_type = await metrics.render("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    (family,) = parse_openmetrics(shown.decode())
    assert [sample.exemplar.labels for sample in family.samples if sample.exemplar] == [{"trace_id": "4bf92f"}]
    assert media_type.startswith(OPENMETRICS)
    shown, media_type = await metrics.render("text/plain")
    assert b"4bf92f" not in shown
    assert media_type.startswith("text/plain; version=0.0.4")


async def test_many_scrapes_at_once_cost_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "FRESH", SOON)
    metrics, many = Exposition(), Many()
    metrics.add(many)
    answers = await asyncio.gather(*(metrics.render("") for _ in range(100)))
    assert many.asked == 1
    assert len({id(shown) for shown, _ in answers}) == 1


async def test_the_loop_goes_on_between_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Exposition()
    metrics.add(Many())
    monkeypatch.setattr("fleet.process.turns.TURN", 0.0)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await text(metrics)
    counting.cancel()
    assert turns > MODELS // exposition.STEP


async def test_a_later_scrape_sees_what_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Exposition()
    counted = metrics.counter("chatfleet_retries_total")
    await text(metrics)
    counted.labels("worker_lost").inc()
    later = time.monotonic() + exposition.FRESH
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert 'chatfleet_retries_total{code="worker_lost"} 1.0' in await text(metrics)


@pytest.mark.parametrize("count", [0, 1, exposition.STEP, 5 * exposition.STEP + 1])
async def test_what_is_counted_by_many_labels_is_collected_in_steps(count: int) -> None:
    metrics = Exposition()
    counted = metrics.counter("chatfleet_retries_total")
    measured = metrics.histogram("chatfleet_time_to_first_token_seconds")
    for number in range(count):
        counted.labels(f"c{number}").inc()
        measured.labels(f"m{number}").observe(0.3)
    assert max(len(family.samples) for family in metrics.registry.collect()) <= exposition.STEP
    for parser, accept in ((parse, ""), (parse_openmetrics, OPENMETRICS)):
        shown = await text(metrics, accept)
        families = {family.name: family for family in parser(shown)}
        assert len(families["chatfleet_retries"].samples) == count
        assert (
            len({sample.labels["model"] for sample in families["chatfleet_time_to_first_token_seconds"].samples})
            == count
        )
        assert shown.count("# TYPE chatfleet_time_to_first_token_seconds histogram") == 1

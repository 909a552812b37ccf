"""Metrics of a real fleet: all of the catalogue and no other, and what they say of its work."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from fleet.metrics import catalogue
from fleet.metrics.values import Process
from tests.cast import write_agents
from tests.harness.chat import ask, streaming
from tests.harness.fleet import Fleet
from tests.harness.metrics import OPENMETRICS, PLAIN, Metrics, scrape
from tests.harness.waiting import SOON, eventually, wait_until
from tests.integration.keyed import KeyedGateway
from tests.play import Play
from tests.schedule import Schedule

SECRET = "a prompt that belongs to nobody else"


@dataclass
class Watched:
    fleet: Fleet
    urls: dict[Process, str]

    def scrape(self, process: Process, accept: str = PLAIN) -> Metrics:
        return scrape(self.urls[process], accept)


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    fleet = Fleet(workers=0, start=False, watched=True)
    agents = fleet.folder / "agents.yaml"
    write_agents(agents)
    fleet.new_worker(WORKER_AGENTS=str(agents))
    with fleet:
        fleet.start()
        fleet.wait_until_ready(1)
        urls: dict[Process, str] = {
            "gateway": fleet.url,
            "host": "http://{}:{}".format(*fleet.health["host"]),
            "worker": "http://{}:{}".format(*fleet.health["worker-0"]),
        }
        yield Watched(fleet, urls)


@pytest.mark.parametrize("process", ["gateway", "host", "worker"])
@pytest.mark.parametrize("accept", [PLAIN, OPENMETRICS])
def test_a_process_has_every_metric_of_the_catalogue_and_no_other(
    watched: Watched, process: Process, accept: str
) -> None:
    wanted = {metric.family: metric for metric in catalogue.of(process)}
    families = watched.scrape(process, accept).families
    assert families.keys() == wanted.keys()
    for name, metric in wanted.items():
        assert families[name].type == metric.kind, name
        if metric not in catalogue.LIBRARY:
            assert families[name].documentation == metric.help
        for sample in families[name].samples:
            assert sample.labels.keys() - {"le"} == set(metric.labels), sample


async def test_a_request_is_seen_on_its_way_through_every_process(watched: Watched) -> None:
    before = {process: watched.scrape(process) for process in watched.urls}
    async with streaming(watched.fleet.address, Schedule(tokens=20, delay=0.25)) as stream:
        await stream.line()

        def runs() -> bool:
            gateway, worker = watched.scrape("gateway"), watched.scrape("worker")
            deltas = gateway.value("chatfleet_reply_deltas_total", model="test")
            return (
                gateway.value("chatfleet_num_requests_running", model="test") == 1
                and worker.value("chatfleet_runs_active", model="test") == 1
                and worker.value("chatfleet_model_calls_active", model="test") == 1
                and deltas > before["gateway"].value("chatfleet_reply_deltas_total", model="test")
            )

        await eventually(runs, SOON, "it is seen while it runs")
        await stream.rest()

    def grown(process: Process, name: str, **labels: str) -> float:
        return watched.scrape(process).value(name, **labels) - before[process].value(name, **labels)

    await eventually(
        lambda: grown("gateway", "chatfleet_requests_total", face="ndjson", model="test", code="ok") == 1,
        SOON,
        "it is counted",
    )
    for name in ("time_to_first_token", "time_per_output_token", "e2e_request_latency", "request_queue_time"):
        assert grown("gateway", f"chatfleet_{name}_seconds_count", model="test") == 1, name
    assert grown("gateway", "chatfleet_generation_tokens_total", model="test") == 20
    assert grown("gateway", "chatfleet_reply_deltas_total", model="test") == 20
    assert grown("gateway", "chatfleet_request_success_total", finished_reason="stop") == 1
    await eventually(lambda: grown("worker", "chatfleet_runs_total", model="test", code="ok") == 1, SOON, "the run")
    assert grown("worker", "chatfleet_model_calls_total", model="test", code="ok") == 1
    assert grown("worker", "chatfleet_run_time_to_first_token_seconds_count", model="test") == 1
    assert grown("worker", "chatfleet_lane_batches_total") > 1
    assert grown("host", "chatfleet_host_events_total", by="relay") > 1
    host = watched.scrape("host")
    assert host.value("chatfleet_host_members", by="relay") == 2


async def test_what_agents_do_is_counted_by_their_names(watched: Watched) -> None:
    play = Play(
        parts={
            "solo": [
                Schedule(tool_calls=[{"id": "c1", "name": "add", "arguments": '{"a": 1, "b": 2}'}]),
                Schedule(tokens=3),
            ]
        }
    )
    await ask(watched.fleet.address, play.message(), model="solo")

    def seen() -> bool:
        worker = watched.scrape("worker")
        return bool(
            worker.value("chatfleet_agent_turns_total", agent="solo", code="ok")
            and worker.value("chatfleet_tool_calls_total", tool="add", code="ok")
            and worker.value("chatfleet_runs_total", model="solo")
        )

    await eventually(seen, SOON, "the agent's turn and its tool's call")


async def test_no_label_holds_what_clients_say(watched: Watched) -> None:
    """Nor does the number of series grow with what they say."""
    async with httpx.AsyncClient(base_url=watched.fleet.url, timeout=60, trust_env=False) as client:

        async def send(model: str) -> None:
            body = {"model": model, "messages": [{"role": "user", "content": SECRET}]}
            await client.post("/v1/chat/completions", json=body, headers={"x-request-id": "mine-alone"})

        await send("unknown-0")
        lines = len(watched.scrape("gateway").text.splitlines())
        await asyncio.gather(*(send(f"unknown-{number} {SECRET}") for number in range(1, 50)))
        await send("test")
    unknown = {"face": "openai", "model": "other", "code": "unknown_model"}
    # A request is counted behind its answer, and scrapes that come close together share one text.
    await eventually(
        lambda: watched.scrape("gateway").value("chatfleet_requests_total", **unknown) == 50, SOON, "all are counted"
    )
    assert len(watched.scrape("gateway").text.splitlines()) < lines + 100
    for process in watched.urls:
        text = watched.scrape(process).text
        for word in (SECRET, "unknown-", "mine-alone"):
            assert word not in text


def test_a_gateway_with_keys_shows_its_metrics_to_their_holders(watched: Watched) -> None:
    with KeyedGateway(watched.fleet, {"alice": {}}, GATEWAY_METRICS_KEYS="true") as gateway:
        with gateway.client() as anyone:
            assert anyone.get("/metrics").status_code == 401
        with gateway.client("alice") as alice:
            body = {"model": "test", "messages": [{"role": "user", "content": "hello"}]}
            assert alice.post("/v1/chat/completions", json=body).status_code == 200

        def show() -> Metrics:
            return scrape(gateway.url, authorization=f"Bearer {gateway.keys['alice']}")

        def counted() -> bool:
            return show().value("chatfleet_key_requests_total", key="alice", code="ok") == 1

        wait_until(counted, SOON, "it is counted, behind its answer")
        shown = show()
        assert shown.value("chatfleet_key_generation_tokens_total", key="alice") > 0
        assert gateway.keys["alice"] not in shown.text
        assert "path=/metrics" not in gateway.process.log()


def test_a_client_that_sends_a_trace_finds_it_in_an_exemplar() -> None:
    with Fleet(workers=1, settings={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}) as fleet:
        fleet.expects_trouble = True  # nobody receives the spans
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        body = {"model": "test", "messages": [{"role": "user", "content": "hello"}]}
        headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
        httpx.post(f"{fleet.url}/v1/chat/completions", json=body, headers=headers, timeout=60, trust_env=False)
        exemplars = scrape(fleet.url, OPENMETRICS).exemplars()
    assert exemplars["chatfleet_time_to_first_token_seconds_bucket"] == {"trace_id": trace}

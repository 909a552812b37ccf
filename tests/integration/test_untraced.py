"""Without an exporter a client's trace is still passed on; an exporter that is away harms nothing."""

import secrets
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.cast import write_agents
from tests.harness.fleet import NOBODY, Fleet
from tests.harness.waiting import SOON, wait_until
from tests.play import Play
from tests.schedule import Schedule

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = PARENT.split("-")[1]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    made = Fleet(workers=0, start=False)
    agents = made.folder / "agents.yaml"
    write_agents(agents, {"command": sys.executable, "args": ["-m", "tests.unit.worker.agents.mcp_meta"]})
    made.new_worker(WORKER_AGENTS=str(agents))
    with made:
        made.start()
        made.wait_until_ready(1)
        yield made


def ask(fleet: Fleet, model: str, content: str, headers: dict[str, str]) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": content}]}
    url = f"{fleet.url}/v1/chat/completions"
    return httpx.post(url, json=body, headers=headers, timeout=60, trust_env=False)


def headers_seen(fleet: Fleet, tag: str) -> list[dict[str, Any]]:
    return [record["headers"] for record in fleet.backend.requests(tag)]


def test_the_model_gets_the_clients_trace(fleet: Fleet) -> None:
    tag = secrets.token_hex(8)
    said = Schedule(tokens=3, tag=tag).message()
    ask(fleet, "test", said, {"traceparent": PARENT, "tracestate": "a=1"}).raise_for_status()
    (seen,) = headers_seen(fleet, tag)
    assert (seen["traceparent"], seen["tracestate"]) == (PARENT, "a=1")
    fleet.gateway.wait_for_log(f"trace_id={TRACE}", SOON)


def test_without_a_trace_nothing_is_added(fleet: Fleet) -> None:
    tag = secrets.token_hex(8)
    ask(fleet, "test", Schedule(tokens=3, tag=tag).message(), {}).raise_for_status()
    (seen,) = headers_seen(fleet, tag)
    assert not {"traceparent", "tracestate"} & seen.keys()


@pytest.mark.parametrize("sent", [{"traceparent": PARENT}, {}], ids=["traced", "untraced"])
def test_an_mcp_server_gets_it_in_the_calls_meta(sent: dict[str, str], fleet: Fleet) -> None:
    call = {"id": "c1", "name": "meta", "arguments": "{}"}
    play = Play(parts={"solo": [Schedule(tool_calls=[call], seed=0), Schedule(tokens=2, seed=1)]})
    answer = ask(fleet, "served", play.message(), sent)
    answer.raise_for_status()
    assert (PARENT in answer.text) == bool(sent)
    seen = headers_seen(fleet, play.tag)
    assert [headers.get("traceparent") for headers in seen] == [sent.get("traceparent")] * 2


def test_the_workers_log_names_the_trace(fleet: Fleet) -> None:
    ask(fleet, "nowhere", "hi", {"traceparent": PARENT})

    def is_named() -> bool:
        return any("chat failed" in line and TRACE in line for line in fleet.workers[0].log().splitlines())

    wait_until(is_named, SOON, "the trace in the worker's log")


def test_an_exporter_that_is_away_harms_nothing() -> None:
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_BSP_MAX_QUEUE_SIZE": "600",
    }
    with Fleet(workers=1, settings=settings) as fleet:
        for _ in range(30):
            ask(fleet, "test", Schedule(tokens=3).message(), {}).raise_for_status()
        fleet.gateway.wait_for_log("traces lost", 60.0)
        fleet.workers[0].wait_for_log("traces lost", 60.0)
        for process in (fleet.gateway, fleet.workers[0]):
            process.stop(10.0)
            assert process.log().count("traces lost") == 1

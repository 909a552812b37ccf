"""One trace from the client to the model and the tools, received as any collector receives it."""

import asyncio
import itertools
import json
import secrets
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from tests.cast import write_agents
from tests.harness.collector import Collector, Span, by_parent
from tests.harness.fleet import Fleet
from tests.harness.waiting import SOON, wait_until
from tests.play import Play
from tests.schedule import Schedule

Json = dict[str, Any]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as made:
        yield made


@pytest.fixture(scope="module")
def fleet(collector: Collector) -> Iterator[Fleet]:
    made = Fleet(workers=0, settings=collector.settings | {"OTEL_RESOURCE_ATTRIBUTES": "deployment=test"}, start=False)
    agents = made.folder / "agents.yaml"
    write_agents(agents, {"command": sys.executable, "args": ["-m", "tests.unit.worker.agents.mcp_meta"]})
    for _ in range(2):
        made.new_worker(WORKER_AGENTS=str(agents))
    with made:
        made.start()
        made.wait_until_ready(2)
        yield made


@pytest.fixture
async def client(fleet: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=fleet.url, timeout=60, trust_env=False, limits=limits) as made:
        yield made


class Caller:
    """A client's own span, which its request belongs to."""

    def __init__(self) -> None:
        self.trace = secrets.token_hex(16)
        self.span = secrets.token_hex(8)
        self.headers = {"traceparent": f"00-{self.trace}-{self.span}-01", "tracestate": "vendor=1"}


def body(model: str, content: str, **more: Any) -> Json:
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}


async def chat(client: httpx.AsyncClient, asked: Json, headers: dict[str, str]) -> httpx.Response:
    return await client.post("/v1/chat/completions", json=asked, headers=headers)


def calls(name: str, arguments: Json | None = None) -> Schedule:
    return Schedule(tool_calls=[{"id": "c1", "name": name, "arguments": json.dumps(arguments or {})}], seed=0)


def say(text: str) -> Schedule:
    return Schedule(text=text)


SAYS = Schedule(tokens=5, seed=1)
CAST: dict[str, tuple[dict[str, list[Schedule]], dict[str, list[str]]]] = {
    "solo": (
        {"solo": [calls("add", {"a": 1, "b": 2}), SAYS]},
        {
            "run solo": ["invoke_agent solo"],
            "invoke_agent solo": ["chat test", "execute_tool add", "chat test"],
        },
    ),
    "served": (
        {"solo": [calls("meta"), SAYS]},
        {
            "run served": ["invoke_agent solo"],
            "invoke_agent solo": ["chat test", "execute_tool meta", "chat test"],
        },
    ),
    "swarm": (
        {"desk": [calls("transfer_to_clerk")], "clerk": [calls("add", {"a": 1, "b": 2}), calls("transfer_to_user")]},
        {
            "run swarm": ["invoke_agent desk", "invoke_agent clerk", "invoke_agent clerk"],
            "invoke_agent desk": ["chat test"],
            "invoke_agent clerk": ["chat test", "execute_tool add", "chat test"],
        },
    ),
    "nested": (
        {name: [SAYS] for name in ("writer", "critic", "editor")},
        {
            "run nested": ["invoke_agent writer", "invoke_agent critic", "invoke_agent editor"],
            **{f"invoke_agent {name}": ["chat test"] for name in ("writer", "critic", "editor")},
        },
    ),
    "chosen": (
        {"selector": [say("critic"), say("writer"), say("writer")], "writer": [SAYS], "critic": [SAYS]},
        {
            "run chosen": ["chat test", "invoke_agent critic", *["chat test", "invoke_agent writer"] * 2],
            "invoke_agent critic": ["chat test"],
            "invoke_agent writer": ["chat test"] * 2,
        },
    ),
    "graph": (
        {name: [SAYS] for name in ("writer", "left", "right", "editor")},
        {
            "run graph": [f"invoke_agent {name}" for name in ("writer", "left", "right", "editor")],
            **{f"invoke_agent {name}": ["chat test"] for name in ("writer", "left", "right", "editor")},
        },
    ),
    "generator": ({}, {}),
    "studio": (
        {name: [SAYS] for name in ("writer", "critic")},
        {
            "run studio": ["invoke_agent writer", "invoke_agent critic"],
            "invoke_agent writer": ["chat test"],
            "invoke_agent critic": ["chat test"],
        },
    ),
}
CONTENT = {
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
}
OF_A_CHAT = {"POST /v1/chat/completions": ["attempt"]}


async def test_two_hundred_traces_are_whole(fleet: Fleet, collector: Collector, client: httpx.AsyncClient) -> None:
    async def one(name: str, stream: bool) -> tuple[Caller, Play, str]:
        for _ in range(5):  # a worker that stands still for a moment costs a second attempt, which has spans too
            caller, play = Caller(), Play(parts=CAST[name][0])
            answer = await chat(client, body(name, play.message(), stream=stream), caller.headers)
            assert answer.status_code == 200, answer.text
            if answer.headers["x-attempts"] == "1":
                return caller, play, answer.text
        raise AssertionError("no chat came with its first attempt")

    names = list(itertools.islice(itertools.cycle(CAST), 200))
    async with asyncio.timeout(120):
        chats = await asyncio.gather(*(one(name, number % 2 == 0) for number, name in enumerate(names)))
    expected = {name: 3 + sum(map(len, tree.values())) for name, (_, tree) in CAST.items()}
    total = sum(expected[name] for name in names)
    traces = {caller.trace for caller, _, _ in chats}
    wait_until(lambda: sum(span.trace in traces for span in collector.spans) >= total, SOON, f"{total} spans")

    records: dict[str, list[Json]] = {}
    for record in fleet.backend.requests():
        records.setdefault(record["tag"], []).append(record)
    for (caller, play, answer), name in zip(chats, names, strict=True):
        trace = collector.trace(caller.trace)
        tree = by_parent(trace)
        assert tree == {
            caller.span: ["POST /v1/chat/completions"],
            **OF_A_CHAT,
            "attempt": [f"run {name}"],
            **{parent: sorted(names) for parent, names in CAST[name][1].items()},
        }
        assert len({span.id for span in trace}) == len(trace) == expected[name]
        assert {span.state for span in trace} == {"vendor=1"}
        assert not CONTENT & {key for span in trace for key in span.attributes}
        assert not [span.name for span in trace if span.is_error]
        within(trace)
        models = {span.id for span in trace if span.name == "chat test"}
        asked = [record["headers"] for record in records.get(play.tag, ())]
        assert sorted(headers["traceparent"] for headers in asked) == sorted(
            f"00-{caller.trace}-{id_}-01" for id_ in models
        )
        assert {headers["tracestate"] for headers in asked} <= {"vendor=1"}
        if name == "served":
            (tool,) = [span for span in trace if span.name == "execute_tool meta"]
            assert f"00-{caller.trace}-{tool.id}-01" in answer
    services = Counter(span.service for span in collector.spans)
    assert services.keys() == {"chatfleet-gateway", "chatfleet-worker"}


def within(trace: list[Span]) -> None:
    """Each span begins when what it belongs to has begun, by the clock of one machine."""
    spans = {span.id: span for span in trace}
    for span in trace:
        parent = spans.get(span.parent)
        assert span.began <= span.ended
        assert parent is None or parent.began <= span.began, (parent.name, span.name)


async def test_a_chat_without_a_trace_begins_one(fleet: Fleet, collector: Collector, client: httpx.AsyncClient) -> None:
    tag = secrets.token_hex(8)
    answer = await chat(client, body("test", Schedule(tokens=3, tag=tag).message()), {})
    assert answer.status_code == 200
    wait_until(lambda: root(collector, answer.headers["x-request-id"]) is not None, SOON, "the span of the request")
    span = root(collector, answer.headers["x-request-id"])
    assert span is not None
    assert span.parent == ""
    trace = collector.wait_for(span.trace, 4)
    assert [made.name for made in trace] == ["POST /v1/chat/completions", "attempt", "run test", "chat test"]
    model = trace[-1].attributes
    assert model.pop("gen_ai.response.time_to_first_chunk") >= 0
    assert model.pop("gen_ai.usage.input_tokens") > 0
    assert model == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "test",
        "server.address": "127.0.0.1",
        "server.port": fleet.backend.port,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.output_tokens": 3,
        "chatfleet.model": "test",
    }


def root(collector: Collector, request_id: str) -> Span | None:
    found = (span for span in collector.spans if span.name.startswith("POST"))
    return next((span for span in found if span.attributes["chatfleet.request.id"] == request_id), None)


async def test_each_attempt_has_a_span(collector: Collector, client: httpx.AsyncClient) -> None:
    caller = Caller()
    failing = Schedule(tokens=3, tag=secrets.token_hex(8), status=500, fail_times=1)
    assert (await chat(client, body("test", failing.message()), caller.headers)).status_code == 200
    trace = collector.wait_for(caller.trace, 7)
    (server,) = [span for span in trace if span.name.startswith("POST")]
    first, second = [span for span in trace if span.name == "attempt"]
    assert first.parent == second.parent == server.id
    assert (first.attributes["error.type"], first.is_error) == ("model_failed", True)
    assert not second.is_error
    assert first.attributes["chatfleet.worker"] != second.attributes["chatfleet.worker"]
    assert not server.is_error
    failed = [span for span in trace if span.name == "chat test" and span.is_error]
    assert [span.attributes["error.type"] for span in failed] == ["model_failed"]
    assert {span.member for span in trace} >= {first.attributes["chatfleet.worker"]}


@pytest.mark.parametrize(
    "sent",
    [
        {"traceparent": "00-" + "0" * 32 + "-00f067aa0ba902b7-01"},
        {"traceparent": "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"},
        {"traceparent": "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
        {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"},
        {"traceparent": "x" * 8000},
    ],
    ids=["zeros", "capitals", "version", "more", "long"],
)
async def test_an_invalid_trace_begins_another(
    sent: dict[str, str], collector: Collector, client: httpx.AsyncClient
) -> None:
    answer = await chat(client, body("test", SAYS.message()), sent | {"tracestate": "vendor=1"})
    wait_until(lambda: root(collector, answer.headers["x-request-id"]) is not None, SOON, "the span of the request")
    span = root(collector, answer.headers["x-request-id"])
    assert span is not None
    assert (span.parent, span.state) == ("", "")


async def test_what_is_not_sampled_is_passed_on_and_not_exported(
    fleet: Fleet, collector: Collector, client: httpx.AsyncClient
) -> None:
    caller, tag = Caller(), secrets.token_hex(8)
    unsampled = {"traceparent": caller.headers["traceparent"][:-2] + "00"}
    await chat(client, body("test", Schedule(tokens=3, tag=tag).message()), unsampled)
    sent = fleet.backend.request(tag)["headers"]["traceparent"].split("-")
    assert (sent[1], sent[3]) == (caller.trace, "00")
    assert collector.trace(caller.trace) == []


async def test_content_is_exported_where_it_is_asked_for(collector: Collector) -> None:
    caller = Caller()
    with Fleet(workers=1, settings=collector.settings | {"FLEET_TRACE_CONTENT": "true"}) as made:
        async with httpx.AsyncClient(base_url=made.url, timeout=60, trust_env=False) as client:
            answer = await chat(client, body("test", SAYS.message(), stream=False), caller.headers)
        said = answer.json()["choices"][0]["message"]["content"]
        (model,) = [span for span in collector.wait_for(caller.trace, 4) if span.name == "chat test"]
    assert json.loads(model.attributes["gen_ai.input.messages"])[0]["parts"][0]["content"] == SAYS.message()
    assert json.loads(model.attributes["gen_ai.output.messages"])[0]["parts"][0]["content"] == said


async def test_autogens_own_spans_of_messages_belong_to_the_trace(collector: Collector) -> None:
    settings = collector.settings | {"AUTOGEN_DISABLE_RUNTIME_TRACING": "false"}
    with Fleet(workers=0, settings=settings, start=False) as made:
        agents = made.folder / "agents.yaml"
        write_agents(agents)
        made.new_worker(WORKER_AGENTS=str(agents))
        made.start()
        made.wait_until_ready(1)
        caller = Caller()
        play = Play(parts={name: [SAYS] for name in ("writer", "critic", "editor")})
        async with httpx.AsyncClient(base_url=made.url, timeout=60, trust_env=False) as client:
            assert (await chat(client, body("trio", play.message()), caller.headers)).status_code == 200
        # Before the fleet ends: a process has little time for its last spans then.
        wait_until(lambda: is_whole(caller, collector.trace(caller.trace)), SOON, "the spans of the request")
    trace = collector.trace(caller.trace)
    assert is_whole(caller, trace)
    assert {span.scope for span in trace} == {"chatfleet", "autogen SingleThreadedAgentRuntime"}


OF_A_TRIO = {
    "POST /v1/chat/completions": 1,
    "attempt": 1,
    "run trio": 1,
    "invoke_agent writer": 1,
    "invoke_agent critic": 1,
    "invoke_agent editor": 1,
    "chat test": 3,
}


def is_whole(caller: Caller, trace: list[Span]) -> bool:
    """Our own spans of a trio are all there, and of each span what it belongs to."""
    ids = {caller.span, *(span.id for span in trace)}
    own = Counter(span.name for span in trace if span.scope == "chatfleet")
    return own == OF_A_TRIO and all(span.parent in ids for span in trace)


async def test_the_logs_name_the_trace(fleet: Fleet, client: httpx.AsyncClient) -> None:
    caller = Caller()
    await chat(client, body("nowhere", SAYS.message()), caller.headers)
    fleet.gateway.wait_for_log(f"trace_id={caller.trace}", SOON)
    wait_until(
        lambda: any(
            "chat failed" in line and caller.trace in line
            for worker in fleet.workers
            for line in worker.log().splitlines()
        ),
        SOON,
        "the trace in the log of the worker that failed",
    )

"""Agents and teams through real processes, on both faces, streamed and whole."""

import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.cast import write_agents
from tests.harness.fleet import Fleet
from tests.harness.process import ENDS
from tests.play import Play
from tests.schedule import Schedule, reply_text

Json = dict[str, Any]
Said = tuple[str, Any]
"""Who said or did something, and what: a text or an event."""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    made = Fleet(workers=0, start=False)
    agents = made.folder / "agents.yaml"
    write_agents(agents)
    for _ in range(2):
        made.new_worker(WORKER_AGENTS=str(agents))
    with made:
        made.start()
        made.wait_until_ready(2)
        yield made


@pytest.fixture
async def client(fleet: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=fleet.url, timeout=60, trust_env=False, limits=limits) as client:
        yield client


def say(text: str, **fields: Any) -> Schedule:
    return Schedule(text=text, **fields)


def call(name: str, arguments: Json | None = None, id_: str = "c1", **extra: Any) -> Json:
    return {"id": id_, "name": name, "arguments": json.dumps(arguments or {}), **extra}


def calls(*made: Json, **fields: Any) -> Schedule:
    return Schedule(tool_calls=list(made), seed=0, **fields)


# ------------------------------------------------------------ what each agent says


def tool_call(name: str, arguments: Json | None = None, id_: str = "c1") -> Json:
    return {"tool_call": {"id": id_, "name": name, "arguments": json.dumps(arguments or {})}}


def tool_result(name: str, content: str, *, id_: str = "c1", is_error: bool = False) -> Json:
    return {"tool_result": {"call_id": id_, "name": name, "content": content, "is_error": is_error}}


SUM = {"a": 1, "b": 2}
THREE = {name: [Schedule(tokens=5, seed=seed)] for seed, name in enumerate(("writer", "critic", "editor"))}
TEXT = {name: reply_text(part[0]) for name, part in THREE.items()}

CASES: dict[str, tuple[Play, list[Said]]] = {
    "solo": (
        Play(
            parts={
                "solo": [
                    calls(call("add", SUM), call("broken", id_="c2")),
                    Schedule(tokens=30, seed=7, reasoning=3),
                ]
            }
        ),
        [
            ("solo", tool_call("add", SUM)),
            ("solo", tool_call("broken", id_="c2")),
            ("solo", tool_result("add", "3")),
            ("solo", tool_result("broken", "as it should", id_="c2", is_error=True)),
            ("solo", reply_text(Schedule(tokens=30, seed=7))),
        ],
    ),
    "trio": (Play(parts=THREE), [(name, TEXT[name]) for name in THREE]),
    "chosen": (
        Play(
            parts=THREE
            | {"selector": [say("critic"), say("writer"), say("writer")], "writer": [say("first"), say("second")]}
        ),
        [("critic", TEXT["critic"]), ("writer", "first"), ("writer", "second")],
    ),
    "swarm": (
        Play(
            parts={
                "desk": [calls(call("transfer_to_clerk")), calls(call("transfer_to_user", id_="c3"))],
                "clerk": [calls(call("transfer_to_desk", id_="c2"))],
            }
        ),
        [
            ("desk", tool_call("transfer_to_clerk")),
            ("desk", tool_result("transfer_to_clerk", "Transferred to clerk, adopting the role of clerk immediately.")),
            ("desk", {"handoff": {"target": "clerk"}}),
            ("clerk", tool_call("transfer_to_desk", id_="c2")),
            (
                "clerk",
                tool_result(
                    "transfer_to_desk", "Transferred to desk, adopting the role of desk immediately.", id_="c2"
                ),
            ),
            ("clerk", {"handoff": {"target": "desk"}}),
            ("desk", tool_call("transfer_to_user", id_="c3")),
            (
                "desk",
                tool_result(
                    "transfer_to_user", "Transferred to user, adopting the role of user immediately.", id_="c3"
                ),
            ),
            ("desk", {"handoff": {"target": "user"}}),
        ],
    ),
    "nested": (Play(parts=THREE), [(name, TEXT[name]) for name in THREE]),
    "generator": (
        Play(parts={}, tag="g"),
        [
            ("generator", "I am the generator"),
            ("generator", {"handoff": {"target": "other", "content": "go on"}}),
            ("other", "you said: " + Play(parts={}, tag="g").message()),
        ],
    ),
    "studio": (Play(parts=THREE), [(name, TEXT[name]) for name in ("writer", "critic")]),
}
NAMES = pytest.mark.parametrize("name", CASES)


def text_of(said: list[Said]) -> str:
    return "\n\n".join(what for _, what in said if isinstance(what, str))


def without_handoff_text(said: list[Said], like: list[Said]) -> list[Said]:
    """A handoff's text is AutoGen's: it is compared where a case names it."""
    shown = []
    for (source, what), (_, wanted) in zip(said, like, strict=False):
        if isinstance(what, dict) and "handoff" in what and "content" not in wanted.get("handoff", {}):
            what = {"handoff": {"target": what["handoff"]["target"]}}
        shown.append((source, what))
    return shown + said[len(like) :]


async def lines_of(client: httpx.AsyncClient, name: str, play: Play, **fields: Any) -> list[Json]:
    body = {"model": name, "stream": True, "messages": [{"source": "user", "content": play.message()}], **fields}
    answer = await client.post("/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def told(lines: list[Json]) -> list[Said]:
    """What NDJSON says, message by message. Each message lies between its marks."""
    said: list[Said] = []
    opened: dict[str, str] = {}
    texts: dict[str, str] = {}
    for line in lines:
        source = line.get("source", "")
        if mark := line.get("message"):
            if mark["event"] == "begin":
                assert source not in opened
                opened[source], texts[source] = mark["id"], ""
            else:
                assert opened.pop(source) == mark["id"]
                if text := texts.pop(source):
                    said.append((source, text))
        elif line["content"]:
            texts[source] += line["content"]
        elif shown := {key: line[key] for key in ("tool_call", "tool_result", "handoff") if key in line}:
            said.append((source, shown))
    assert not opened
    return said


@NAMES
async def test_ndjson(client: httpx.AsyncClient, name: str) -> None:
    play, expected = CASES[name]
    lines = await lines_of(client, name, Play(parts=play.parts, tag=f"{play.tag}-s" if play.parts else play.tag))
    assert without_handoff_text(told(lines), expected) == expected
    assert lines[-1]["done"] is True
    assert lines[-1]["finish_reason"] == "stop"
    whole = await client.post(
        "/chat/completions",
        json={
            "model": name,
            "stream": False,
            "messages": [
                {
                    "source": "user",
                    "content": Play(parts=play.parts, tag=f"{play.tag}-w" if play.parts else play.tag).message(),
                }
            ],
        },
    )
    body = whole.json()
    assert body["content"] == text_of(expected)
    shown = [
        (message["source"], message.get("content") or {k: v for k, v in message.items() if k != "source"})
        for message in body["messages"]
        if message.keys() != {"source", "reasoning"}
    ]
    assert without_handoff_text(shown, expected) == expected


async def chunks_of(client: httpx.AsyncClient, name: str, messages: list[Json], **fields: Any) -> list[Json]:
    body = {"model": name, "stream": True, "messages": messages, **fields}
    answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    *events, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def user(play: Play) -> list[Json]:
    return [{"role": "user", "content": play.message()}]


@NAMES
async def test_chat_completions(client: httpx.AsyncClient, name: str) -> None:
    play, expected = CASES[name]
    mark = "-c" if play.parts else ""
    chunks = await chunks_of(client, name, user(Play(parts=play.parts, tag=play.tag + mark)))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content") or "" for delta in deltas) == text_of(expected)
    speakers = [delta["source"] for delta in deltas if delta.get("content")]
    ordered = [name for index, name in enumerate(speakers) if index == 0 or speakers[index - 1] != name]
    texts = [source for source, what in expected if isinstance(what, str)]
    assert ordered == [name for index, name in enumerate(texts) if index == 0 or texts[index - 1] != name]
    events = [(delta["source"], delta["agent_event"]) for delta in deltas if "agent_event" in delta]
    wanted = [(source, what) for source, what in expected if isinstance(what, dict)]
    assert without_handoff_text(events, wanted) == wanted
    assert not [delta for delta in deltas if "tool_calls" in delta]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    asked = {"model": name, "messages": user(Play(parts=play.parts, tag=play.tag + (mark and "-cw")))}
    whole = (await client.post("/v1/chat/completions", json=asked)).json()
    message = whole["choices"][0]["message"]
    assert (message["content"] or "") == text_of(expected)
    assert "tool_calls" not in message
    assert [found["source"] for found in message["messages"] if "content" in found] == texts


async def test_parallel_branches_are_told_apart(client: httpx.AsyncClient) -> None:
    parts = {
        "writer": [say("go")],
        "left": [Schedule(tokens=20, seed=1, delay=0.05)],
        "right": [Schedule(tokens=20, seed=2, delay=0.05)],
        "editor": [say("done")],
    }
    # So slow that no standstill of a process spans all of it: what gathers meanwhile arrives one after the other.
    slow = {"left": [Schedule(tokens=20, seed=1, delay=0.25)], "right": [Schedule(tokens=20, seed=2, delay=0.25)]}
    lines = await lines_of(client, "graph", Play(parts=parts | slow))
    said = told(lines)
    assert sorted(said[1:3]) == [("left", reply_text(parts["left"][0])), ("right", reply_text(parts["right"][0]))]
    assert [said[0], *said[3:]] == [("writer", "go"), ("editor", "done")]
    speakers = [line["source"] for line in lines if line.get("source") in ("left", "right") and line["content"]]
    assert len([1 for one, other in itertools.pairwise(speakers) if one != other]) > 2  # side by side
    chunks = await chunks_of(client, "graph", user(Play(parts=parts)))
    by_source: dict[str, str] = {}
    for chunk in chunks:
        delta = chunk["choices"][0]["delta"]
        if delta.get("content"):
            by_source[delta["source"]] = by_source.get(delta["source"], "") + delta["content"]
    assert by_source["left"].replace("\n\n", "") == reply_text(parts["left"][0]).replace("\n\n", "")
    asked = {"model": "graph", "messages": user(Play(parts=parts))}
    messages = (await client.post("/v1/chat/completions", json=asked)).json()["choices"][0]["message"]["messages"]
    assert sorted((message["source"], message["content"]) for message in messages) == sorted(said)


async def test_only_speakers_answer(client: httpx.AsyncClient) -> None:
    (choice,) = (
        await client.post("/v1/chat/completions", json={"model": "edited", "messages": user(Play(parts=THREE))})
    ).json()["choices"]
    assert choice["message"]["content"] == TEXT["editor"]
    assert choice["message"]["reasoning_content"] == f"{TEXT['writer']}\n\n{TEXT['critic']}"


async def test_usage_is_that_of_all_calls_and_of_each_agent(client: httpx.AsyncClient) -> None:
    used = {"prompt_tokens": 10, "completion_tokens": 5}
    parts = {name: [Schedule(text=name, seed=0, usage=used)] for name in THREE}
    lines = await lines_of(client, "trio", Play(parts=parts))
    usage = lines[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (30, 15, 45)
    assert usage["by_agent"] == dict.fromkeys(THREE, used)


# ------------------------------------------------------------ clients


async def test_openais_sdk_reads_a_team(fleet: Fleet) -> None:
    async with openai.AsyncOpenAI(base_url=f"{fleet.url}/v1", api_key="none", max_retries=0) as sdk:
        asked: Any = user(Play(parts=THREE))
        stream = await sdk.chat.completions.create(model="trio", messages=asked, stream=True)
        by_source: dict[str, str] = {}
        async for chunk in stream:
            if chunk.choices and (text := chunk.choices[0].delta.content):
                source = (chunk.choices[0].delta.model_extra or {})["source"]
                by_source[source] = by_source.get(source, "") + text
        assert {name: text.removeprefix("\n\n") for name, text in by_source.items()} == TEXT
        whole = await sdk.chat.completions.create(model="trio", messages=asked)
        assert (whole.choices[0].message.content or "").endswith(TEXT["editor"])
        listed = [model.id async for model in sdk.models.list()]
        assert {"trio", "swarm", "studio"} <= {*listed}


def test_the_seeds_client_reads_an_agent(fleet: Fleet, tmp_path: Path) -> None:
    script = tmp_path / "client.py"
    source = Path("tests/clients/seed_client.py").read_text()
    script.write_text(source.replace("'stream': True,", "'stream': True, 'model': 'generator',"))
    url = f"{fleet.url}/chat/completions"
    read = subprocess.run([sys.executable, script, url], capture_output=True, timeout=ENDS, check=True)
    expected = "I am the generatoryou said: Say hello by my name and introduce yourself."
    assert read.stdout.decode() == expected


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_clients_tools_end_the_turn_and_their_results_continue_it(
    fleet: Fleet, client: httpx.AsyncClient, stream: bool
) -> None:
    signature = {"google": {"thought_signature": "sig"}}
    fields = {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}
    play = Play(
        parts={
            "solo": [
                calls(call("weather", {"in": "Paris"}, extra_content=signature), fields=fields),
                Schedule(text="It rains."),
            ]
        }
    )
    async with openai.AsyncOpenAI(base_url=f"{fleet.url}/v1", api_key="none", max_retries=0) as sdk:
        asked: list[Any] = user(play)
        tools: Any = [TOOL]
        if stream:
            async with sdk.chat.completions.stream(model="solo", messages=asked, tools=tools) as events:
                first: Any = await events.get_final_completion()
        else:
            first = await sdk.chat.completions.create(model="solo", messages=asked, tools=tools)
        (choice,) = first.choices
        assert choice.finish_reason == "tool_calls"
        turn: Any = choice.message.model_dump(exclude_none=True, mode="json")
        (made,) = turn["tool_calls"]
        assert (made["id"], made["function"]["name"]) == ("c1", "weather")
        turn.pop("parsed", None)
        result: Any = {"role": "tool", "tool_call_id": "c1", "content": "rain"}
        second = await sdk.chat.completions.create(model="solo", messages=[*asked, turn, result], tools=tools)
    assert second.choices[0].message.content == "It rains."
    said = fleet.backend.requests(play.tag)[1]["body"]["messages"]
    assert [message["role"] for message in said] == ["system", "user", "assistant", "tool"]
    assert said[2]["tool_calls"][0]["extra_content"] == signature
    assert said[2]["reasoning_details"] == fields["reasoning_details"]


async def test_what_autogen_cannot_hold_goes_back_to_the_model(fleet: Fleet, client: httpx.AsyncClient) -> None:
    signature = {"google": {"thought_signature": "sig"}}
    thinking = [{"type": "thinking", "thinking": "hm", "signature": "s"}]
    first = calls(
        call("add", SUM, extra_content=signature), call("add", SUM, "c2"), fields={"thinking_blocks": thinking}
    )
    play = Play(parts={"solo": [first, Schedule(text="It is 3.")]})
    assert told(await lines_of(client, "solo", play))[-1] == ("solo", "It is 3.")
    turn = fleet.backend.requests(play.tag)[1]["body"]["messages"][2]
    assert turn["thinking_blocks"] == thinking
    assert turn["tool_calls"][0]["extra_content"] == signature
    assert "extra_content" not in turn["tool_calls"][1]


# ------------------------------------------------------------ many


async def test_200_teams_at_once_are_exact_and_never_mixed(fleet: Fleet, client: httpx.AsyncClient) -> None:
    async def one(number: int) -> None:
        parts = {
            name: [Schedule(tokens=10, seed=1000 * number + index, delay=0.002)] for index, name in enumerate(THREE)
        }
        said = told(await lines_of(client, "trio", Play(parts=parts)))
        assert said == [(name, reply_text(part[0])) for name, part in parts.items()]

    async with asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(one(number))

"""The client against a server that replays what Claude's API sends, and keeps what it was sent."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest
from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import (
    AssistantMessage,
    ChatCompletionClient,
    CreateResult,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    SystemMessage,
    UserMessage,
)
from autogen_core.tools import ToolSchema
from pydantic import BaseModel, ValidationError

from protos import chat_pb2 as pb
from tests.harness.scripted import END, OK, Part, Server, chunk, listening
from tests.harness.waiting import until
from tests.unit.worker.claude import streams
from tests.unit.worker.claude.asking import CALL, HI, TOOL, text
from tests.unit.worker.recording import Recording
from worker.claude.client import MAX_TOKENS, ClaudeClient
from worker.contract import failures
from worker.contract.errors import ModelReported, StreamBroken, Unsupported

SSE = OK + b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def answer(*bodies: bytes) -> list[Part]:
    return [SSE + b"".join(map(chunk, bodies)) + END]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with listening(made.serve) as made.url:
        yield made


@pytest.fixture
async def client(server: Server) -> AsyncIterator[ClaudeClient]:
    made = load(base_url=server.url)
    yield made
    await made.close()


def load(**config: Any) -> ClaudeClient:
    """As ``models.yaml`` does."""
    config = {"model": "claude-sonnet-5-5", "api_key": "k", **config}
    component = {"provider": "worker.claude.client.ClaudeClient", "component_type": "model", "config": config}
    made = ChatCompletionClient.load_component(component)
    assert isinstance(made, ClaudeClient)
    return made


async def ask(client: ClaudeClient, server: Server, *parts: Part, **body: Any) -> Recording:
    server.answers.append(list(parts or answer(streams.TEXT)))
    recording = Recording()
    recording.end = await client.stream(recording, {"messages": [HI], **body})
    return recording


def sent(server: Server) -> tuple[dict[str, str], Any]:
    """The last request's headers and body."""
    head, _, body = server.requests[-1].partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return {"": first, **{name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}}, (
        json.loads(body)
    )


def spoken(reply: Recording) -> list[tuple[str, object]]:
    return [(kind, value) for kind, value in reply.events if kind in ("reasoning", "text")]


async def test_a_chat_goes_to_the_messages_api(client: ClaudeClient, server: Server) -> None:
    reply = await ask(client, server)
    assert reply.events == [("text", "Hello, übrigens 😀")]
    assert isinstance(reply.end, pb.Done)
    assert (reply.end.finish_reason, reply.end.usage.prompt_tokens, reply.end.usage.completion_tokens) == (
        "stop",
        2325,
        15,
    )
    headers, body = sent(server)
    assert headers[""] == "POST /v1/messages HTTP/1.1"
    assert headers["authorization"] == "Bearer k"
    assert headers["content-type"] == "application/json"
    assert headers["anthropic-version"] == "2026-10-21"
    assert body == {
        "model": "claude-sonnet-5-5",
        "max_tokens": MAX_TOKENS,
        "stream": True,
        "messages": [{"role": "user", "content": text("hi")}],
    }
    assert client.actual_usage() == client.total_usage()
    assert client.total_usage().prompt_tokens == 2325


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
async def test_sampling_is_asked_for_in_the_version_that_has_it(
    client: ClaudeClient, server: Server, name: str
) -> None:
    await ask(client, server, **{name: 1})
    assert sent(server)[0]["anthropic-version"] == "2023-06-01"
    assert sent(server)[1][name] == 1


async def test_an_entry_is_what_it_says(server: Server) -> None:
    client = load(
        base_url=server.url,
        default_headers={"Anthropic-Version": "2099-01-01", "x-own": "1"},
        max_tokens=77,
        temperature=0.5,
        thinking={"type": "adaptive"},
        stop_sequences=["END"],
        response_format={"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
        tool_choice="any",
        tools=[{"type": "web_search_20250305", "name": "web_search"}],
        extra_body={"inference_geo": "eu"},
    )
    await ask(client, server)
    headers, body = sent(server)
    assert (headers["anthropic-version"], headers["x-own"]) == ("2099-01-01", "1")
    assert body == {
        "model": "claude-sonnet-5-5",
        "max_tokens": 77,
        "temperature": 0.5,
        "thinking": {"type": "adaptive"},
        "stop_sequences": ["END"],
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "tool_choice": {"type": "any"},
        "tools": [{"type": "web_search_20250305", "name": "web_search"}],
        "inference_geo": "eu",
        "stream": True,
        "messages": [{"role": "user", "content": text("hi")}],
    }
    dumped = client.dump_component()
    assert "'k'" not in str(dumped)
    await client.close()


async def test_an_entry_says_what_its_model_can_do_beside_what_is_usual(server: Server) -> None:
    client = load(base_url=server.url, model_info={"multiple_system_messages": True})
    assert client.model_info["vision"] is True
    await ask(client, server, messages=[HI, {"role": "system", "content": "S"}])
    assert [turn["role"] for turn in sent(server)[1]["messages"]] == ["user", "system"]
    await client.close()


def test_an_unknown_key_of_an_entry_is_named() -> None:
    with pytest.raises(ValidationError, match="max_token\n"):
        load(max_token=5)


def test_an_entry_without_a_key_is_refused_unless_a_header_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN", raising=False)
    for key in (None, ""):
        with pytest.raises(ValueError, match="api_key: is missing"):
            load(api_key=key)
    load(api_key=None, default_headers={"X-Api-Key": "k"})
    load(api_key=None, auth_token="t")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    load(api_key=None)


# ---------------------------------------------------------------- replies


@pytest.mark.parametrize("cut", [1, 7, 500])
async def test_thinking_and_calls_are_told_apart_from_text(client: ClaudeClient, server: Server, cut: int) -> None:
    pieces = [streams.THINKING[start : start + cut] for start in range(0, len(streams.THINKING), cut)]
    reply = await ask(client, server, SSE + b"".join(map(chunk, pieces)) + END, tools=[TOOL])
    assert spoken(reply) == [("reasoning", "The user wants the weather."), ("text", "Checking.")]
    calls = [value for kind, value in reply.events if kind == "tool_call" and isinstance(value, pb.ToolCall)]
    ids = [(call.index, call.id, call.name) for call in calls if call.id]
    assert ids == [(0, "toolu_01T1x1fJ34qAmk2tNTrN7Up6", "get_weather"), (1, "toolu_01VY", "get_time")]
    arguments = ["".join(call.arguments for call in calls if call.index == index) for index in (0, 1)]
    assert list(map(json.loads, arguments)) == [{"location": "San Francisco, CA"}, {}]
    assert isinstance(reply.end, pb.Done)
    assert reply.end.finish_reason == "function_calls"


async def test_a_whole_message_is_understood(client: ClaudeClient, server: Server) -> None:
    head = OK + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(streams.WHOLE)
    reply = await ask(client, server, head + streams.WHOLE)
    assert spoken(reply) == [("reasoning", "Hm."), ("text", "Hi.")]


async def test_a_refusal_is_filtered(client: ClaudeClient, server: Server) -> None:
    reply = await ask(client, server, *answer(streams.REFUSAL))
    assert isinstance(reply.end, pb.Done)
    assert (spoken(reply), reply.end.finish_reason) == ([("text", "First, ")], "content_filter")


@pytest.mark.parametrize("end", [[END], [None]], ids=["ended", "cut"])
async def test_a_stream_without_its_end_is_broken(client: ClaudeClient, server: Server, end: list[Part]) -> None:
    recording = Recording()
    server.answers.append([SSE, chunk(streams.CUT), *end])
    with pytest.raises((StreamBroken, Exception), match=r"finish reason|closed") as broken:
        await client.stream(recording, {"messages": [HI]})
    told = failures.failure(broken.value, started=True)
    assert (told.code, told.retryable) == ("model_stream_broken", True)
    assert told.usage.prompt_tokens == (2325 if end == [END] else 0)
    assert recording.events == [("text", "Hello, übrigens 😀")]


async def test_an_error_in_a_stream_comes_after_its_text(client: ClaudeClient, server: Server) -> None:
    recording = Recording()
    server.answers.append(answer(streams.BROKEN))
    with pytest.raises(ModelReported) as reported:
        await client.stream(recording, {"messages": [HI]})
    told = failures.failure(reported.value, started=True)
    assert (told.code, told.retryable, told.provider.type) == ("model_failed", True, "overloaded_error")
    assert "Overloaded" in told.message
    assert recording.events == [("text", "Hello, übrigens 😀")]


@pytest.mark.parametrize(
    ("status", "kind", "type_"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (529, anthropic.APIStatusError, "overloaded_error"),
    ],
)
async def test_a_refusal_is_the_sdks_error_and_not_tried_again(
    client: ClaudeClient, server: Server, status: int, kind: type[Exception], type_: str
) -> None:
    said = json.dumps({"type": "error", "error": {"type": type_, "message": "why"}}).encode()
    head = b"HTTP/1.1 %d X\r\nretry-after: 7\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    with pytest.raises(anthropic.APIStatusError) as refused:
        await ask(client, server, head % (status, len(said)) + said)
    assert isinstance(refused.value, kind)
    assert (refused.value.status_code, refused.value.response.headers["retry-after"]) == (status, "7")
    assert refused.value.body == {"type": "error", "error": {"type": type_, "message": "why"}}
    assert len(server.requests) == 1


async def test_what_claude_cannot_do_is_not_asked(client: ClaudeClient, server: Server) -> None:
    with pytest.raises(Unsupported, match="seed"):
        await ask(client, server, seed=1)
    assert server.requests == []


async def test_cancelling_closes_the_connection(client: ClaudeClient, server: Server) -> None:
    recording = Recording()
    server.answers.append([SSE, chunk(streams.CUT)])
    asking = asyncio.create_task(client.stream(recording, {"messages": [HI]}))
    await until(lambda: bool(recording.events))
    asking.cancel()
    await asyncio.wait([asking])
    async with asyncio.timeout(5):
        await server.closed.wait()


async def test_a_connection_serves_the_next_request_which_shares_nothing(client: ClaudeClient, server: Server) -> None:
    await ask(client, server, tools=[{**TOOL, "function": {"name": "secret"}}], system="s", user="anna")
    result = {"role": "tool", "tool_call_id": "c1", "content": "42"}
    await ask(client, server, messages=[HI, {"role": "assistant", "tool_calls": [CALL]}, result])
    assert b"secret" not in server.requests[1]
    assert b"anna" not in server.requests[1]
    assert server.connections == 1


# ---------------------------------------------------------------- agents


class Answer(BaseModel):
    colour: str


async def test_agents_get_text_as_it_comes_and_then_the_whole(client: ClaudeClient, server: Server) -> None:
    server.answers.append(answer(streams.TEXT))
    pieces = [piece async for piece in client.create_stream([UserMessage(content="hi", source="user")])]
    assert "".join(piece for piece in pieces[:-1] if isinstance(piece, str)) == "Hello, übrigens 😀"
    whole = pieces[-1]
    assert isinstance(whole, CreateResult)
    assert (whole.content, whole.finish_reason, whole.usage.completion_tokens) == ("Hello, übrigens 😀", "stop", 15)


async def test_agents_messages_and_tools_are_translated(client: ClaudeClient, server: Server) -> None:
    server.answers.append(answer(streams.THINKING))
    messages: list[LLMMessage] = [
        SystemMessage(content="S"),
        UserMessage(content="hi", source="user"),
        AssistantMessage(content=[FunctionCall(id="c1", name="f", arguments="{}")], source="a"),
        FunctionExecutionResultMessage(
            content=[FunctionExecutionResult(content="42", name="f", call_id="c1", is_error=False)]
        ),
    ]
    schema = ToolSchema(name="f", description="d", parameters={"type": "object", "properties": {}})
    made = await client.create(messages, tools=[schema], json_output=Answer, tool_choice="required")
    assert isinstance(made.content, list)
    assert [call.name for call in made.content if isinstance(call, FunctionCall)] == ["get_weather", "get_time"]
    assert made.thought == "The user wants the weather."
    body = sent(server)[1]
    assert body["system"] == text("S")
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["tools"][0]["input_schema"]["type"] == "object"
    assert body["tool_choice"] == {"type": "any"}
    assert body["output_config"]["format"]["schema"]["properties"]["colour"]["type"] == "string"


async def test_an_agents_cancellation_closes_the_connection(client: ClaudeClient, server: Server) -> None:
    server.answers.append([SSE, chunk(streams.CUT)])
    token = CancellationToken()
    pieces = client.create_stream([UserMessage(content="hi", source="user")], cancellation_token=token)
    assert isinstance(await anext(pieces), str)
    token.cancel()
    with pytest.raises(asyncio.CancelledError):
        await anext(pieces)
    async with asyncio.timeout(5):
        await server.closed.wait()

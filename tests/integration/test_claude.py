"""Claude through real processes: its API is replayed, and keeps what it was sent."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest
import yaml

from tests.harness.fleet import Fleet
from tests.harness.scripted import END, OK, chunk, read_request
from tests.harness.threaded import threaded
from tests.unit.worker.claude import streams
from tests.unit.worker.claude.asking import CACHE, CALL, HI, TOOL, text

SSE = OK + b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
SAID = json.dumps({"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}).encode()
LIMITED = b"HTTP/1.1 429 X\r\nretry-after: 7\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(
    SAID
)


class Api:
    """Answers with ``answer``; None at its end cuts the connection."""

    def __init__(self) -> None:
        self.answer: list[bytes | None] = []
        self.requests: list[Any] = []
        self.closed = 0

    def say(self, *bodies: bytes, end: bytes | None = END) -> None:
        self.answer = [SSE, *map(chunk, bodies), end]
        self.requests.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                self.requests.append(json.loads((await read_request(reader)).partition(b"\r\n\r\n")[2]))
                for part in self.answer:
                    if part is None:
                        return
                    writer.write(part)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed += 1


@pytest.fixture(scope="module")
def api() -> Api:
    return Api()


@pytest.fixture(scope="module")
def fleet(api: Api) -> Iterator[Fleet]:
    with threaded(api.serve) as url:
        made = Fleet(workers=0, start=False)
        models = made.folder / "claude.yaml"
        config = {"model": "claude-opus-5-5", "base_url": url, "api_key": "key-of-the-worker"}
        entry = {"provider": "autogen_ext.models.anthropic.AnthropicChatCompletionClient", "config": config}
        models.write_text(yaml.safe_dump({"models": {"claude": entry}}))
        made.new_worker(WORKER_MODELS=str(models))
        with made:
            made.start()
            made.wait_until_ready(1)
            yield made


@pytest.fixture
async def sdk(fleet: Fleet) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{fleet.url}/v1", api_key="none", max_retries=0) as client:
        yield client


async def create(sdk: openai.AsyncOpenAI, *messages: Any, **fields: Any) -> Any:
    asked: Any = list(messages) or [HI]
    return await sdk.chat.completions.create(model="claude", messages=asked, **fields)


async def test_a_chat_is_answered(sdk: openai.AsyncOpenAI, api: Api) -> None:
    api.say(streams.TEXT)
    whole = await create(sdk)
    assert whole.choices[0].message.content == "Hello, übrigens 😀"
    assert (whole.choices[0].finish_reason, whole.usage.prompt_tokens, whole.usage.completion_tokens) == (
        "stop",
        2325,
        15,
    )
    pieces = [piece async for piece in await create(sdk, stream=True)]
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == "Hello, übrigens 😀"


async def test_a_request_arrives_whole(sdk: openai.AsyncOpenAI, api: Api) -> None:
    api.say(streams.TEXT)
    part = {"type": "text", "text": "hi", "cache_control": CACHE}
    image = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
    messages = [
        {"role": "system", "content": "S1"},
        {"role": "user", "content": [part, image]},
        {"role": "developer", "content": "S2"},
        HI,
    ]
    await create(
        sdk, *messages, tools=[TOOL], stop="END", user="u", extra_body={"top_k": 3, "thinking": {"type": "adaptive"}}
    )
    assert api.requests == [
        {
            "model": "claude-opus-5-5",
            "max_tokens": 32000,
            "stream": True,
            "system": text("S1", "S2"),
            "messages": [
                {
                    "role": "user",
                    "content": [
                        part,
                        {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
                        *text("hi"),
                    ],
                }
            ],
            "tools": [
                {
                    "name": "f",
                    "description": "d",
                    "input_schema": {"type": "object", **TOOL["function"]["parameters"]},  # type: ignore[index]
                }
            ],
            "stop_sequences": ["END"],
            "metadata": {"user_id": "u"},
            "top_k": 3,
            "thinking": {"type": "adaptive"},
        }
    ]


async def test_a_tool_loop_continues_with_its_thinking(sdk: openai.AsyncOpenAI, api: Api) -> None:
    api.say(streams.THINKING)
    answer = (await create(sdk, tools=[TOOL])).choices[0]
    assert answer.finish_reason == "tool_calls"
    said = answer.message.model_dump(exclude_none=True)
    assert said["reasoning_content"] == "The user wants the weather."
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "42"} for call in said["tool_calls"]]
    api.say(streams.TEXT)
    await create(sdk, HI, said, *results, tools=[TOOL])
    _, turn, after = api.requests[0]["messages"]
    assert [block["type"] for block in turn["content"]] == [
        "thinking",
        "redacted_thinking",
        "text",
        "tool_use",
        "tool_use",
    ]
    assert turn["content"][0]["signature"] == "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds"
    assert [block["tool_use_id"] for block in after["content"]] == ["toolu_01T1x1fJ34qAmk2tNTrN7Up6", "toolu_01VY"]


async def test_what_server_tools_did_goes_back(sdk: openai.AsyncOpenAI, api: Api) -> None:
    api.say(streams.SEARCH)
    said = (await create(sdk)).choices[0].message.model_dump(exclude_none=True)
    assert [citation["encrypted_index"] for citation in said["citations"]] == ["Eo8B"]
    api.say(streams.TEXT)
    await create(sdk, HI, said, HI)
    kinds = [block["type"] for block in api.requests[0]["messages"][1]["content"]]
    assert kinds == ["server_tool_use", "web_search_tool_result", "text"]


async def test_no_request_has_the_tools_of_another(sdk: openai.AsyncOpenAI, api: Api) -> None:
    api.say(streams.TEXT)
    await create(sdk, tools=[{"type": "function", "function": {"name": "secret"}}])
    result = {"role": "tool", "tool_call_id": "c1", "content": "42"}
    await create(sdk, HI, {"role": "assistant", "tool_calls": [CALL]}, result)
    assert [[tool["name"] for tool in request["tools"]] for request in api.requests] == [["secret"], ["f"]]


@pytest.mark.parametrize("field", [{"seed": 1}, {"n": 2}, {"response_format": {"type": "json_object"}}])
async def test_what_claude_has_no_word_for_is_refused(sdk: openai.AsyncOpenAI, api: Api, field: dict[str, Any]) -> None:
    api.say(streams.TEXT)
    with pytest.raises(openai.APIStatusError) as refused:
        await create(sdk, **field)
    assert refused.value.status_code in (400, 422)
    assert next(iter(field)) in str(refused.value)
    assert api.requests == []


async def test_a_refusal_is_a_filtered_reply(sdk: openai.AsyncOpenAI, api: Api) -> None:
    api.say(streams.REFUSAL)
    assert (await create(sdk)).choices[0].finish_reason == "content_filter"


@pytest.mark.parametrize(
    ("bodies", "end"),
    [([streams.CUT], END), ([streams.CUT], None), ([streams.BROKEN], END), ([streams.OVERLOADED], END)],
    ids=["ended", "cut", "error", "overloaded"],
)
async def test_a_reply_that_breaks_is_an_error_that_may_be_repeated(
    sdk: openai.AsyncOpenAI, api: Api, bodies: list[bytes], end: bytes | None
) -> None:
    api.say(*bodies, end=end)
    with pytest.raises(openai.APIStatusError) as failed:
        await create(sdk)
    assert isinstance(failed.value.body, dict)
    assert failed.value.body["retryable"] is True
    assert failed.value.body["code"] in ("model_failed", "model_stream_broken", "overloaded_error")


async def test_a_rate_limit_is_told(sdk: openai.AsyncOpenAI, api: Api) -> None:
    api.say()
    api.answer = [LIMITED + SAID]
    with pytest.raises(openai.RateLimitError) as limited:
        await create(sdk)
    assert limited.value.response.headers["retry-after"] == "7"


async def test_a_client_that_leaves_closes_the_connection(fleet: Fleet, api: Api) -> None:
    api.say(streams.CUT, end=b"")
    before = api.closed
    body = {"model": "claude", "messages": [HI], "stream": True}
    async with (
        httpx.AsyncClient(trust_env=False, timeout=20) as client,
        client.stream("POST", f"{fleet.url}/v1/chat/completions", json=body) as answer,
    ):
        async for line in answer.aiter_lines():
            if "Hello" in line:
                break
    async with asyncio.timeout(20):
        while api.closed == before:
            await asyncio.sleep(0.02)

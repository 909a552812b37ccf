"""The test backend itself, as AutoGen's own client and a bare connection see it."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from autogen_core.models import CreateResult, LLMMessage, ModelInfo, SystemMessage, UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from openai import APIConnectionError, APIError, APIStatusError

from tests.harness.fleet import Backend
from tests.harness.http import Connection
from tests.harness.process import end_all
from tests.harness.waiting import eventually
from tests.schedule import Schedule, reasoning_tokens, reply_text

INFO = ModelInfo(vision=True, function_calling=True, json_output=True, structured_output=True, family="unknown")


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    folder: Path = tmp_path_factory.mktemp("backend")
    backend = Backend(folder)
    try:
        backend.start()
        yield backend
    finally:
        end_all([backend.process])
    assert "Traceback" not in backend.process.log()


@pytest.fixture
async def client(backend: Backend) -> AsyncIterator[OpenAIChatCompletionClient]:
    client = OpenAIChatCompletionClient(
        model="test", base_url=f"{backend.url}/v1", api_key="key-7", max_retries=0, model_info=INFO
    )
    yield client
    await client.close()


async def streamed(client: OpenAIChatCompletionClient, content: Schedule | str) -> tuple[str, CreateResult]:
    message = content.message() if isinstance(content, Schedule) else content
    turns: list[LLMMessage] = [SystemMessage(content="Be exact."), UserMessage(content=message, source="user")]
    pieces: list[Any] = [piece async for piece in client.create_stream(turns, include_usage=True)]
    *text, result = pieces
    return "".join(text), result


@pytest.mark.parametrize("schedule", [Schedule(tokens=500), Schedule(tokens=20, delay=0.002), Schedule(text="漢字\né")])
async def test_it_streams_what_the_schedule_says(client: OpenAIChatCompletionClient, schedule: Schedule) -> None:
    text, result = await streamed(client, schedule)
    assert text == result.content == reply_text(schedule)
    assert result.finish_reason == "stop"
    assert result.usage.completion_tokens > 0


async def test_it_answers_whole_too(client: OpenAIChatCompletionClient) -> None:
    schedule = Schedule(finish_reason="length", usage={"prompt_tokens": 3, "completion_tokens": 4})
    result = await client.create([UserMessage(content=schedule.message(), source="user")])
    assert (result.content, result.finish_reason) == (reply_text(schedule), "length")
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (3, 4)


async def test_it_echoes_plain_text(client: OpenAIChatCompletionClient) -> None:
    assert (await streamed(client, "Hello, é"))[0] == "You said: Hello, é"


async def test_it_says_what_it_was_told_to_plain_text(client: OpenAIChatCompletionClient, backend: Backend) -> None:
    schedule = Schedule(tokens=50)
    backend.say(schedule)
    assert (await streamed(client, "Hello"))[0] == reply_text(schedule)
    backend.say(None)
    assert (await streamed(client, "Hello"))[0] == "You said: Hello"


async def test_it_reasons_first(client: OpenAIChatCompletionClient) -> None:
    schedule = Schedule(reasoning=4)
    text, _ = await streamed(client, schedule)
    assert text == f"<think>{''.join(reasoning_tokens(schedule))}</think>{reply_text(schedule)}"


@pytest.mark.parametrize("status", [401, 429, 500])
async def test_it_refuses(client: OpenAIChatCompletionClient, status: int) -> None:
    with pytest.raises(APIStatusError) as refusal:
        await streamed(client, Schedule(status=status, retry_after=7))
    assert refusal.value.status_code == status
    assert refusal.value.response.headers["retry-after"] == "7"


async def test_it_fails_so_often_and_then_replies(client: OpenAIChatCompletionClient, backend: Backend) -> None:
    schedule = Schedule(status=500, fail_times=2, tag="third-time-lucky")
    for _ in range(2):
        with pytest.raises(APIStatusError):
            await streamed(client, schedule)
    assert (await streamed(client, schedule))[0] == reply_text(schedule)
    assert schedule.tag
    assert len(backend.requests(schedule.tag)) == 3


async def test_it_resets(client: OpenAIChatCompletionClient) -> None:
    with pytest.raises(APIConnectionError):
        await streamed(client, Schedule(reset_after=5))


async def test_it_breaks_with_an_error_event(client: OpenAIChatCompletionClient) -> None:
    with pytest.raises(APIError, match="the model broke"):
        await streamed(client, Schedule(error_after=5))


async def test_it_ends_without_a_word(client: OpenAIChatCompletionClient) -> None:
    schedule = Schedule(end_after=5)
    text, result = await streamed(client, schedule)
    assert reply_text(schedule).startswith(text)
    assert result.finish_reason == "unknown"


async def test_it_records_what_it_was_asked(client: OpenAIChatCompletionClient, backend: Backend) -> None:
    schedule = Schedule(tag="recorded")
    await streamed(client, schedule)
    record = backend.request("recorded")
    assert record["authorization"] == "Bearer key-7"
    assert record["headers"]["content-type"] == "application/json"
    assert [(turn["role"], turn["content"]) for turn in record["body"]["messages"]] == [
        ("system", "Be exact."),
        ("user", schedule.message()),
    ]
    assert record["started"] <= record["first_token"] <= record["completed"]
    assert record["closed"] is None


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(tag="gone-before-any-answer", hang=True),
        Schedule(tag="gone-before-the-first-token", first_delay=60),
        Schedule(tag="gone-between-tokens", hang_after=3),
        Schedule(tag="gone-mid-stream", tokens=100_000, delay=0.01),
        Schedule(tag="gone-with-a-full-pipe", tokens=1_000_000),
    ],
    ids=lambda schedule: schedule.tag,
)
async def test_it_notices_at_once_that_the_client_left(backend: Backend, schedule: Schedule) -> None:
    assert schedule.tag
    tag = schedule.tag
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": schedule.message()}]})
    async with Connection(("127.0.0.1", backend.port), limit=1000) as connection:
        connection.send("POST", "/v1/chat/completions", body.encode())
        await eventually(lambda: backend.requests(tag))
        if schedule.first_delay == 0 and not schedule.hang:
            await eventually(lambda: backend.request(tag)["first_token"])
    await eventually(lambda: backend.request(tag)["closed"])
    await eventually(lambda: backend.active() == 0)

"""OpenAI's own Python SDK, with nothing changed but its base URL."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import openai
import pytest
from openai import AsyncOpenAI, AzureOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionFunctionToolParam, ChatCompletionMessageParam
from pydantic import BaseModel

from tests.clients.flows import (
    CALL,
    CLOCK,
    RESULT,
    SECOND_CALL,
    WEATHER,
    assert_took_the_round_trip,
    tag,
    tools_question,
)
from tests.clients.script import REFUSAL, refusal
from tests.clients.script import USAGE as DETAILED
from tests.harness.fleet import SYSTEM_MESSAGE, Fleet
from tests.harness.waiting import SOON, eventually, wait_until
from tests.schedule import Schedule, logprob_of, reasoning_tokens, reply_text, reply_tokens

TOOLS = cast("list[ChatCompletionFunctionToolParam]", [WEATHER, CLOCK])
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n not one that any decoder takes \x00\xff" * 9).decode()
USAGE = {"prompt_tokens": 11, "completion_tokens": 7}


@pytest.fixture
def client(fleet: Fleet) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{fleet.url}/v1", api_key="none", max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture
async def async_client(fleet: Fleet) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{fleet.url}/v1", api_key="none", max_retries=0, timeout=30) as client:
        yield client


def asking(question: Schedule | str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": question.message() if isinstance(question, Schedule) else question}]


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def calls_of(chunks: list[ChatCompletionChunk]) -> dict[int, dict[str, str]]:
    """The tool calls that the deltas make, put together as every client does."""
    calls: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        for part in chunk.choices[0].delta.tool_calls or []:
            call = calls.setdefault(part.index, {"id": "", "name": "", "arguments": ""})
            assert part.function is not None
            call["id"] += part.id or ""
            call["name"] += part.function.name or ""
            call["arguments"] += part.function.arguments or ""
    return calls


# ---------------------------------------------------------------- plain replies


def test_a_reply_streams(client: OpenAI) -> None:
    schedule = Schedule(tokens=500)
    chunks = list(client.chat.completions.create(model="test", messages=asking(schedule), stream=True))
    assert text_of(chunks) == reply_text(schedule)
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk.model for chunk in chunks} == {"test"}
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant"] + [None] * (len(chunks) - 1)
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_ends_with_its_usage_where_it_is_asked_for(client: OpenAI) -> None:
    schedule = Schedule(usage=USAGE)
    *chunks, last = client.chat.completions.create(
        model="test", messages=asking(schedule), stream=True, stream_options={"include_usage": True}
    )
    assert text_of(chunks) == reply_text(schedule)
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens) == (11, 7, 18)
    assert last.id == chunks[0].id


def test_all_that_was_counted_arrives(client: OpenAI) -> None:
    counted = dict(DETAILED, total_tokens=18)
    asked: dict[str, Any] = {"model": "test", "messages": asking(Schedule(usage=DETAILED))}
    whole = client.chat.completions.create(**asked)
    *_, last = client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **asked)
    for usage in (whole.usage, last.usage):
        assert usage is not None
        assert usage.model_dump(exclude_none=True) == counted


def test_a_reply_comes_whole(client: OpenAI) -> None:
    schedule = Schedule(tokens=500, usage=USAGE, finish_reason="length")
    completion = client.chat.completions.create(model="test", messages=asking(schedule))
    assert completion.choices[0].message.content == reply_text(schedule)
    assert completion.choices[0].finish_reason == "length"
    assert (completion.object, completion.model) == ("chat.completion", "test")
    assert completion.usage is not None
    assert completion.usage.total_tokens == 18
    assert completion._request_id


def test_the_roles_reach_the_model(client: OpenAI, fleet: Fleet) -> None:
    schedule = Schedule(tag=tag())
    client.chat.completions.create(
        model="other",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "exact."}]},
            {"role": "user", "content": "é 漢字 👩‍🚀 \u0000", "name": "tory"},
            {"role": "assistant", "content": "Yes?"},
            *asking(schedule),
        ],
    )
    body = fleet.backend.request(schedule.tag or "")["body"]
    assert body["model"] == "other"
    assert [(turn["role"], turn["content"]) for turn in body["messages"]] == [
        ("system", SYSTEM_MESSAGE),
        ("system", "Be brief."),
        ("developer", [{"type": "text", "text": "Be "}, {"type": "text", "text": "exact."}]),
        ("user", "é 漢字 👩‍🚀 \u0000"),
        ("assistant", "Yes?"),
        ("user", schedule.message()),
    ]
    assert body["messages"][3]["name"] == "tory"


def test_reasoning_is_kept_apart(client: OpenAI) -> None:
    schedule = Schedule(reasoning=10)
    chunks = list(client.chat.completions.create(model="test", messages=asking(schedule), stream=True))
    assert text_of(chunks) == reply_text(schedule)
    thought = [getattr(chunk.choices[0].delta, "reasoning_content", None) or "" for chunk in chunks]
    assert "".join(thought) == "".join(reasoning_tokens(schedule))
    message = client.chat.completions.create(model="test", messages=asking(schedule)).choices[0].message
    assert message.content == reply_text(schedule)
    assert message.reasoning_content == "".join(reasoning_tokens(schedule))  # type: ignore[attr-defined]


OPTIONS: dict[str, Any] = {
    "temperature": 0.25,
    "top_p": 0.5,
    "max_tokens": 17,
    "stop": ["END", "漢"],
    "seed": -42,
    "presence_penalty": -1.5,
    "frequency_penalty": 2,
    "logit_bias": {"50256": -100},
    "reasoning_effort": "low",
    "user": "tory",
    "metadata": {"order": "7"},
    "response_format": {"type": "json_object"},
    "logprobs": True,
    "top_logprobs": 3,
}


@pytest.mark.parametrize("stream", [False, True])
def test_the_options_reach_the_model_by_name(client: OpenAI, fleet: Fleet, stream: bool) -> None:
    schedule = Schedule(tag=tag())
    answer = client.chat.completions.create(model="test", messages=asking(schedule), stream=stream, **OPTIONS)
    if stream:
        list(answer)
    body = fleet.backend.request(schedule.tag or "")["body"]
    assert {name: body.get(name) for name in OPTIONS} == OPTIONS


def test_what_is_not_asked_for_is_not_said_to_the_model(client: OpenAI, fleet: Fleet) -> None:
    schedule = Schedule(tag=tag())
    client.chat.completions.create(model="test", messages=asking(schedule), max_completion_tokens=9)
    body = fleet.backend.request(schedule.tag or "")["body"]
    assert body.keys() == {"model", "messages", "stream", "stream_options", "max_completion_tokens"}


def test_log_probabilities_come_with_their_text(client: OpenAI) -> None:
    schedule = Schedule(tokens=50)
    expected = [logprob_of(token, 2) for token in reply_tokens(schedule)]
    asked: dict[str, Any] = {"model": "test", "messages": asking(schedule), "logprobs": True, "top_logprobs": 2}
    whole = client.chat.completions.create(**asked).choices[0]
    assert whole.message.content == reply_text(schedule)
    assert whole.logprobs is not None
    assert [token.model_dump() for token in whole.logprobs.content or []] == expected
    chunks = list(client.chat.completions.create(**asked, stream=True))
    assert text_of(chunks) == reply_text(schedule)
    parts = [chunk.choices[0].logprobs for chunk in chunks]
    streamed = [token.model_dump() for part in parts if part is not None for token in part.content or []]
    assert streamed == expected


@pytest.mark.parametrize("url", [f"data:image/png;base64,{PNG}", "https://pictures.example/a%20b.png?x=1&y=ü"])
@pytest.mark.parametrize("detail", ["low", "high", "auto"])
def test_an_image_reaches_the_model_unharmed(client: OpenAI, fleet: Fleet, url: str, detail: Any) -> None:
    schedule = Schedule(tag=tag())
    image: Any = {"type": "image_url", "image_url": {"url": url, "detail": detail}}
    text: Any = {"type": "text", "text": schedule.message()}
    completion = client.chat.completions.create(
        model="test", messages=[{"role": "user", "content": [image, text, image]}]
    )
    assert completion.choices[0].message.content == reply_text(schedule)
    assert fleet.backend.request(schedule.tag or "")["body"]["messages"][-1]["content"] == [image, text, image]


# ---------------------------------------------------------------- tools and structured output


@pytest.mark.parametrize("stream", [False, True])
def test_a_tools_round_trip(client: OpenAI, fleet: Fleet, stream: bool) -> None:
    question = tools_question(CALL, SECOND_CALL)
    turns: list[Any] = list(asking(question))
    asked: dict[str, Any] = {"model": "test", "tools": TOOLS, "parallel_tool_calls": True}
    if stream:
        chunks = list(client.chat.completions.create(messages=turns, stream=True, **asked))
        assert calls_of(chunks) == {0: CALL, 1: SECOND_CALL}
        assert chunks[-1].choices[0].finish_reason == "tool_calls"
        assert text_of(chunks) == ""
        calls = [
            {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
            for call in calls_of(chunks).values()
        ]
        turns.append({"role": "assistant", "content": "", "tool_calls": calls})
    else:
        choice = client.chat.completions.create(messages=turns, **asked).choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        turns.append(choice.message)
    turns += [
        {"role": "tool", "tool_call_id": CALL["id"], "content": RESULT},
        {"role": "tool", "tool_call_id": SECOND_CALL["id"], "content": [{"type": "text", "text": "noon"}]},
    ]
    reply = client.chat.completions.create(messages=turns, **asked).choices[0]
    assert (reply.message.content, reply.finish_reason) == (question.text, "stop")
    assert_took_the_round_trip(
        fleet.backend.requests(question.tag),
        question.message(),
        CALL | {"result": RESULT},
        SECOND_CALL | {"result": [{"type": "text", "text": "noon"}]},
    )


def test_arguments_of_a_call_arrive_in_parts(client: OpenAI) -> None:
    question = tools_question(delay=0.25)
    chunks = list(client.chat.completions.create(model="test", messages=asking(question), tools=TOOLS[:1], stream=True))
    parts = [chunk.choices[0].delta.tool_calls for chunk in chunks]
    assert sum(part is not None for part in parts) > 2  # what comes while a machine stands still is one part


TOOL_CHOICES = ["none", "auto", "required", {"type": "function", "function": {"name": "get_time"}}]


@pytest.mark.parametrize("choice", TOOL_CHOICES, ids=["none", "auto", "required", "by name"])
def test_the_choice_of_a_tool_reaches_the_model(client: OpenAI, fleet: Fleet, choice: Any) -> None:
    schedule = Schedule(tag=tag())
    client.chat.completions.create(
        model="test", messages=asking(schedule), tools=TOOLS, tool_choice=choice, parallel_tool_calls=False
    )
    body = fleet.backend.request(schedule.tag or "")["body"]
    assert body["tool_choice"] == choice
    assert body["parallel_tool_calls"] is False
    assert [tool["function"]["name"] for tool in body["tools"]] == ["get_weather", "get_time"]


class Person(BaseModel):
    """What a reply is parsed into."""

    name: str
    tags: list[str]
    age: int | None


PERSON = Person(name='Zoë "Z" 漢字', tags=["a", "b"], age=7)


def assert_asked_for_a_person(fleet: Fleet, schedule: Schedule) -> None:
    asked = fleet.backend.request(schedule.tag or "")["body"]["response_format"]
    assert asked["type"] == "json_schema"
    assert asked["json_schema"]["name"] == "Person"
    assert asked["json_schema"]["strict"] is True
    assert asked["json_schema"]["schema"]["required"] == ["name", "tags", "age"]


def test_a_structured_reply_is_parsed(client: OpenAI, fleet: Fleet) -> None:
    schedule = Schedule(tag=tag(), text=PERSON.model_dump_json())
    completion = client.chat.completions.parse(model="test", messages=asking(schedule), response_format=Person)
    assert completion.choices[0].message.parsed == PERSON
    assert_asked_for_a_person(fleet, schedule)


def test_the_streaming_helper_parses_a_structured_reply(client: OpenAI, fleet: Fleet) -> None:
    schedule = Schedule(tag=tag(), text=PERSON.model_dump_json(indent=1))
    with client.chat.completions.stream(model="test", messages=asking(schedule), response_format=Person) as stream:
        kinds = [event.type for event in stream]
        completion = stream.get_final_completion()
    assert kinds[-1] == "content.done"
    assert "content.delta" in kinds
    assert completion.choices[0].message.parsed == PERSON
    assert_asked_for_a_person(fleet, schedule)


def test_the_streaming_helper_puts_calls_together(client: OpenAI) -> None:
    strict: Any = WEATHER | {"function": WEATHER["function"] | {"strict": True}}
    with client.chat.completions.stream(
        model="test", messages=asking(tools_question(CALL, SECOND_CALL)), tools=[strict]
    ) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        calls = stream.get_final_completion().choices[0].message.tool_calls or []
    assert [(event.name, event.arguments) for event in done] == [
        (CALL["name"], CALL["arguments"]),
        (SECOND_CALL["name"], SECOND_CALL["arguments"]),
    ]
    assert [(call.id, call.function.name) for call in calls] == [
        (CALL["id"], CALL["name"]),
        (SECOND_CALL["id"], SECOND_CALL["name"]),
    ]
    assert calls[0].function.parsed_arguments == json.loads(CALL["arguments"])


def test_a_refusal_is_one(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "test", "messages": asking(Schedule(text=REFUSAL, refuses=True))}
    message = client.chat.completions.parse(response_format=Person, **asked).choices[0].message
    assert (message.refusal, message.parsed, message.content) == (REFUSAL, None, None)
    with client.chat.completions.stream(response_format=Person, **asked) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_completion().choices[0].message
    assert kinds[-1] == "refusal.done"
    assert "refusal.delta" in kinds
    assert (streamed.refusal, streamed.parsed) == (REFUSAL, None)


def test_a_refusal_goes_back_to_the_model_as_one(client: OpenAI, fleet: Fleet) -> None:
    schedule = Schedule(tag=tag())
    turn: Any = {"role": "assistant", "content": None, "refusal": REFUSAL}
    client.chat.completions.create(model="test", messages=[*asking("Hello"), turn, *asking(schedule)])
    sent = fleet.backend.request(schedule.tag or "")["body"]["messages"][2]
    assert (sent.get("content"), sent["refusal"]) == (None, REFUSAL)


# ---------------------------------------------------------------- models


def test_the_models_are_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["test", "other", "nowhere"]
    assert client.models.retrieve("other").owned_by == "chatfleet"
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("no/such model")
    assert refused.value.code == "model_not_found"


# ---------------------------------------------------------------- errors

REFUSALS: dict[str, tuple[dict[str, Any], type[openai.APIStatusError], str, str | None]] = {
    "an unknown model": ({"model": "no-such"}, openai.NotFoundError, "model_not_found", "model"),
    "two choices": ({"n": 2}, openai.BadRequestError, "unsupported_parameter", "n"),
    "a wrong field": ({"temperature": "hot"}, openai.UnprocessableEntityError, "invalid_field", "temperature"),
    "a refusal of the model": (
        {"messages": asking(Schedule(status=400))},
        openai.BadRequestError,
        "test",  # the provider's own
        None,
    ),
    "a prompt that is too long": (
        {"messages": asking(refusal(400, "context_length_exceeded"))},
        openai.BadRequestError,
        "context_length_exceeded",
        None,
    ),
    "a filtered prompt": (
        {"messages": asking(refusal(400, "content_filter"))},
        openai.BadRequestError,
        "content_filter",
        None,
    ),
    "a model over its limit": (
        {"messages": asking(Schedule(status=429, retry_after=60))},
        openai.RateLimitError,
        "test",
        None,
    ),
    "a model that fails": (
        {"messages": asking(Schedule(status=500))},
        openai.InternalServerError,
        "model_failed",
        None,
    ),
    "a model that is not there": ({"model": "nowhere"}, openai.InternalServerError, "model_unreachable", None),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("fields", "kind", "code", "param"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_is_the_exception_of_its_status(
    client: OpenAI,
    fields: dict[str, Any],
    kind: type[openai.APIStatusError],
    code: str,
    param: str | None,
    stream: bool,
) -> None:
    asked: dict[str, Any] = {"model": "test", "messages": asking("Hello"), "stream": stream} | fields
    with pytest.raises(kind) as refused:
        client.chat.completions.create(**asked)
    assert (refused.value.code, refused.value.param) == (code, param)
    assert refused.value.request_id
    assert refused.value.request_id == refused.value.response.headers["x-request-id"]
    if kind is openai.RateLimitError:
        assert refused.value.response.headers["retry-after"] == "60"


@pytest.mark.parametrize("fault", [{"error_after": 5}, {"end_after": 5}, {"reset_after": 5}], ids=str)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_error_in_the_middle_is_raised(client: OpenAI, fault: dict[str, int], stream: bool) -> None:
    schedule = Schedule(tokens=10, delay=0.01, **fault)  # type: ignore[arg-type]
    received: list[ChatCompletionChunk] = []

    def ask() -> None:
        answer: Any = client.chat.completions.create(model="test", messages=asking(schedule), stream=stream)
        received.extend(answer)

    with pytest.raises(openai.APIError) as broken:
        ask()
    assert broken.value.code in ("model_failed", "model_stream_broken")
    if stream:
        assert text_of(received) == "".join(list(reply_tokens(schedule))[:5])
        assert type(broken.value) is openai.APIError
    else:
        assert isinstance(broken.value, openai.InternalServerError)


def test_its_own_retry_succeeds_after_a_429(fleet: Fleet) -> None:
    # Longer than the gateway itself would wait for the model.
    schedule = Schedule(tag=tag(), status=429, retry_after=3, fail_times=1)
    with OpenAI(base_url=f"{fleet.url}/v1", api_key="none", max_retries=1) as patient:
        completion = patient.chat.completions.create(model="test", messages=asking(schedule))
    assert completion.choices[0].message.content == reply_text(schedule)
    first, second = fleet.backend.requests(schedule.tag)
    assert second["started"] - first["started"] >= 3


async def test_its_own_retries_succeed_after_503() -> None:
    schedule = Schedule()
    with Fleet(workers=1, start=False, settings={"GATEWAY_QUEUE_TIMEOUT": "0"}) as fleet:
        for process in (fleet.backend, fleet.host, fleet.gateway):
            process.start()
        await asyncio.to_thread(wait_until, lambda: fleet.readiness()[0] == 503, 30, "/readyz is 503")
        async with AsyncOpenAI(base_url=f"{fleet.url}/v1", api_key="none", max_retries=20) as patient:
            asked = asyncio.create_task(patient.chat.completions.create(model="test", messages=asking(schedule)))
            await eventually(lambda: "status=503" in fleet.gateway.log(), what="a refusal")
            fleet.workers[0].start()
            completion = await asked
    assert completion.choices[0].message.content == reply_text(schedule)


# ---------------------------------------------------------------- leaving


def test_leaving_a_stream_closes_the_models_connection(client: OpenAI, fleet: Fleet) -> None:
    schedule = Schedule(tag=tag(), tokens=100_000, delay=0.01)
    with client.chat.completions.create(model="test", messages=asking(schedule), stream=True) as stream:
        for _, _chunk in zip(range(3), stream, strict=False):
            pass
    wait_until(lambda: fleet.backend.request(schedule.tag or "")["closed"], SOON, "the model's connection is closed")


def test_the_request_id_of_the_client_comes_back(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model="test", messages=asking("Hello"), extra_headers={"x-request-id": "order-7.1:a"}
    )
    assert completion._request_id == "order-7.1:a"


# ---------------------------------------------------------------- the asynchronous client


async def test_async_replies_stream_side_by_side(async_client: AsyncOpenAI) -> None:
    async def ask(schedule: Schedule) -> str:
        stream = await async_client.chat.completions.create(model="test", messages=asking(schedule), stream=True)
        return text_of([chunk async for chunk in stream])

    schedules = [Schedule(tokens=50, delay=0.005) for _ in range(20)]
    replies = await asyncio.gather(*[ask(schedule) for schedule in schedules])
    assert replies == [reply_text(schedule) for schedule in schedules]


async def test_async_tools_round_trip(async_client: AsyncOpenAI, fleet: Fleet) -> None:
    question = tools_question()
    turns: list[Any] = list(asking(question))
    async with async_client.chat.completions.stream(model="test", messages=turns, tools=TOOLS[:1]) as stream:
        message = (await stream.get_final_completion()).choices[0].message
    turns += [message, {"role": "tool", "tool_call_id": CALL["id"], "content": RESULT}]
    completion = await async_client.chat.completions.create(model="test", messages=turns, tools=TOOLS[:1])
    assert completion.choices[0].message.content == question.text
    asked, answered = fleet.backend.requests(question.tag)[-1]["body"]["messages"][-2:]
    assert asked == message.to_dict(mode="json"), "with what the SDK's helper keeps in it"
    assert answered == turns[-1]


async def test_async_structured_reply_is_parsed(async_client: AsyncOpenAI) -> None:
    schedule = Schedule(text=PERSON.model_dump_json())
    completion = await async_client.chat.completions.parse(
        model="test", messages=asking(schedule), response_format=Person
    )
    assert completion.choices[0].message.parsed == PERSON


async def test_async_errors_are_raised(async_client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await async_client.chat.completions.create(model="no-such", messages=asking("Hello"))
    stream = await async_client.chat.completions.create(
        model="test", messages=asking(Schedule(error_after=3)), stream=True
    )
    with pytest.raises(openai.APIError, match="the model broke"):
        _ = [chunk async for chunk in stream]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_cancelling_a_task_closes_the_models_connection(
    async_client: AsyncOpenAI, fleet: Fleet, stream: bool
) -> None:
    schedule = Schedule(tag=tag(), tokens=100_000, delay=0.01)

    async def ask() -> None:
        answer: Any = await async_client.chat.completions.create(model="test", messages=asking(schedule), stream=stream)
        async for _ in answer:
            pass

    asked = asyncio.create_task(ask())
    await eventually(
        lambda: [record for record in fleet.backend.requests(schedule.tag) if record["first_token"] or not stream]
    )
    asked.cancel()
    await eventually(
        lambda: fleet.backend.request(schedule.tag or "")["closed"], what="the model's connection is closed"
    )


@pytest.mark.parametrize("deployment", [None, "other"])
def test_azures_client_names_the_model_in_its_path(fleet: Fleet, deployment: str | None) -> None:
    schedule = Schedule(tokens=5)
    options: dict[str, Any] = {} if deployment is None else {"azure_deployment": deployment}
    with AzureOpenAI(azure_endpoint=fleet.url, api_key="none", api_version="2024-10-21", **options) as client:
        completion = client.chat.completions.create(model="other", messages=asking(schedule))
    assert (completion.choices[0].message.content, completion.model) == (reply_text(schedule), "other")


def test_an_api_that_is_not_there_is_a_sentence_and_no_unknown_model(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no Responses API: use chat completions") as refused:
        client.responses.create(model="test", input="hi")
    assert refused.value.code == "unknown_url"


def test_a_base_url_without_v1_is_told(fleet: Fleet) -> None:
    with (
        OpenAI(base_url=fleet.url, api_key="none", max_retries=0, timeout=30) as client,
        pytest.raises(openai.UnprocessableEntityError, match="/v1"),
    ):
        client.chat.completions.create(model="test", messages=asking("hi"))

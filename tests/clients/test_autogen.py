"""AutoGen's own ``OpenAIChatCompletionClient``, as it comes, with us for its model."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import openai
import pytest
from autogen_core import FunctionCall
from autogen_core.models import (
    AssistantMessage,
    CreateResult,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    ModelInfo,
    UserMessage,
)
from autogen_core.tools import ToolSchema
from autogen_ext.models.openai import OpenAIChatCompletionClient
from pydantic import BaseModel

from tests.clients.flows import CALL, RESULT, SECOND_CALL, WEATHER, assert_took_the_round_trip, tag, tools_question
from tests.harness.fleet import Fleet
from tests.schedule import Schedule, reasoning_tokens, reply_text

INFO = ModelInfo(vision=True, function_calling=True, json_output=True, structured_output=True, family="unknown")
USAGE = {"prompt_tokens": 11, "completion_tokens": 7}
TOOL = cast("ToolSchema", WEATHER["function"])


@pytest.fixture
async def client(fleet: Fleet) -> AsyncIterator[OpenAIChatCompletionClient]:
    client = OpenAIChatCompletionClient(
        model="test", base_url=f"{fleet.url}/v1", api_key="none", max_retries=0, model_info=INFO
    )
    yield client
    await client.close()


def asking(question: Schedule) -> list[LLMMessage]:
    return [UserMessage(content=question.message(), source="user")]


async def streamed(client: OpenAIChatCompletionClient, turns: Sequence[LLMMessage], **how: Any) -> CreateResult:
    """The result at the stream's end, once its text is what was streamed before."""
    *pieces, result = [piece async for piece in client.create_stream(turns, include_usage=True, **how)]
    assert isinstance(result, CreateResult)
    if isinstance(result.content, str):
        assert "".join(str(piece) for piece in pieces).endswith(result.content)
    return result


async def whole(client: OpenAIChatCompletionClient, turns: Sequence[LLMMessage], **how: Any) -> CreateResult:
    return await client.create(turns, **how)


@pytest.mark.parametrize("ask", [streamed, whole])
async def test_it_takes_replies(client: OpenAIChatCompletionClient, ask: Any) -> None:
    schedule = Schedule(tokens=300, usage=USAGE)
    result = await ask(client, asking(schedule))
    assert (result.content, result.finish_reason) == (reply_text(schedule), "stop")
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (11, 7)


@pytest.mark.parametrize("ask", [streamed, whole])
async def test_a_tools_round_trip(client: OpenAIChatCompletionClient, fleet: Fleet, ask: Any) -> None:
    question = tools_question(CALL, SECOND_CALL)
    turns = asking(question)
    result = await ask(client, turns, tools=[TOOL])
    assert result.content == [FunctionCall(**CALL), FunctionCall(**SECOND_CALL)]
    assert result.finish_reason == "function_calls"
    results = [
        FunctionExecutionResult(content=RESULT, name=CALL["name"], call_id=CALL["id"]),
        FunctionExecutionResult(content="noon", name=SECOND_CALL["name"], call_id=SECOND_CALL["id"]),
    ]
    turns += [
        AssistantMessage(content=result.content, source="assistant"),
        FunctionExecutionResultMessage(content=results),
    ]
    assert (await ask(client, turns, tools=[TOOL])).content == question.text
    assert_took_the_round_trip(
        fleet.backend.requests(question.tag),
        question.message(),
        CALL | {"result": RESULT},
        SECOND_CALL | {"result": "noon"},
    )


class Weather(BaseModel):
    """What a reply is parsed into."""

    city: str
    degrees: float


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # between AutoGen and the SDK
async def test_it_asks_for_structured_output(client: OpenAIChatCompletionClient, fleet: Fleet) -> None:
    weather = Weather(city="Zürich", degrees=23.5)
    schedule = Schedule(tag=tag(), text=weather.model_dump_json())
    result = await client.create(asking(schedule), json_output=Weather)
    assert Weather.model_validate(json.loads(str(result.content))) == weather
    asked = fleet.backend.request(schedule.tag or "")["body"]["response_format"]
    assert asked["json_schema"]["name"] == "Weather"


async def test_it_finds_the_reasoning(client: OpenAIChatCompletionClient) -> None:
    schedule = Schedule(reasoning=5)
    result = await streamed(client, asking(schedule))
    assert (result.thought, result.content) == ("".join(reasoning_tokens(schedule)), reply_text(schedule))


async def test_errors_are_the_sdks(client: OpenAIChatCompletionClient) -> None:
    with pytest.raises(openai.BadRequestError, match="model answers 400"):
        await client.create(asking(Schedule(status=400)))
    with pytest.raises(openai.APIError, match="the model broke"):
        await streamed(client, asking(Schedule(error_after=3)))

"""Requests that are converted in steps are what AutoGen makes in one."""

import asyncio
from typing import Any

import orjson
import pytest
from autogen_core import FunctionCall
from autogen_core.models import (
    AssistantMessage,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    ModelInfo,
    SystemMessage,
    UserMessage,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from worker.contract import options
from worker.openai.client import StreamingOpenAIClient
from worker.openai.request import STEP, build

SYSTEM = SystemMessage(content="s")
USER = UserMessage(content="hi", source="user")
MANY = UserMessage(content=["part"] * 40, source="user")
ASSISTANT = AssistantMessage(content="ok  ", source="a")
CALLS = AssistantMessage(content=[FunctionCall(id="1", name="f", arguments="{}")], source="a")
RESULT = FunctionExecutionResultMessage(
    content=[FunctionExecutionResult(content="42", name="f", call_id="1", is_error=False)]
)


def client(model: str, several_system_messages: bool) -> StreamingOpenAIClient:
    info = ModelInfo(
        vision=True,
        function_calling=True,
        json_output=True,
        family="unknown",
        structured_output=True,
        multiple_system_messages=several_system_messages,
    )
    return StreamingOpenAIClient(model=model, api_key="k", model_info=info)


CLIENTS = [client(model, several) for model in ("m", "claude-3") for several in (True, False)]


async def made(model: StreamingOpenAIClient, messages: list[LLMMessage], **extra: Any) -> Any:
    return await build(model, Turns(), messages, (), "auto", None, extra)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(CLIENTS),
    st.lists(
        st.tuples(st.sampled_from([SYSTEM, USER, MANY, ASSISTANT, CALLS, RESULT]), st.integers(1, STEP)),
        min_size=1,
        max_size=6,
    ),
)
async def test_steps_make_what_one_step_makes(model: StreamingOpenAIClient, runs: list[tuple[LLMMessage, int]]) -> None:
    messages = [message.model_copy() for message, count in runs for _ in range(count)]
    refused = None
    try:
        expected: Any = model._process_create_args([one.model_copy() for one in messages], (), "auto", None, {})
    except ValueError as error:
        refused = error
    if refused is not None:
        with pytest.raises(ValueError, match=str(refused)[:20]):
            await made(model, messages)
        return
    request = await made(model, messages)
    assert request == expected.create_args | {"messages": expected.messages}


async def test_schemas_are_sent_as_the_client_wrote_them() -> None:
    text = '{"properties": {"a": 1}}'
    given = pb.ChatOptions(
        tools=[pb.Tool(name="f", parameters=text)],
        tool_choice="tool:f",
        response_format='{"type":"json_object"}',
        extra='{"stop":["x"],"temperature":0.5}',
    )
    async with Turns().turn() as turn:
        arguments = await options.arguments(given, turn, as_text=True)
    request = await build(
        CLIENTS[0], Turns(), [USER], arguments["tools"], arguments["tool_choice"], None, arguments["extra_create_args"]
    )
    assert set(request) == {"model", "temperature", "tool_choice", "messages", "tools", "response_format", "stop"}
    assert text.encode() in orjson.dumps(request)


async def test_other_clients_get_schemas_as_objects() -> None:
    said = pb.ChatOptions(tools=[pb.Tool(name="f", parameters='{"a": 1}')], response_format='{"type": "json_object"}')
    async with Turns().turn() as turn:
        arguments = await options.arguments(said, turn, as_text=False)
    assert arguments["tools"][0].schema["parameters"] == {"a": 1}
    assert arguments["extra_create_args"] == {"response_format": {"type": "json_object"}}


async def test_few_messages_of_many_parts_wait_for_their_turn() -> None:
    turns = Turns()
    parts: list[LLMMessage] = [UserMessage(content=["part"] * 1000, source="user")] * 3
    turn = turns.turn()
    await turn.__aenter__()
    building = asyncio.create_task(build(CLIENTS[0], turns, parts, (), "auto", None, {}))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not building.done()
    await turn.__aexit__()
    assert len((await building)["messages"]) == 3

"""OpenAI's requests."""

import json
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.faces.face import Asked
from gateway.faces.openai.request import read
from protos import chat_pb2 as pb
from tests.unit.gateway.faces.test_body import body_of

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


async def asked(text: bytes) -> Asked:
    return await read(body_of(text), "r", "default")


async def made(**fields: Any) -> pb.ChatHistory:
    body = {"model": "m", "messages": [USER], **fields}
    text = json.dumps(body).replace("Infinity", "1e999")  # which is JSON
    return (await asked(text.encode())).history


async def refusal(**fields: Any) -> GatewayError:
    with pytest.raises(GatewayError) as refused:
        await made(**fields)
    return refused.value


async def test_all_roles_have_their_place() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    history = await made(
        messages=[
            {"role": "system", "content": "a"},
            {"role": "developer", "content": [{"type": "text", "text": "b"}]},
            {"role": "user", "content": "c", "name": "tory"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "42"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        ]
    )
    turns = history.messages
    assert [turn.role for turn in turns] == [
        pb.ROLE_SYSTEM,
        pb.ROLE_SYSTEM,
        pb.ROLE_USER,
        pb.ROLE_ASSISTANT,
        pb.ROLE_TOOL,
        pb.ROLE_ASSISTANT,
    ]
    assert turns[2].source == "tory"
    assert turns[3].tool_calls[0] == pb.ToolCall(id="1", name="f", arguments="{}")
    assert turns[4].tool_results[0] == pb.ToolResult(call_id="1", name="f", content="42")
    assert turns[5].content[0].text == "no"


async def test_images_come_by_url_or_as_data() -> None:
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "https://x.example/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
    ]
    content = (await made(messages=[{"role": "user", "content": parts}])).messages[0].content
    assert content[0].text == "look"
    assert content[1].image == pb.Image(url="https://x.example/a.png", detail="low")
    assert content[2].image.url == "data:image/png;base64,QUJD"


async def test_tools_and_options_are_passed_on() -> None:
    history = await made(
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "f"}},
        temperature=0.5,
        max_tokens=3,
        stop=["x"],
        seed=1,
        user="u",
        metadata={"a": "b"},
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    )
    options = history.options
    assert options.tool_choice == "tool:f"
    assert json.loads(options.tools[0].parameters) == {"type": "object"}
    assert json.loads(options.response_format)["json_schema"]["schema"] == {"type": "object"}
    assert json.loads(options.extra) == {
        "temperature": 0.5,
        "max_tokens": 3,
        "stop": ["x"],
        "seed": 1,
        "user": "u",
        "metadata": {"a": "b"},
    }


async def test_without_options_nothing_is_said() -> None:
    assert (await made()).options == pb.ChatOptions()
    assert (await made(response_format={"type": "text"})).options == pb.ChatOptions()


WHERE = ("response_format", "not finite")


@pytest.mark.parametrize(
    ("fields", "status", "param", "said"),
    [
        ({"messages": []}, 422, "messages", "messages must not be empty"),
        ({"messages": [{"role": "user"}]}, 422, "messages[0].content", "is missing"),
        ({"messages": [{"content": "a"}]}, 422, "messages[0]", "needs one of"),
        ({"messages": [{"role": "robot", "content": "a"}]}, 422, "messages[0]", "'robot'"),
        ({"messages": [{"role": "user", "content": 5}]}, 422, "messages[0].content", "must be a list"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            422,
            "messages[0].content[0]",
            "'input_audio'",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}]},
            422,
            "messages[0].content[0].image_url.url",
            "",
        ),
        ({"n": 2}, 400, "n", "n: only one choice"),
        ({"functions": []}, 400, "functions", "tools"),
        ({"modalities": ["audio"]}, 400, "modalities", "only text"),
        ({"temperature": 3}, 422, "temperature", "less than or equal to 2"),
        ({"max_tokens": 0}, 422, "max_tokens", ""),
        ({"seed": 10**30}, 422, "seed", ""),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, 422, "tools[0].function.name", ""),
        ({"tool_choice": "maybe"}, 422, "tool_choice", ""),
        ({"tool_choice": "required"}, 422, "tool_choice", "there are no tools"),
        ({"tool_choice": {"type": "function", "function": {"name": "g"}}}, 422, "tool_choice", "'g'"),
        ({"response_format": {"type": "xml"}}, 422, "response_format.type", ""),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": float("inf")}}}]},
            422,
            "tools[0].function.parameters",
            "not finite",
        ),
        *(
            ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "x": number}}}, 422, *WHERE)
            for number in (10**309, -(10**309))
        ),
    ],
)
async def test_what_is_wrong_is_named(fields: dict[str, Any], status: int, param: str, said: str) -> None:
    error = await refusal(**fields)
    assert (error.status, error.param) == (status, param)
    assert said in error.message
    assert "=" not in error.message.partition(":")[0]


async def test_unknown_fields_are_ignored_and_known_to_be() -> None:
    completion = await asked(json.dumps({"messages": [USER], "store": True, "x": 1}).encode())
    assert completion.ignored == ["store", "x"]

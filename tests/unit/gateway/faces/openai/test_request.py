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
            {"role": "function", "name": "g", "content": "43"},
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
        pb.ROLE_TOOL,
    ]
    assert (turns[0].extra, turns[1].extra) == ("", '{"role":"developer"}')
    assert turns[2].source == "tory"
    assert turns[3].tool_calls[0] == pb.ToolCall(id="1", name="f", arguments="{}")
    assert turns[4].tool_results[0] == pb.ToolResult(call_id="1", name="f", content="42")
    assert json.loads(turns[5].content[0].other) == {"type": "refusal", "refusal": "no"}
    assert turns[6].tool_results[0] == pb.ToolResult(name="g", content="43")


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


async def test_a_result_in_parts_is_also_one_text_unless_it_is_long() -> None:
    """For workers of the version before, which know no parts."""
    for size, joined in ((1, "ab"), (2**20, "")):
        parts = [{"type": "text", "text": text * size} for text in "ab"]
        turn = {"role": "tool", "tool_call_id": "1", "content": parts}
        message = (await made(messages=[turn])).messages[0]
        assert [part.text[:1] for part in message.content] == ["a", "b"]
        assert message.tool_results[0].content == joined


WHERE = ("response_format", "not finite")


@pytest.mark.parametrize(
    ("fields", "status", "param", "said"),
    [
        ({"messages": []}, 422, "messages", "messages must not be empty"),
        ({"messages": [{"role": "user"}]}, 422, "messages[0].content", "is missing"),
        ({"messages": [{"content": "a"}]}, 422, "messages[0]", "needs one of"),
        ({"messages": [{"role": "robot", "content": "a"}]}, 422, "messages[0]", "'robot'"),
        ({"messages": [{"role": "user", "content": 5}]}, 422, "messages[0].content", "must be a list"),
        ({"messages": [{"role": "user", "content": [{"text": "a"}]}]}, 422, "messages[0].content[0]", "needs one of"),
        ({"messages": [{"role": "user", "content": ["a"]}]}, 422, "messages[0].content[0]", ""),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}]},
            422,
            "messages[0].content[0].image_url.url",
            "must be a URL",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"arguments": "{}"}}]}]},
            422,
            "messages[0].tool_calls[0].function.name",
            "is missing",
        ),
        ({"messages": [{"role": "tool", "content": "a"}]}, 422, "messages[0].tool_call_id", "is missing"),
        ({"n": 2}, 400, "n", "n: only one choice"),
        ({"n": 0}, 400, "n", "n: only one choice"),
        ({"temperature": "hot"}, 422, "temperature", ""),
        ({"temperature": float("inf")}, 422, "temperature", "not finite"),
        ({"max_tokens": 1.5}, 422, "max_tokens", ""),
        ({"tools": ["f"]}, 422, "tools[0]", ""),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, 422, "tools[0].function.name", "not be empty"),
        ({"tools": [{"type": "function"}]}, 422, "tools[0].function", "is missing"),
        ({"tool_choice": 1}, 422, "tool_choice", "must be a string or an object"),
        ({"response_format": "json"}, 422, "response_format", "must be an object"),
        ({"response_format": {}}, 422, "response_format.type", "is missing"),
        ({"top_k": float("inf")}, 422, "top_k", "not finite"),
        ({"messages": [{**USER, "x": [float("inf")]}]}, 422, "messages[0].x", "not finite"),
        ({f"x{number}": 1 for number in range(1000)}, 422, None, "1,002 entries where 1,000 are allowed"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": float("inf")}}}]},
            422,
            "tools[0].function.parameters",
            "not finite",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": "none"}}]},
            422,
            "tools[0].function.parameters",
            "must be an object",
        ),
        *(
            ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "x": number}}}, 422, *WHERE)
            for number in (10**309, -(10**309))
        ),
    ],
)
async def test_what_is_wrong_is_named(fields: dict[str, Any], status: int, param: str | None, said: str) -> None:
    error = await refusal(**fields)
    assert (error.status, error.param) == (status, param)
    assert said in error.message
    assert "=" not in error.message.partition(":")[0]

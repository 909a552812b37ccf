"""Requests put together again."""

from typing import Any

import orjson

from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from worker.contract.body import body


async def made(request: pb.ChatHistory, system_message: str = "", *, as_text: bool = False) -> Any:
    async with Turns().turn() as turn:
        found = await body(request, system_message, turn, as_text=as_text)
    return orjson.loads(orjson.dumps(found)) if as_text else found


def history(*messages: pb.ChatMessage, **options: Any) -> pb.ChatHistory:
    return pb.ChatHistory(messages=messages, options=pb.ChatOptions(**options))


def text(role: pb.Role, source: str, *texts: str, **fields: Any) -> pb.ChatMessage:
    return pb.ChatMessage(role=role, source=source, content=[pb.ContentPart(text=one) for one in texts], **fields)


async def test_the_seeds_conversation_and_nothing_else() -> None:
    request = history(text(pb.ROLE_USER, "user", "hi"), text(pb.ROLE_ASSISTANT, "writer", "hello"))
    assert await made(request, "be kind") == {
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "hello"},
        ]
    }


async def test_a_request_of_the_version_before() -> None:
    """Its gateway knew neither extras nor shapes."""
    image = pb.ContentPart(image=pb.Image(url="https://x.example/a", detail="low"))
    call = pb.ToolCall(id="1", name="f", arguments="{}")
    result = pb.ToolResult(call_id="1", name="f", content="42")
    request = history(
        pb.ChatMessage(role=pb.ROLE_USER, source="tory", content=[pb.ContentPart(text="look"), image]),
        text(pb.ROLE_ASSISTANT, "assistant", "", tool_calls=[call]),
        pb.ChatMessage(role=pb.ROLE_TOOL, source="f", tool_results=[result]),
        tools=[pb.Tool(name="f", description="d", parameters='{"type": "object"}', strict=True), pb.Tool(name="g")],
        tool_choice="tool:f",
        response_format='{"type": "json_object"}',
        extra='{"temperature": 0.5}',
    )
    shown = {"type": "image_url", "image_url": {"url": "https://x.example/a", "detail": "low"}}
    called = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
    for as_text in (True, False):
        assert await made(request, as_text=as_text) == {
            "messages": [
                {"role": "user", "name": "tory", "content": [{"type": "text", "text": "look"}, shown]},
                {"role": "assistant", "content": None, "tool_calls": [called]},
                {"role": "tool", "tool_call_id": "1", "content": "42"},
            ],
            "tools": [{"type": "function", "function": function}, {"type": "function", "function": {"name": "g"}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": {"type": "json_object"},
            "temperature": 0.5,
        }


async def test_extras_are_put_in_and_merged() -> None:
    call = pb.ToolCall(id="1", name="f", arguments="{}", extra='{"extra_content": {"s": "x"}, "function": {"y": 1}}')
    custom = pb.ToolCall(id="2", extra='{"type": "custom", "custom": {"name": "c", "input": "i"}}')
    part = pb.ContentPart(image=pb.Image(url="u"), extra='{"image_url": {"format": "png"}, "cache_control": {}}')
    file = pb.ContentPart(other='{"type": "file"}')
    request = history(
        text(pb.ROLE_SYSTEM, "system", "a", extra='{"role": "developer"}', shape=pb.CONTENT_SHAPE_PARTS),
        pb.ChatMessage(role=pb.ROLE_USER, source="user", content=[part, file], shape=pb.CONTENT_SHAPE_PARTS),
        pb.ChatMessage(
            role=pb.ROLE_ASSISTANT,
            tool_calls=[call, custom],
            extra='{"reasoning_content": "hm", "refusal": null}',
            shape=pb.CONTENT_SHAPE_ABSENT,
        ),
        tools=[
            pb.Tool(name="f", extra='{"cache_control": {}, "function": {"strict": false}}'),
            pb.Tool(other='{"type": "web"}'),
        ],
        other='{"top_k": 5, "stop": null, "stream_options": {"x": 1}}',
    )
    for as_text in (True, False):
        assert await made(request, as_text=as_text) == {
            "messages": [
                {"role": "developer", "content": [{"type": "text", "text": "a"}]},
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "u", "format": "png"}, "cache_control": {}},
                        {"type": "file"},
                    ],
                },
                {
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": "1",
                            "type": "function",
                            "function": {"name": "f", "arguments": "{}", "y": 1},
                            "extra_content": {"s": "x"},
                        },
                        {"id": "2", "type": "custom", "custom": {"name": "c", "input": "i"}},
                    ],
                    "reasoning_content": "hm",
                    "refusal": None,
                },
            ],
            "tools": [
                {"type": "function", "function": {"name": "f", "strict": False}, "cache_control": {}},
                {"type": "web"},
            ],
            "top_k": 5,
            "stop": None,
            "stream_options": {"x": 1},
        }


async def test_a_file_of_the_fleet_is_a_data_url() -> None:
    part = pb.ContentPart(image=pb.Image(data=b"ABC", media_type="image/gif"))
    request = history(pb.ChatMessage(role=pb.ROLE_USER, content=[part]))
    shown = (await made(request))["messages"][0]["content"][0]
    assert shown == {"type": "image_url", "image_url": {"url": "data:image/gif;base64,QUJD"}}

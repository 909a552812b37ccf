"""A ``ChatHistory`` as the body of an OpenAI chat completion request: what the client wrote, and nothing else.

``protos/chat.proto`` says how the parts of a request are put together again.
"""

from base64 import b64encode
from collections.abc import Iterable
from typing import Any

import msgspec
import orjson
from msgspec import Raw

from fleet.process.turns import Turn, loads
from protos import chat_pb2 as pb

Json = dict[str, Any]

NAMED = "tool:"
"""Before the name of the one tool that the model must call."""

ROLES = {pb.ROLE_SYSTEM: "system", pb.ROLE_USER: "user", pb.ROLE_ASSISTANT: "assistant", pb.ROLE_TOOL: "tool"}

_NULL = Raw(b"null")
_OBJECT = ord("{")


async def body(request: pb.ChatHistory, system_message: str, turn: Turn, *, as_text: bool = False) -> Json:
    """The request's body without ``model`` and ``stream``, the model's own system message first.

    ``as_text`` leaves what the client wrote freely as :class:`orjson.Fragment`: schemas, unknown fields, unknown parts.
    ``stream_options`` is an object even then, because clients add to it.
    """
    reader = _Reader(as_text)
    options = request.options
    messages: list[Json] = [{"role": "system", "content": system_message}] if system_message else []
    for message in request.messages:
        await turn.pause()
        messages += await _messages(message, reader, turn)
    made: Json = {"messages": messages, "stream_options": {}}
    tools = []
    for tool in options.tools:
        await turn.pause()
        tools.append(_tool(tool, reader))
    if tools:
        made["tools"] = tools
    if options.tool_choice:
        made["tool_choice"] = _choice(options.tool_choice)
    if options.response_format:
        made["response_format"] = reader.value(options.response_format)
    await turn.pause()
    reader.put(reader.put(made, options.extra), options.other)
    if made["stream_options"] == {}:
        del made["stream_options"]
    return made


class _Reader:
    """Reads the JSON texts of a request, or leaves them for a client that only sends them on."""

    def __init__(self, as_text: bool) -> None:
        self._as_text = as_text

    def value(self, text: str | Raw) -> Any:
        if text == _NULL:
            return None
        if self._as_text:
            return orjson.Fragment(text if isinstance(text, str) else bytes(text))
        return loads(text if isinstance(text, str) else memoryview(text))

    def put(self, made: Json, extra: str | Raw) -> Json:
        """Put an object's members into ``made``; those of an object within it into the object that is there."""
        if extra:
            for name, text in msgspec.json.decode(extra, type=dict[str, Raw]).items():
                own = made.get(name)
                if isinstance(own, dict) and memoryview(text)[0] == _OBJECT:
                    self.put(own, text)
                else:
                    made[name] = self.value(text)
        return made


async def _messages(message: pb.ChatMessage, reader: _Reader, turn: Turn) -> list[Json]:
    """One message; of a tool turn, one for each of its results."""
    made = [_result(result) for result in message.tool_results] or [_said(message, reader)]
    if message.shape == pb.CONTENT_SHAPE_NULL:
        made[0]["content"] = None
    elif message.shape == pb.CONTENT_SHAPE_PARTS or not (
        message.tool_results or message.shape == pb.CONTENT_SHAPE_ABSENT
    ):
        made[0]["content"] = _content(message, await _parts(message.content, reader, turn))
    for one in made:
        reader.put(one, message.extra)
    return made


def _result(result: pb.ToolResult) -> Json:
    made = {"role": "tool", "content": result.content}
    if result.call_id:
        made["tool_call_id"] = result.call_id
    return made


def _said(message: pb.ChatMessage, reader: _Reader) -> Json:
    made: Json = {"role": ROLES.get(message.role, "user")}
    if message.role == pb.ROLE_USER and message.source not in ("", "user"):
        made["name"] = message.source
    if message.tool_calls:
        made["tool_calls"] = [_call(call, reader) for call in message.tool_calls]
    return made


def _content(message: pb.ChatMessage, parts: list[Any]) -> str | list[Any] | None:
    kinds = [part.WhichOneof("part") for part in message.content]
    if message.shape == pb.CONTENT_SHAPE_PARTS or kinds not in ([], ["text"]):
        return parts
    text = "".join(part.text for part in message.content)
    is_null = not text and message.tool_calls and message.shape == pb.CONTENT_SHAPE_UNSPECIFIED
    return None if is_null else text


async def _parts(parts: Iterable[pb.ContentPart], reader: _Reader, turn: Turn) -> list[Json]:
    found = []
    for part in parts:
        await turn.pause()
        found.append(_part(part, reader))
    return found


def _part(part: pb.ContentPart, reader: _Reader) -> Any:
    made: Json = {"type": "text", "text": part.text}
    match part.WhichOneof("part"):
        case "other":
            return reader.value(part.other)
        case "image":
            shown: Json = {"url": image_url(part.image)}
            if part.image.detail:
                shown["detail"] = part.image.detail
            made = {"type": "image_url", "image_url": shown}
    return reader.put(made, part.extra)


def _call(call: pb.ToolCall, reader: _Reader) -> Json:
    made: Json = {"type": "function"}
    if call.id:
        made["id"] = call.id
    if call.name:  # a custom call has none
        made["function"] = {"name": call.name, "arguments": call.arguments}
    return reader.put(made, call.extra)


def _tool(tool: pb.Tool, reader: _Reader) -> Any:
    if tool.other:
        return reader.value(tool.other)
    function: Json = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters:
        function["parameters"] = reader.value(tool.parameters)
    if tool.strict:
        function["strict"] = True
    return reader.put({"type": "function", "function": function}, tool.extra)


def _choice(choice: str) -> str | Json:
    if choice.startswith(NAMED):
        return {"type": "function", "function": {"name": choice.removeprefix(NAMED)}}
    return choice


def image_url(image: pb.Image) -> str:
    """Where an image is, or the image as a data URL."""
    if image.WhichOneof("source") == "url":
        return image.url
    return f"data:{image.media_type or 'image/png'};base64,{b64encode(image.data).decode()}"

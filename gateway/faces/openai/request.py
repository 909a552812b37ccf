"""Reads the body of ``POST /v1/chat/completions`` into a history and its options."""

from collections.abc import Callable
from typing import Any

import msgspec
import orjson
from msgspec import Raw
from pydantic import TypeAdapter

from fleet.process.turns import Turn
from gateway.errors import InvalidField, Unsupported
from gateway.faces.bodies import Body
from gateway.faces.body import MAX_MESSAGES, MAX_PARTS, NULL, Fields, Place, check, elements, members
from gateway.faces.face import Asked
from gateway.faces.openai.encoder import OpenAIFormat
from gateway.faces.openai.schema import (
    AssistantMessage,
    AssistantPart,
    CompletionBody,
    ImagePart,
    JsonSchema,
    Message,
    ModelOptions,
    NamedToolChoice,
    OnlyText,
    Parameters,
    RefusalPart,
    ResponseFormat,
    SystemMessage,
    TextPart,
    Tool,
    ToolMessage,
    UserMessage,
    UserPart,
)
from protos import chat_pb2 as pb

NAMED_TOOL = "tool:"

REFUSED = {
    "audio": "audio replies are not given here",
    "functions": "is the former form of tools, which must be used instead",
    "function_call": "is the former form of tool_choice, which must be used instead",
    "prediction": "predicted outputs are not supported here",
    "web_search_options": "the models here do not search the web",
}
"""Fields that cannot be ignored: that would change what the answer means."""

KNOWN = frozenset({*CompletionBody.model_fields, *REFUSED, "modalities"})
TEXT_ONLY = (b"[]", b'["text"]')

ENTRIES = frozenset({"logit_bias", "metadata"})

_MESSAGE: TypeAdapter[Message] = TypeAdapter(Message)
_USER_PART: TypeAdapter[UserPart] = TypeAdapter(UserPart)
_ASSISTANT_PART: TypeAdapter[AssistantPart] = TypeAdapter(AssistantPart)
_TEXT_PART: TypeAdapter[TextPart] = TypeAdapter(OnlyText)


async def read(body: Body, request_id: str, default_model: str) -> Asked:
    async with body.work() as turn:
        fields = Fields(body, KNOWN)
        _refuse(fields)
        for name in ENTRIES & fields.names:
            await turn.pause()
            members(fields.get(name), name)  # bounds it: pydantic validates every entry before it counts them
        await turn.pause()
        asked = fields.check(Parameters)
        await turn.pause()
        if asked.n not in (None, 1):
            raise Unsupported("n", "only one choice is given per request")
        history = pb.ChatHistory(request_id=request_id, model=asked.model or default_model)
        names: dict[str, str] = {}
        for index, text in enumerate(fields.items("messages", MAX_MESSAGES, needed=True)):
            await turn.pause()
            await _add_message(history.messages.add(), text, index, names, turn)
        for index, text in enumerate(fields.items("tools", MAX_PARTS)):
            await turn.pause()
            await _add_tool(history.options.tools.add(), fields, text, index, turn)
        await _set_options(history.options, fields, asked, turn)
        include_usage = bool(asked.stream_options and asked.stream_options.include_usage)

        def encoder(model: Callable[[], str]) -> OpenAIFormat:
            return OpenAIFormat(request_id, model, include_usage=include_usage)

        return Asked(history, bool(asked.stream), encoder, fields.ignored)


def _refuse(fields: Fields) -> None:
    for name in sorted(REFUSED.keys() & fields.names):
        if fields.get(name) is not None:
            raise Unsupported(name, REFUSED[name])
    modalities = fields.get("modalities")
    if modalities is not None and bytes(modalities).translate(None, b" \t\r\n") not in TEXT_ONLY:
        raise Unsupported("modalities", "only text is given")


async def _add_tool(made: pb.Tool, fields: Fields, text: Raw, index: int, turn: Turn) -> None:
    parameters = None
    where = f"tools[{index}]"
    tool = members(text, where) or {}
    function = members(tool.get("function"), f"{where}.function")
    if function is not None:
        parameters = function.pop("parameters", None)
        tool["function"] = Raw(msgspec.json.encode(function))
        text = Raw(msgspec.json.encode(tool))
    checked = check(Tool.model_validate_json, text, ("tools", index)).function
    made.name, made.description, made.strict = checked.name, checked.description or "", bool(checked.strict)
    made.parameters = await fields.passed_on(parameters, f"{where}.function.parameters", turn)


async def _set_options(options: pb.ChatOptions, fields: Fields, asked: Parameters, turn: Turn) -> None:
    if asked.tool_choice is not None:
        options.tool_choice = _tool_choice(asked.tool_choice, {tool.name for tool in options.tools})
    options.response_format = await _response_format(fields, turn)
    given = {name: value for name in ModelOptions.model_fields if (value := getattr(asked, name)) is not None}
    if given:
        options.extra = orjson.dumps(given).decode()


async def _response_format(fields: Fields, turn: Turn) -> str:
    """The response format as it was sent, without its null members; empty for text."""
    text = fields.get("response_format")
    if text is None:
        return ""
    given = {name: raw for name, raw in (members(text, "response_format") or {}).items() if raw != NULL}
    schema = members(given.get("json_schema"), "response_format.json_schema")
    if schema is not None:
        schema = {name: raw for name, raw in schema.items() if raw != NULL}
        given["json_schema"] = Raw(msgspec.json.encode(schema))
        named = {name: raw for name, raw in schema.items() if name in JsonSchema.model_fields}
        text = Raw(msgspec.json.encode(given | {"json_schema": named}))
    checked = check(ResponseFormat.model_validate_json, text, ("response_format",))
    if checked.type == "text":
        return ""
    own = {name: raw for name, raw in given.items() if name in ResponseFormat.model_fields}
    return await fields.passed_on(msgspec.json.encode(own), "response_format", turn)


def _tool_choice(choice: Any, tools: set[str]) -> str:
    if not isinstance(choice, NamedToolChoice):
        if choice == "required" and not tools:
            raise InvalidField("tool_choice is required but there are no tools", "tool_choice")
        return str(choice)
    name = choice.function.name
    if name not in tools:
        raise InvalidField(f"tool_choice.function.name: no tool is named {name[:100]!r}", "tool_choice")
    return NAMED_TOOL + name


async def _add_message(made: pb.ChatMessage, text: Raw, index: int, names: dict[str, str], turn: Turn) -> None:
    """Read one message into ``made``. ``names`` maps the ids of calls to their tools' names, for the results.

    The content, which may be most of the body, is checked part by part and not together with the rest.
    """
    where = f"messages[{index}]"
    place: Place = ("messages", index)
    content = None
    own = members(text, where)
    if own is not None:
        content = own.get("content")
        shape = memoryview(content)[:1].tobytes() if content is not None else b""
        if shape in _EMPTY:
            own["content"] = _EMPTY[shape]
            text = Raw(msgspec.json.encode(own))
    await turn.pause()
    message = check(_MESSAGE.validate_json, text, place)
    match message:
        case SystemMessage():
            made.role, made.source = pb.ROLE_SYSTEM, "system"
            await _add_parts(made, content, _TEXT_PART, place, turn)
        case UserMessage():
            made.role, made.source = pb.ROLE_USER, message.name or "user"
            await _add_parts(made, content, _USER_PART, place, turn)
        case AssistantMessage():
            made.role, made.source = pb.ROLE_ASSISTANT, message.name or "assistant"
            if message.content is None:
                made.content.add(text=message.refusal or "")
            else:
                await _add_parts(made, content, _ASSISTANT_PART, place, turn)
            for number, call in enumerate(message.tool_calls or ()):
                names[call.id] = call.function.name
                made.tool_calls.add(
                    id=call.id, name=call.function.name, arguments=call.function.arguments, index=number
                )
        case ToolMessage():
            call_id = message.tool_call_id
            made.role, made.source = pb.ROLE_TOOL, names.get(call_id, "tool")
            said = pb.ChatMessage()
            await _add_parts(said, content, _TEXT_PART, place, turn)
            result = "".join(part.text for part in said.content)
            made.tool_results.add(call_id=call_id, name=names.get(call_id, ""), content=result)


_EMPTY = {b'"': Raw(b'""'), b"[": Raw(b"[]")}


async def _add_parts(
    made: pb.ChatMessage, content: Raw | None, kind: TypeAdapter[Any], place: Place, turn: Turn
) -> None:
    assert content is not None, "the message was checked"
    if memoryview(content)[:1].tobytes() == b'"':
        made.content.add(text=msgspec.json.decode(content, type=str))
        return
    place = (*place, "content")
    for number, text in enumerate(elements(content, f"messages[{place[1]}].content", MAX_PARTS)):
        await turn.pause()
        match check(kind.validate_json, text, (*place, number)):
            case TextPart(text=said) | RefusalPart(refusal=said):
                made.content.add(text=said)
            case ImagePart(image_url=image):
                made.content.add(image=pb.Image(url=image.url, detail=image.detail or ""))

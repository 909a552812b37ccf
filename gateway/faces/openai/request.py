"""What ``POST /v1/chat/completions`` takes: OpenAI's request, as far as a fleet of AutoGen agents can serve it."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import orjson
from msgspec import Raw
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    Strict,
    StrictBool,
    StrictInt,
    StrictStr,
    Tag,
    TypeAdapter,
    WithJsonSchema,
)

from fleet.process.turns import Turn
from gateway.errors import InvalidField, Unsupported
from gateway.faces.bodies import Body
from gateway.faces.body import MAX_MESSAGES, MAX_PARTS, NULL, TAG, Fields, Place, check, elements, members
from protos import chat_pb2 as pb

INT64 = 2**63 - 1
NAME = r"^[A-Za-z0-9_-]{1,64}$"
NAMED_TOOL = "tool:"
Json = dict[str, Any]


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")


def _by_field(field: str) -> Discriminator:
    """Tells the members of a union apart by one field of theirs."""

    def tag(value: Any) -> str | None:
        found = value.get(field) if isinstance(value, dict) else getattr(value, field, None)
        return TAG + found if isinstance(found, str) else None

    return Discriminator(tag)


PARTS = Field(max_length=MAX_PARTS, fail_fast=True)


def _text_or(other: str) -> Discriminator:
    return Discriminator(lambda value: TAG + "text" if isinstance(value, str) else TAG + other)


class TextPart(_Model):
    """Text among other parts."""

    type: Literal["text"]
    text: StrictStr


class RefusalPart(_Model):
    """An earlier refusal of the model."""

    type: Literal["refusal"]
    refusal: StrictStr


class ImageUrl(_Model):
    """Where an image is, or the image itself as a data URL."""

    url: StrictStr = Field(pattern=r"^(https?://|data:image/[A-Za-z0-9.+-]+;base64,)")
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(_Model):
    """An image among other parts."""

    type: Literal["image_url"]
    image_url: ImageUrl


OnlyText = Annotated[Annotated[TextPart, Tag(TAG + "text")], _by_field("type")]
UserPart = Annotated[
    Annotated[TextPart, Tag(TAG + "text")] | Annotated[ImagePart, Tag(TAG + "image_url")], _by_field("type")
]
AssistantPart = Annotated[
    Annotated[TextPart, Tag(TAG + "text")] | Annotated[RefusalPart, Tag(TAG + "refusal")], _by_field("type")
]
Text = Annotated[
    Annotated[StrictStr, Tag(TAG + "text")] | Annotated[list[TextPart], PARTS, Tag(TAG + "parts")], _text_or("parts")
]
UserContent = Annotated[
    Annotated[StrictStr, Tag(TAG + "text")] | Annotated[list[UserPart], PARTS, Tag(TAG + "parts")], _text_or("parts")
]
AssistantContent = Annotated[
    Annotated[StrictStr, Tag(TAG + "text")] | Annotated[list[AssistantPart], PARTS, Tag(TAG + "parts")],
    _text_or("parts"),
]


class FunctionCall(_Model):
    """The function of a tool call."""

    name: StrictStr = Field(min_length=1, max_length=256)
    """Bounded, because each of the call's results is sent on with it."""
    arguments: StrictStr


class ToolCall(_Model):
    """A tool call that the model made earlier."""

    id: StrictStr = Field(min_length=1)
    type: Literal["function"] = "function"
    function: FunctionCall


class SystemMessage(_Model):
    """Instructions."""

    role: Literal["system", "developer"]
    content: Text
    name: StrictStr | None = None


class UserMessage(_Model):
    """What the user says or shows."""

    role: Literal["user"]
    content: UserContent
    name: StrictStr | None = None


class AssistantMessage(_Model):
    """What the model said, or the tools that it called."""

    role: Literal["assistant"]
    content: AssistantContent | None = None
    refusal: StrictStr | None = None
    name: StrictStr | None = None
    tool_calls: Annotated[list[ToolCall], PARTS] | None = None


class ToolMessage(_Model):
    """What a tool gave back."""

    role: Literal["tool"]
    content: Text
    tool_call_id: StrictStr = Field(min_length=1)


Message = Annotated[
    Annotated[SystemMessage, Tag(TAG + "system")]
    | Annotated[SystemMessage, Tag(TAG + "developer")]
    | Annotated[UserMessage, Tag(TAG + "user")]
    | Annotated[AssistantMessage, Tag(TAG + "assistant")]
    | Annotated[ToolMessage, Tag(TAG + "tool")],
    _by_field("role"),
]


class Function(_Model):
    """A function that the model may call."""

    name: StrictStr = Field(pattern=NAME)
    description: StrictStr | None = None
    parameters: Json | None = None
    strict: StrictBool | None = None


class Tool(_Model):
    """A tool that the model may call."""

    type: Literal["function"]
    function: Function


class FunctionName(_Model):
    """The name of a function."""

    name: StrictStr = Field(min_length=1)


class NamedToolChoice(_Model):
    """The one tool that the model must call."""

    type: Literal["function"]
    function: FunctionName


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag(TAG + "text")] | Annotated[NamedToolChoice, Tag(TAG + "tool")],
    _text_or("tool"),
]


class JsonSchema(_Model):
    """The schema that the reply must follow."""

    model_config = ConfigDict(extra="allow")

    name: StrictStr = Field(pattern=NAME)


class ResponseFormat(_Model):
    """The form that the reply must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(_Model):
    """How the stream tells what."""

    include_usage: StrictBool | None = None


Stop = Annotated[
    Annotated[StrictStr, Tag(TAG + "text")] | Annotated[list[StrictStr], PARTS, Tag(TAG + "list")], _text_or("list")
]


Number = Annotated[float, Strict()]
"""A number: without this, true and text that looks like a number would count as one."""

One = Annotated[StrictInt, WithJsonSchema({"type": "integer", "const": 1})]
"""Documented as what works; any other number is understood, so that it can be refused by name."""


class Parameters(BaseModel):
    """The fields that are checked together; none of them is large."""

    model: StrictStr | None = Field(default=None, max_length=1000)
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    n: One | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: StrictBool | None = None
    temperature: Number | None = Field(default=None, ge=0, le=2)
    top_p: Number | None = Field(default=None, ge=0, le=1)
    max_tokens: StrictInt | None = Field(default=None, ge=1, le=INT64)
    max_completion_tokens: StrictInt | None = Field(default=None, ge=1, le=INT64)
    stop: Stop | None = None
    seed: StrictInt | None = Field(default=None, ge=-INT64 - 1, le=INT64)
    presence_penalty: Number | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: Number | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, FiniteFloat] | None = Field(default=None, max_length=MAX_PARTS)
    logprobs: StrictBool | None = None
    top_logprobs: StrictInt | None = Field(default=None, ge=0, le=20)
    reasoning_effort: StrictStr | None = Field(default=None, max_length=100)
    user: StrictStr | None = Field(default=None, max_length=1000)
    metadata: dict[str, StrictStr] | None = Field(default=None, max_length=MAX_PARTS)


class CompletionBody(Parameters):
    """OpenAI's chat completion request. Fields that are not named here are ignored, and counted."""

    model_config = ConfigDict(extra="allow")

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    tools: Annotated[list[Tool], PARTS] | None = None
    response_format: ResponseFormat | None = None


PASSED_ON = (
    "parallel_tool_calls",
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "reasoning_effort",
    "user",
    "metadata",
)
"""Fields that go to the model as they are, where they are given."""

REFUSED = {
    "audio": "audio replies are not given here",
    "functions": "is the former form of tools, which must be used instead",
    "function_call": "is the former form of tool_choice, which must be used instead",
    "prediction": "predicted outputs are not supported here",
    "web_search_options": "the models here do not search the web",
}
"""Fields whose being ignored would change what the answer means."""

KNOWN = frozenset({*CompletionBody.model_fields, *REFUSED, "modalities"})
TEXT_ONLY = (b"[]", b'["text"]')

ENTRIES = frozenset({"logit_bias", "metadata"})

_MESSAGE: TypeAdapter[Message] = TypeAdapter(Message)
_USER_PART: TypeAdapter[UserPart] = TypeAdapter(UserPart)
_ASSISTANT_PART: TypeAdapter[AssistantPart] = TypeAdapter(AssistantPart)
_TEXT_PART: TypeAdapter[TextPart] = TypeAdapter(OnlyText)


@dataclass(frozen=True)
class Completion:
    """A request that can be served."""

    history: pb.ChatHistory
    stream: bool
    include_usage: bool
    """Whether the stream ends with a chunk that has the usage."""
    ignored: list[str]
    """Names of fields that are not known here."""


async def read(body: Body, request_id: str, default_model: str) -> Completion:
    """What ``body`` asks for. Raises a :class:`GatewayError` that names the field at fault."""
    async with body.work() as turn:
        fields = Fields(body.text, KNOWN, finite=body.outline.finite)
        _refuse(fields)
        for name in ENTRIES & fields.names:
            await turn.pause()
            members(fields.get(name), name)  # pydantic looks at every entry, and keeps every fault, before it counts
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
        return Completion(history, bool(asked.stream), include_usage, fields.ignored)


def _refuse(fields: Fields) -> None:
    for name in sorted(REFUSED.keys() & fields.names):
        if fields.get(name) is not None:
            raise Unsupported(name, REFUSED[name])
    modalities = fields.get("modalities")
    if modalities is not None and bytes(modalities).translate(None, b" \t\r\n") not in TEXT_ONLY:
        raise Unsupported("modalities", "only text is given")


async def _add_tool(made: pb.Tool, fields: Fields, text: Raw, index: int, turn: Turn) -> None:
    """Make a tool what ``text`` says; its parameters stay as they were sent."""
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
    given = {name: value for name in PASSED_ON if (value := getattr(asked, name)) is not None}
    if given:
        options.extra = orjson.dumps(given).decode()


async def _response_format(fields: Fields, turn: Turn) -> str:
    """The form as it was sent, without what is null; empty for text."""
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
    """Make one turn what ``text`` says; ``names`` remembers which tool a call's id belongs to.

    Its content, which may be all of the body, is left out of the check and goes straight to its place.
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

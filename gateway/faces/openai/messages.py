"""Reads the messages of a chat completion request: what the wire has fields for, and the rest as the JSON it was.

:mod:`worker.contract.body` puts a message together again.
"""

from contextlib import suppress
from typing import Literal

import msgspec
from msgspec import Raw
from pydantic import TypeAdapter

from fleet.process.turns import Turn
from gateway.faces.body import (
    MAX_PARTS,
    Fields,
    Members,
    Place,
    check,
    elements,
    first,
    members,
    only,
    within,
    without,
)
from gateway.faces.openai.schema import (
    AssistantMessage,
    FunctionMessage,
    FunctionToolCall,
    ImagePart,
    ImageUrl,
    Message,
    Part,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from protos import chat_pb2 as pb


class _PlainText(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["text"]
    text: str


class _Plain(msgspec.Struct, forbid_unknown_fields=True):
    """A message of text alone, as most are."""

    role: Literal["system", "user", "assistant"]
    content: str


_plain = msgspec.json.Decoder(_Plain)
_plain_text = msgspec.json.Decoder(_PlainText)
"""Both tell at once, without pydantic's pass, that there is nothing else to read: a tenth of the time."""

_MESSAGE: TypeAdapter[Message] = TypeAdapter(Message)
_PART: TypeAdapter[Part] = TypeAdapter(Part)
_CALL: TypeAdapter[ToolCall] = TypeAdapter(ToolCall)

CHECKED = ("role", "content", "name", "refusal", "tool_calls", "tool_call_id")

SHAPES = {b'"': pb.CONTENT_SHAPE_TEXT, b"[": pb.CONTENT_SHAPE_PARTS, b"n": pb.CONTENT_SHAPE_NULL}
"""By the first byte of a content."""

ROLES = {
    pb.ROLE_SYSTEM: Raw(b'"system"'),
    pb.ROLE_USER: Raw(b'"user"'),
    pb.ROLE_ASSISTANT: Raw(b'"assistant"'),
    pb.ROLE_TOOL: Raw(b'"tool"'),
}
"""What a worker calls them if it is told nothing else."""

PLAIN = {"system": pb.ROLE_SYSTEM, "user": pb.ROLE_USER, "assistant": pb.ROLE_ASSISTANT}

_EMPTY = {b'"': Raw(b'""'), b"[": Raw(b"[]")}

JOINED = 1024 * 1024
"""Characters of a result's parts that are sent as one text too, for workers of the version before."""


class MessageReader:
    """Reads the messages of one request, each into a ``pb.ChatMessage``."""

    def __init__(self, fields: Fields, turn: Turn) -> None:
        self._fields = fields
        self._turn = turn
        self._names: dict[str, str] = {}
        """Names of tools by the ids of their calls, for the results."""

    async def read(self, made: pb.ChatMessage, text: Raw, index: int) -> None:
        """The content and the calls, which may be most of the body, are checked one by one and not with the rest."""
        with suppress(msgspec.ValidationError):
            plain = _plain.decode(text)
            made.role, made.source = PLAIN[plain.role], plain.role
            made.shape = pb.CONTENT_SHAPE_TEXT
            made.content.add(text=plain.content)
            return
        place = ("messages", index)
        rest = members(text, place) or {}
        small = only(rest, *CHECKED)
        for name in small.keys() & {"content", "tool_calls"}:
            small[name] = _EMPTY.get(first(small[name]), small[name])
        await self._turn.pause()
        message = check(_MESSAGE.validate_json, msgspec.json.encode(small) if rest else text, place)
        self._read_role(made, message, rest)
        if isinstance(message, AssistantMessage) and message.tool_calls is not None:
            await self._read_calls(made, rest, (*place, "tool_calls"))
        await self._read_content(made, rest.pop("content", None), (*place, "content"))
        made.extra = await self._fields.object(rest, place, self._turn)

    def _read_role(self, made: pb.ChatMessage, message: Message, rest: Members) -> None:
        match message:
            case SystemMessage():
                made.role, made.source = pb.ROLE_SYSTEM, "system"
            case UserMessage():
                made.role, made.source = pb.ROLE_USER, message.name or "user"
                if made.source != "user":
                    del rest["name"]
            case AssistantMessage():
                made.role, made.source = pb.ROLE_ASSISTANT, message.name or "assistant"
                if message.content is None:
                    made.content.add(text=message.refusal or "")  # the shape says that it is no content
            case ToolMessage(tool_call_id=call_id):
                name = self._names.get(call_id, "")
                made.role, made.source = pb.ROLE_TOOL, name or "tool"
                made.tool_results.add(call_id=call_id, name=name)
                del rest["tool_call_id"]
            case FunctionMessage(name=name):
                made.role, made.source = pb.ROLE_TOOL, name
                made.tool_results.add(name=name)
        if rest["role"] == ROLES[made.role]:
            del rest["role"]

    async def _read_content(self, made: pb.ChatMessage, content: Raw | None, place: Place) -> None:
        made.shape = SHAPES[first(content)] if content is not None else pb.CONTENT_SHAPE_ABSENT
        if content is None or made.shape == pb.CONTENT_SHAPE_NULL:
            return
        if made.shape == pb.CONTENT_SHAPE_TEXT:
            text = msgspec.json.decode(content, type=str)
            if made.tool_results:
                made.tool_results[0].content = text
            else:
                made.content.add(text=text)
            return
        for number, part in enumerate(elements(content, place, MAX_PARTS)):
            await self._turn.pause()
            await self._read_part(made.content.add(), part, (*place, number))
        if made.tool_results and sum(len(part.text) for part in made.content) <= JOINED:
            made.tool_results[0].content = "".join(part.text for part in made.content)

    async def _read_part(self, made: pb.ContentPart, text: Raw, place: Place) -> None:
        with suppress(msgspec.ValidationError):
            made.text = _plain_text.decode(text).text
            return
        part = check(_PART.validate_json, text, place)
        rest = members(text, place) or {}
        match part:
            case TextPart():
                made.text = part.text
                rest = without(rest, "type", "text")
            case ImagePart(image_url=ImageUrl() as image):
                made.image.url = image.url
                shown = without(members(rest["image_url"], (*place, "image_url")) or {}, "url")
                if image.detail:
                    made.image.detail = image.detail
                    del shown["detail"]
                rest = without(rest, "type", "image_url") | within("image_url", shown)
            case _:
                made.other = await self._fields.passed_on(text, place, self._turn)
                return
        made.extra = await self._fields.object(rest, place, self._turn)

    async def _read_calls(self, made: pb.ChatMessage, rest: Members, place: Place) -> None:
        """Read a turn's calls and take them out of ``rest``, where an empty list stays as it is."""
        for number, text in enumerate(elements(rest["tool_calls"], place, MAX_PARTS)):
            await self._turn.pause()
            await self._read_call(made.tool_calls.add(index=number), text, (*place, number))
        if made.tool_calls:
            del rest["tool_calls"]

    async def _read_call(self, made: pb.ToolCall, text: Raw, place: Place) -> None:
        call = check(_CALL.validate_json, text, place)
        rest = members(text, place) or {}
        if isinstance(call, FunctionToolCall):
            made.id, made.name = call.id, call.function.name
            self._names[made.id] = made.name
            function = without(members(rest["function"], (*place, "function")) or {}, "name")
            if isinstance(call.function.arguments, str):
                made.arguments = call.function.arguments
                del function["arguments"]
            elif call.function.arguments is not None:
                made.arguments = str(memoryview(function["arguments"]), "utf-8")
            rest = without(rest, "id", "type", "function") | within("function", function)
        made.extra = await self._fields.object(rest, place, self._turn)

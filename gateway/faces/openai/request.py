"""Reads the body of ``POST /v1/chat/completions`` into a history and its options."""

from collections.abc import Callable

import msgspec
from msgspec import Raw
from pydantic import TypeAdapter

from fleet.process.turns import Turn
from gateway.errors import InvalidField, Unsupported
from gateway.faces.bodies import Body
from gateway.faces.body import MAX_MESSAGES, MAX_PARTS, NULL, Fields, check, first, members, only, path, within, without
from gateway.faces.face import Asked
from gateway.faces.openai.encoder import OpenAIFormat
from gateway.faces.openai.messages import MessageReader
from gateway.faces.openai.schema import FunctionTool, ModelOptions, Parameters, ResponseFormat, Tool
from protos import chat_pb2 as pb

NAMED_TOOL = "tool:"

OURS = ("model", "stream")
"""Fields that do not go to the model, whose name and way are its worker's."""

HELD = ("name", "description", "parameters", "strict")
"""Members of a tool's function that the wire has fields for."""

ENTRIES = frozenset({"logit_bias", "metadata"})

_TOOL: TypeAdapter[Tool] = TypeAdapter(Tool)


async def read(body: Body, request_id: str, default_model: str) -> Asked:
    async with body.work() as turn:
        fields = Fields(body)
        for name in ENTRIES & fields.members.keys():
            await turn.pause()
            members(fields.get(name), (name,))  # bounds it: pydantic validates every entry before it counts them
        await turn.pause()
        asked = fields.check(Parameters)
        await turn.pause()
        if asked.n not in (None, 1):
            raise Unsupported("n", "only one choice is given per request")
        history = pb.ChatHistory(request_id=request_id, model=asked.model or default_model)
        messages = MessageReader(fields, turn)
        for index, text in enumerate(fields.items("messages", MAX_MESSAGES, needed=True)):
            await turn.pause()
            await messages.read(history.messages.add(), text, index)
        await _read_options(history.options, fields, turn)
        include_usage = bool(asked.stream_options and asked.stream_options.include_usage)

        def encoder(model: Callable[[], str]) -> OpenAIFormat:
            return OpenAIFormat(request_id, model, include_usage=include_usage)

        return Asked(history, bool(asked.stream), encoder)


async def _read_options(options: pb.ChatOptions, fields: Fields, turn: Turn) -> None:
    """Read all fields but the messages. What has no place of its own stays together as it came."""
    rest = {name: text for name, text in fields.members.items() if name not in (*OURS, "messages")}
    for index, text in enumerate(fields.items("tools", MAX_PARTS)):
        await turn.pause()
        await _read_tool(options.tools.add(), fields, text, index, turn)
    if options.tools:
        del rest["tools"]
    if (choice := fields.get("tool_choice")) is not None:
        options.tool_choice = _tool_choice(choice)
        if options.tool_choice:
            del rest["tool_choice"]
    if (wanted := fields.get("response_format")) is not None:
        given = members(wanted, ("response_format",))
        kind = msgspec.json.encode(only(given, "type")) if given is not None else wanted
        check(ResponseFormat.model_validate_json, kind, ("response_format",))
        options.response_format = await fields.passed_on(wanted, ("response_format",), turn)
        del rest["response_format"]
    known = {name: rest.pop(name) for name in ModelOptions.model_fields if fields.get(name) is not None}
    await turn.pause()
    options.extra = await fields.object(known, (), turn)
    options.other = await fields.object(rest, (), turn)


async def _read_tool(made: pb.Tool, fields: Fields, text: Raw, index: int, turn: Turn) -> None:
    """The parameters, which may be large, are not checked with the rest."""
    place = ("tools", index)
    tool = members(text, place) or {}
    function = members(tool.get("function"), (*place, "function"))
    small = only(tool, "type", "function")
    if function is not None:
        small["function"] = Raw(msgspec.json.encode(only(function, "name", "description", "strict")))
    checked = check(_TOOL.validate_json, msgspec.json.encode(small) if tool else text, place)
    if not isinstance(checked, FunctionTool) or function is None:
        made.other = await fields.passed_on(text, place, turn)
        return
    made.name, made.description = checked.function.name, checked.function.description or ""
    made.strict = bool(checked.function.strict)
    parameters = function.get("parameters", NULL)
    if parameters != NULL:
        where = (*place, "function", "parameters")
        if first(parameters) != b"{":
            raise InvalidField(f"{path(where)} must be an object", path(where))
        made.parameters = await fields.passed_on(parameters, where, turn)
    inner = {name: raw for name, raw in function.items() if name not in HELD or not getattr(made, name)}
    made.extra = await fields.object(without(tool, "type", "function") | within("function", inner), place, turn)


def _tool_choice(text: Raw) -> str:
    """The choice as the wire's field holds it; empty where it cannot."""
    if first(text) == b'"':
        choice = msgspec.json.decode(text, type=str)
        return "" if choice.startswith(NAMED_TOOL) else choice
    choice_ = members(text, ("tool_choice",))
    if choice_ is None:
        raise InvalidField("tool_choice must be a string or an object", "tool_choice")
    function = members(choice_.pop("function", None), ("tool_choice", "function"))
    if choice_ == {"type": Raw(b'"function"')} and function is not None and function.keys() == {"name"}:
        name = msgspec.json.decode(function["name"])
        return NAMED_TOOL + name if isinstance(name, str) else ""
    return ""

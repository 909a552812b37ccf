"""What a chat completion becomes on its way to Claude, for tests."""

import copy
from typing import Any

import orjson

from fleet.process.turns import Turns
from worker.claude.request import request

HI = {"role": "user", "content": "hi"}
CACHE = {"type": "ephemeral"}
THINKING = {"type": "enabled", "budget_tokens": 2048}
PNG = "iVBORw0KGgo="
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
SCHEMA = {
    "$defs": {"Colour": {"enum": ["red", "blue"], "type": "string"}},
    "properties": {"colours": {"items": {"$ref": "#/$defs/Colour"}, "type": "array"}},
    "required": ["colours"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}


def sent(*messages: dict[str, Any], defaults: dict[str, Any] | None = None, in_place: bool = False, **body: Any) -> Any:
    """What goes to Claude, as JSON."""

    async def ask() -> Any:
        asked = {"messages": list(messages or [HI]), **body}
        before = copy.deepcopy(asked)
        async with Turns().turn(short=True) as turn:
            made = orjson.loads(orjson.dumps(await request(defaults or {}, asked, turn, in_place=in_place)))
        assert asked == before
        return made

    try:
        ask().send(None)  # short work never waits
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


def part(**fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": [fields]}


def called(arguments: str) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": arguments}}]}


def text(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]

"""What models and tools are asked and answer, as text for a span: JSON by the GenAI conventions, bounded in size."""

import json
from collections.abc import Sequence
from typing import Any

import orjson
from autogen_core import FunctionCall
from autogen_core.models import FunctionExecutionResult
from autogen_core.tools import ToolResult

from fleet.lane import Producer
from protos import chat_pb2 as pb
from worker.contract.sink import Sink
from worker.contract.tool_call import join
from worker.contract.utf8 import clean

LIMIT = 8192
"""Characters of content in one attribute: of a conversation the last messages, of a text the beginning."""

ID = 128
"""Characters of an id or a name in it."""

Json = dict[str, Any]

ROLES = {
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
    pb.ROLE_TOOL: "tool",
}
ROLE_OF = {"SystemMessage": "system", "UserMessage": "user", "AssistantMessage": "assistant"}


def messages(given: object) -> str:
    """A conversation, of a request or of AutoGen's: its last messages."""
    kept: list[Json] = []
    left = LIMIT
    for message in reversed(given if isinstance(given, Sequence) else []):
        told = _message(message, left)
        left -= len(_json(told))
        if kept and left < 0:
            break
        kept.append(told)
    return _json(kept[::-1])


def answer(given: object, finish_reason: str) -> str:
    """What a model said: text, or calls of tools as AutoGen has them."""
    said = given if isinstance(given, list) else [given]
    return _json([{"role": "assistant", "parts": _parts(said, LIMIT), "finish_reason": finish_reason}])


def arguments(given: object) -> str:
    """What a tool is called with."""
    return _json(given)


def result(given: object) -> str:
    """What a tool gave."""
    return clean(given.to_text()[:LIMIT]) if isinstance(given, ToolResult) else ""


class Listening:
    """Passes on to ``sink`` what a model says, and keeps the beginning: text, and calls of tools."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._text: list[str] = []
        self._left = LIMIT
        self._calls: dict[int, FunctionCall] = {}

    def text(self, text: str, tokens: int = 1, source: str = "") -> None:
        self._sink.text(text, tokens, source)
        if self._left > 0:
            self._text.append(text[: self._left])
            self._left -= len(text)

    def reasoning(self, text: str, tokens: int = 1, source: str = "") -> None:
        self._sink.reasoning(text, tokens, source)

    def event(self, event: pb.ReplyEvent) -> None:
        if event.HasField("tool_call") and self._left > 0:
            join(self._calls, event.tool_call)
            self._left -= len(event.tool_call.arguments) + len(event.tool_call.name)
        self._sink.event(event)

    def attach(self, producer: Producer | None) -> None:
        self._sink.attach(producer)

    async def ready(self) -> None:
        await self._sink.ready()

    def said(self) -> list[str | FunctionCall]:
        return ["".join(self._text), *self._calls.values()]


def _message(message: object, limit: int) -> Json:
    if isinstance(message, pb.ChatMessage):
        parts: list[Any] = [part.text if part.HasField("text") else "(no text)" for part in message.content]
        calls = [FunctionCall(call.id, call.arguments[:LIMIT], call.name) for call in message.tool_calls]
        results = [result.content for result in message.tool_results]
        return {"role": ROLES.get(message.role, ""), "parts": _parts([*parts, *calls, *results], limit)}
    said = getattr(message, "content", "")
    role = ROLE_OF.get(type(message).__name__, "tool")
    return {"role": role, "parts": _parts(said if isinstance(said, list) else [said], limit)}


def _parts(said: Sequence[object], limit: int) -> list[Json]:
    parts: list[Json] = []
    for part in said:
        if limit <= 0:
            break
        told = _part(part, limit)
        limit -= sum(len(str(value)) for value in told.values())
        parts.append(told)
    return parts


def _part(part: object, limit: int) -> Json:
    match part:
        case FunctionCall():
            call = {"type": "tool_call", "id": part.id[:ID], "name": part.name[:ID]}
            return {**call, "arguments": part.arguments[:limit]}
        case FunctionExecutionResult():
            return {"type": "tool_call_response", "id": part.call_id[:ID], "result": part.content[:limit]}
        case str():
            return {"type": "text", "content": part[:limit]}
    return {"type": type(part).__name__.lower()}  # an image is not shown


def _json(value: object) -> str:
    """As JSON, or as far as it can be: what a model says may be none, and must not fail a run because it is shown."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()[: 2 * LIMIT]
    except TypeError:  # half a surrogate pair, a number of more than 64 bits, or too deep
        pass
    try:
        return json.dumps(value, default=str, skipkeys=True)[: 2 * LIMIT]
    except (TypeError, ValueError, RecursionError):
        return json.dumps(f"({type(value).__name__} that is no JSON)")

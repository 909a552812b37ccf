"""A conversation in OpenAI's terms as the Messages API takes it: system blocks, and turns of content blocks.

Not sent, because Claude has no place for it: the name of a speaker, an image's ``detail``, and what a model said that
only a client reads (:data:`_ANSWERED`); thinking goes back as the blocks that have its signature.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fleet.process.turns import Turn
from worker.claude.media import file, image
from worker.claude.shapes import listed, mapped
from worker.contract.arguments import parsed_arguments
from worker.contract.errors import Unsupported

Json = dict[str, Any]

_ANSWERED = frozenset(
    (
        "annotations",
        "audio",
        "citations",
        "container",
        "images",
        "provider_specific_fields",
        "reasoning",
        "reasoning_content",
        "reasoning_details",
        "stop_details",
        "stop_sequence",
    )
)
"""Fields of an answer in OpenAI's terms that clients leave in the history."""

_READ = frozenset(
    ("role", "content", "name", "cache_control", "thinking_blocks", "content_blocks", "refusal", "tool_calls")
)
_READ_OF_RESULTS = frozenset(["role", "content", "name", "tool_call_id"])

_ID = re.compile(r"[a-zA-Z0-9_-]+")


async def conversation(messages: Sequence[Json], turn: Turn, *, in_place: bool) -> tuple[list[Json], list[Json]]:
    """The system blocks and the turns. Neighbours of one role are one turn, as Claude wants all tool results in one.

    System messages after the first turn move into the system blocks, in their order, or stay ``in_place``.
    Raises :class:`Unsupported`.
    """
    system: list[Json] = []
    turns: list[Json] = []
    for index, message in enumerate(messages):
        await turn.pause()
        role, blocks, rest = await _message(message, f"messages[{index}]", turn)
        if role == "system" and not (in_place and turns):
            system += blocks
        elif turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
            turns[-1].update(rest)
        elif blocks:
            turns.append({"role": role, "content": blocks, **rest})
    if turns and turns[-1]["role"] == "assistant":
        turns[-1]["content"][-1] = _stripped(turns[-1]["content"][-1])
    return system, turns


async def _message(message: Json, where: str, turn: Turn) -> tuple[str, list[Json], Json]:
    """A message's role and blocks, and its fields that we do not know."""
    blocks = await _contents(message.get("content"), f"{where}.content", turn)
    match message.get("role"):
        case "system" | "developer":
            role = "system"
        case "user":
            role = "user"
        case "assistant":
            role = "assistant"
            blocks = [*await _carried(message, where, turn), *blocks, *await _said(message, where, turn)]
        case "tool":
            return "user", [_result(message, blocks, where)], {}
        case other:
            raise Unsupported(f"{where}.role: Claude has no role {other!r}")
    if blocks and message.get("cache_control"):
        blocks[-1] = {**blocks[-1], "cache_control": message["cache_control"]}
    return role, blocks, _rest(message, _READ | _ANSWERED)


def _rest(fields: Mapping[str, Any], known: frozenset[str]) -> Json:
    return {name: value for name, value in fields.items() if name not in known and value is not None}


async def _contents(content: Any, where: str, turn: Turn) -> list[Json]:
    """A message's content as blocks. Blank text is left out: Claude refuses it."""
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    if not isinstance(content, list):
        raise Unsupported(f"{where}: must be text or a list of parts")
    blocks = []
    for index, part in enumerate(content):
        await turn.pause()
        block = await _block(part, f"{where}[{index}]", turn)
        if block.get("type") != "text" or block["text"].strip():
            blocks.append(block)
    return blocks


async def _block(given: object, where: str, turn: Turn) -> Json:
    """A part as a block. One of Claude's own kinds, or of a kind that we do not know, goes as it came."""
    part = mapped(given, where)
    kind = part.get("type")
    shown = part.get(str(kind))
    rest = {name: value for name, value in part.items() if name not in ("type", kind)}
    match kind:
        case "text" | "refusal" if isinstance(shown, str):
            return {"type": "text", "text": shown, **rest}
        case "text" | "refusal":
            raise Unsupported(f"{where}.{kind}: must be text")
        case "image_url":
            return {**await image(shown, f"{where}.image_url", turn), **rest}
        case "file":
            return {**await file(shown, f"{where}.file", turn), **rest}
        case "input_audio":
            raise Unsupported(f"{where}: Claude takes no audio")
        case _:
            return part


async def _carried(message: Json, where: str, turn: Turn) -> list[Json]:
    """The blocks of an answer that its text and calls do not hold, in Claude's order: thinking, server tools."""
    found: list[Json] = []
    for name in ("thinking_blocks", "content_blocks"):
        for index, given in enumerate(listed(message.get(name), f"{where}.{name}")):
            await turn.pause()
            block = mapped(given, f"{where}.{name}[{index}]")
            if block.get("type") != "thinking" or block.get("signature"):
                found.append(block)
    return found


async def _said(message: Json, where: str, turn: Turn) -> list[Json]:
    """What an assistant's message has beside its content."""
    said = await _contents(message.get("refusal"), f"{where}.refusal", turn)
    for index, call in enumerate(listed(message.get("tool_calls"), f"{where}.tool_calls")):
        await turn.pause()
        said.append(_call(call, f"{where}.tool_calls[{index}]"))
    return said


def _call(call: Any, where: str) -> Json:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or call.get("type", "function") != "function":
        raise Unsupported(f"{where}: Claude calls functions only")
    return {
        "type": "tool_use",
        "id": _id(call.get("id")),
        "name": function.get("name"),
        "input": parsed_arguments(function.get("arguments"), f"{where}.function.arguments"),
        **_rest(call, frozenset(("type", "id", "index", "function"))),
    }


def _result(message: Json, blocks: list[Json], where: str) -> Json:
    if not message.get("tool_call_id"):
        raise Unsupported(f"{where}.tool_call_id: is missing")
    content = message.get("content")
    shown = content if isinstance(content, str) else blocks
    result = {"type": "tool_result", "tool_use_id": _id(message["tool_call_id"])}
    return {**result, **({"content": shown} if shown else {}), **_rest(message, _READ_OF_RESULTS)}


def _id(given: Any) -> Any:
    """A call's id, or one made of it, the same each time: other providers' have characters that Claude refuses."""
    if not isinstance(given, str) or _ID.fullmatch(given):
        return given
    return f"call_{hashlib.sha256(given.encode('utf-8', 'replace')).hexdigest()[:24]}"


def _stripped(block: Json) -> Json:
    """Claude refuses a conversation whose last word, which it shall continue, ends in white space."""
    return {**block, "text": block["text"].rstrip()} if block.get("type") == "text" else block

"""A message's stream in OpenAI's terms: its events become chunks, and what reads those does the rest.

Text, thinking and calls of the client's tools are what chunks have words for. The blocks that Claude wants back come
whole, as ``thinking_blocks`` (with their signatures) and, from the first block of a server tool on, ``content_blocks``.
"""

import json
from collections.abc import Iterator
from typing import Any

import orjson

from worker.contract.errors import ModelReported
from worker.openai import lenient
from worker.openai.calls import CALLS_LIMIT
from worker.openai.chunk import ODD, NoChunk, check_values, loads
from worker.wire.answers import EVENT_LIMIT
from worker.wire.sse import EventDecoder, EventTooLong

Json = dict[str, Any]

DONE = b"[DONE]"

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""Stop reasons in OpenAI's words; others go as they came."""

KEPT_LIMIT = EVENT_LIMIT
"""Bytes of the blocks of one message that are kept until they are whole."""


class MessageDecoder(EventDecoder):
    """Splits a response's body into chunks: a stream of events, or the message as one JSON object."""

    def __init__(self) -> None:
        super().__init__()
        self._message = _Message()

    def feed(self, received: bytes) -> Iterator[bytes]:  # type: ignore[override]
        """The chunks that ``received`` completes, one by one: what comes before an error is told.

        Raises :class:`ModelReported`, :class:`NoChunk`, :class:`EventTooLong`, and ``chunk.ODD`` for odd JSON.
        """
        for payload in super().feed(received):
            yield from self._chunks(payload)

    def end(self) -> Iterator[bytes]:  # type: ignore[override]
        """What is left when the body has ended."""
        for payload in super().end():
            yield from self._chunks(payload)

    def _chunks(self, payload: bytes) -> Iterator[bytes]:
        for event in self._values(payload):
            if event is lenient.DONE:
                yield DONE
                continue
            if not isinstance(event, dict):
                raise NoChunk("an event is no JSON object")
            if "error" in event or event.get("type") == "error":
                raise ModelReported(event.get("error", event))
            for chunk in self._message.take(event):
                yield _dumps(chunk) if chunk else DONE

    def _values(self, payload: bytes) -> list[Any]:
        check_values(payload)
        try:
            return lenient.values(payload)
        except ODD:
            if self.is_plain:
                raise NoChunk(f"it begins with {self.beginning!r}") from None
            raise


def _dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()


class _Block:
    """A block that is not complete."""

    def __init__(self, said: Json, call: int) -> None:
        self.said = said
        self.call = call
        """Its number among the calls of the client's tools."""
        self.has_input = False
        self._pieces: dict[str, list[str]] = {}
        """Text that came in deltas, by its name: it is joined once."""

    def add(self, delta: Json) -> None:
        """Put a delta into the block: text is appended, anything else replaced."""
        for name, value in delta.items():
            if isinstance(value, str) and name != "type":
                self._pieces.setdefault(name, []).append(value)
            elif name != "type":
                self.said[name] = value

    def whole(self) -> Json:
        pieces, self._pieces = self._pieces, {}
        text = "".join(pieces.pop("partial_json", ()))
        for name, parts in pieces.items():
            self.said[name] = "".join([_text(self.said, name), *parts])
        if text:
            try:
                self.said["input"] = loads(text.encode("utf-8", "surrogatepass"))
            except ODD:
                self.said["input"] = text
        return self.said


class _Message:
    """Translates events. A chunk that is empty is the end."""

    def __init__(self) -> None:
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._has_server_tools = False
        self._kept = 0
        self._usage: Json = {}

    def take(self, event: Json) -> Iterator[Json]:
        """The chunks for ``event``. Raises :class:`NoChunk` and :class:`EventTooLong`."""
        match event.get("type"):
            case "message_start":
                self._count(_object(event, "message"))
                yield {"choices": [], "usage": usage(self._usage)}  # for a reply that breaks off
            case "content_block_start":
                yield from self._start(_index(event), _object(event, "content_block"))
            case "content_block_delta":
                yield from self._delta(_index(event), _object(event, "delta"))
            case "content_block_stop":
                yield from self._stop(_index(event))
            case "message_delta":
                self._count(event)
                yield from self._end(_object(event, "delta"))
            case "message_stop":
                yield {}
            case "message":
                yield from self._whole(event)
            case None:
                raise NoChunk("an event has no type")

    def _whole(self, message: Json) -> Iterator[Json]:
        """A message that did not come as a stream."""
        self._count(message)
        content = message.get("content")
        for index, block in enumerate(content if isinstance(content, list) else ()):
            if not isinstance(block, dict):
                raise NoChunk("a message's content is no list of blocks")
            yield from self._start(index, block)
            yield from self._stop(index)
        names = ("stop_reason", "stop_sequence", "stop_details", "container")
        yield from self._end({name: message.get(name) for name in names})
        yield {}

    def _count(self, event: Json) -> None:
        usage = event.get("usage")
        if isinstance(usage, dict):
            self._usage.update((name, value) for name, value in usage.items() if value is not None)

    def _start(self, index: int, said: Json) -> Iterator[Json]:
        if len(self._blocks) >= CALLS_LIMIT:
            raise NoChunk(f"more than {CALLS_LIMIT:,} blocks are not complete")
        block = self._blocks[index] = _Block(said, self._calls)
        match said.get("type"):
            case "text":
                yield from _delta("content", _text(said, "text"))
                if said.get("citations"):
                    yield from _delta("citations", said["citations"])
            case "thinking":
                yield from _delta("reasoning_content", _text(said, "thinking"))
            case "tool_use":
                self._calls += 1
                opening = {"id": said.get("id"), "type": "function"}
                rest = {name: said[name] for name in said if name not in ("type", "id", "name", "input")}
                yield _call(block, _text(said, "name"), "", **opening, **rest)
        self._keep(said)

    def _delta(self, index: int, delta: Json) -> Iterator[Json]:
        block = self._blocks.get(index)
        if block is None:
            raise NoChunk("a delta is of no block")
        match delta.get("type"):
            case "text_delta":
                yield from _delta("content", _text(delta, "text"))
            case "thinking_delta":
                self._add(block, delta)
                yield from _delta("reasoning_content", _text(delta, "thinking"))
            case "input_json_delta" if block.said.get("type") == "tool_use":
                if part := _text(delta, "partial_json"):
                    block.has_input = True
                    yield _call(block, "", part)
            case "citations_delta":
                yield from _delta("citations", [delta.get("citation")])
            case _:
                self._add(block, delta)

    def _stop(self, index: int) -> Iterator[Json]:
        block = self._blocks.pop(index, None)
        if block is None:
            return
        match block.said.get("type"):
            case "text":
                return
            case "tool_use":
                if not block.has_input:
                    yield _call(block, "", _dumps(block.said.get("input") or {}).decode())
                return
            case "thinking" | "redacted_thinking" if not self._has_server_tools:
                name = "thinking_blocks"
            case _:
                self._has_server_tools = True
                name = "content_blocks"
        yield from _delta(name, [block.whole()])

    def _end(self, said: Json) -> Iterator[Json]:
        reason = said.pop("stop_reason", None)
        if reason is None:
            return
        for index in list(self._blocks):
            yield from self._stop(index)
        for name, value in said.items():
            yield from _delta(name, value)
        choice = {"index": 0, "delta": {}, "finish_reason": FINISH_REASONS.get(str(reason), str(reason))}
        yield {"choices": [choice], "usage": usage(self._usage)}

    def _add(self, block: _Block, delta: Json) -> None:
        self._keep(delta)
        block.add(delta)

    def _keep(self, said: Json) -> None:
        """Count what is kept until its block is whole."""
        self._kept += len(_dumps(said))
        if self._kept > KEPT_LIMIT:
            raise EventTooLong(f"a message's blocks are longer than {KEPT_LIMIT:,} bytes")


def usage(said: Json) -> Json:
    """A message's usage in OpenAI's terms, with Claude's own beside it: its input is what no cache had."""
    written, read = _count(said.get("cache_creation_input_tokens")), _count(said.get("cache_read_input_tokens"))
    prompt, completion = _count(said.get("input_tokens")) + written + read, _count(said.get("output_tokens"))
    made: Json = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    if "cache_read_input_tokens" in said or "cache_creation_input_tokens" in said:
        made["prompt_tokens_details"] = {"cached_tokens": read, "cache_creation_tokens": written}
    details = said.get("output_tokens_details")
    if isinstance(details, dict) and "thinking_tokens" in details:
        made["completion_tokens_details"] = {"reasoning_tokens": _count(details["thinking_tokens"])}
    return {**said, **made}


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**53 else 0


def _delta(name: str, value: Any) -> Iterator[Json]:
    if value not in (None, ""):
        yield {"choices": [{"index": 0, "delta": {name: value}}]}


def _call(block: _Block, name: str, arguments: str, **opening: Any) -> Json:
    function = {"name": name, "arguments": arguments} if name else {"arguments": arguments}
    return {
        "choices": [{"index": 0, "delta": {"tool_calls": [{**opening, "index": block.call, "function": function}]}}]
    }


def _index(event: Json) -> int:
    index = event.get("index")
    if not isinstance(index, int):
        raise NoChunk("an event of a block has no index")
    return index


def _object(event: Json, name: str) -> Json:
    value = event.get(name)
    if not isinstance(value, dict):
        raise NoChunk(f"an event has no {name}")
    return value


def _text(said: Json, name: str) -> str:
    value = said.get(name)
    return value if isinstance(value, str) else ""
